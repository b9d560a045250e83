"""Small studies for the tests of sweeps, and a stand-in for the program that runs their points."""

import json
import textwrap
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

from codec_det.evaluation.results import changed_keys
from codec_det.sweep.points import expand
from codec_det.sweep.study import read_study
from tests.conftest import CONFIGS, TINY

REGIMES = {
    "baseline": ([], False),
    "tft": ([], True),
    "jft": (["encoder", "decoder"], True),
    "eft": (["encoder"], False),
    "dft": (["synthesis"], False),
    "rft": (["entropy"], False),
}
THEN = datetime(2020, 1, 1, tzinfo=timezone.utc)

# What tools/train_net.py leaves, in no time: results are those that the test has put into results/,
# and files in failures/ say how often a point fails, with which exit status.
STAND_IN = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
folder = pathlib.Path(sys.argv[sys.argv.index("OUTPUT_DIR") + 1])
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps([folder.name, *sys.argv[1:]]) + chr(10))
failures = here / "failures" / folder.name
if failures.exists():
    status, times = map(int, failures.read_text().split())
    if times:
        failures.write_text(f"{status} {times - 1}")
        (folder / "last_checkpoint").write_text("model_0000001.pth")
        (folder / "config.yaml").write_text((here / "results" / f"{folder.name}.yaml").read_text())
        print("something broke")
        sys.exit(status)
results = (here / "results" / f"{folder.name}.json").read_text()
(folder / "results.jsonl").write_text(results + chr(10))
(folder / "model_final.pth").touch()
log = "[12/31 23:59:30] Rank of current process: 0", "[01/01 00:00:10] end", ""
(folder / "log.txt").write_text(chr(10).join(log))
"""


def nested(options):
    """Config keys as a config file has them."""
    tree = {}
    for key, value in options.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    return tree


def make_configs(folder, tiny_set, **options):
    """Config files of tiny chains, one per regime and a codec's."""
    folder.mkdir()
    common = {**TINY, **dict(zip(tiny_set[::2], tiny_set[1::2], strict=True))}
    common |= {"SOLVER.MAX_ITER": 2, "SOLVER.IMS_PER_BATCH": 2, "MODEL.CODEC.WEIGHTS": ""}
    common |= {"SOLVER.CHECKPOINT_PERIOD": 1, **options}
    for regime, (parts, detector) in REGIMES.items():
        own = {"MODEL.CODEC.TRAINABLE": parts, "MODEL.DETECTOR.TRAINABLE": detector}
        tree = {"_BASE_": str(CONFIGS / "Base_thin.yaml"), **nested({**common, **own})}
        (folder / f"{regime}.yaml").write_text(yaml.safe_dump(tree))
    codec = {"MODEL.DETECTOR.META_ARCHITECTURE": "NoDetector"}
    parts = {"MODEL.CODEC.TRAINABLE": ["encoder", "decoder"]}
    tree = {"_BASE_": str(CONFIGS / "Base_thin.yaml"), **nested({**common, **codec, **parts})}
    (folder / "codec.yaml").write_text(yaml.safe_dump(tree))


def study_of(folder):
    """A study of two regimes at one rate, from a codec that is prepared; to be changed at will."""
    return {
        "output_dir": str(folder / "out"),
        "configs": str(folder / "configs/{regime}.yaml"),
        "options": {"MODEL.CODEC.WEIGHTS": "${codec}"},
        "seeds": [1, 2],
        "prepare": {
            "codec": {
                "config": str(folder / "configs/codec.yaml"),
                "target_bpp": 0.5,
                "beta": 2.0,
                "options": {"SOLVER.MAX_ITER": 3},
            }
        },
        "grid": [
            {
                "regimes": ["baseline", "tft", "jft"],
                "operating_points": {"low": {"target_bpp": 0.25, "beta": 4.0}},
            }
        ],
    }


def write_study(folder, study):
    """The YAML file of a study."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def points_of(path, overrides=(), num_gpus=None):
    """A YAML file's points by name."""
    overrides = dict(overrides)
    return {point.name: point for point in expand(read_study(path), overrides, num_gpus)}


def record_of(point, minutes=0, **changes):
    """What a finished run of ``point`` leaves, so many minutes after THEN."""
    record = {
        "time": (THEN + timedelta(minutes=minutes)).isoformat(),
        "dataset": "tiny",
        "iteration": None if point.evaluates else point.cfg.SOLVER.MAX_ITER,
        "config": changed_keys(point.cfg),
        "regime": "J-FT",
        "codec": {"name": "bmshj2018-hyperprior"},
        "results": {"bbox": {"AP": 36.53}, "rate": {"bpp": 0.09449}},
    }
    return {**record, **changes}


def finish(point, minutes=0, **changes):
    """Leave the files of a finished run of ``point``."""
    point.folder.mkdir(parents=True, exist_ok=True)
    with (point.folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(record_of(point, minutes, **changes)) + "\n")
    (point.folder / "model_final.pth").touch()


def interrupt(point):
    """Leave the files of a run of ``point`` that was killed after its first checkpoint."""
    point.folder.mkdir(parents=True, exist_ok=True)
    (point.folder / "config.yaml").write_text(point.cfg.dump())
    (point.folder / "last_checkpoint").write_text("model_0000000.pth")


class StandIn:
    """The stand-in for tools/train_net.py, for the points of a YAML file."""

    def __init__(self, folder, study_file):
        self.path = folder / "stand_in" / "train_net.py"
        (self.path.parent / "failures").mkdir(parents=True)
        (self.path.parent / "results").mkdir()
        self.path.write_text(textwrap.dedent(STAND_IN))
        self.learn(study_file)

    def learn(self, study_file, overrides=()):
        """Take over the configs of a YAML file."""
        for name, point in points_of(study_file, overrides).items():
            results = self.path.parent / "results"
            (results / f"{name}.json").write_text(json.dumps(record_of(point)))
            (results / f"{name}.yaml").write_text(point.cfg.dump())

    def fail(self, name, status, times):
        (self.path.parent / "failures" / name).write_text(f"{status} {times}")

    def calls(self):
        """[name, argument, ...] of each run."""
        path = Path(self.path.parent, "calls.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
