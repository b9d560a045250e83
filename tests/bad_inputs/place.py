"""The folder that every row starts in: all that a user has after a day, as small as it can be.

tiny.yaml        J-FT of a tiny chain, two iterations, on set/
set/             annotations.json and images/ of six generated pictures of 64x64
run/             what tools/train_net.py made of tiny.yaml
deploy/          what tools/export_model.py made of run/
pictures/        one.png, two.png, three.png
coded/           what tools/encode.py made of pictures/
curves/          folders of runs with records, as evaluations leave them
study.yaml       a study of tiny.yaml with two regimes
sweep/           its configs
"""

from __future__ import annotations

from pathlib import Path

import yaml
from PIL import Image

from codec_det.data.shapes import generate
from tests.bad_inputs.process import run
from tests.bad_inputs.row import Row
from tests.conftest import CONFIGS, TINY
from tests.deployed import random_picture
from tests.records import curve_records, write_run
from tests.sweeps import nested

SIZES = {"one": (48, 64), "two": (70, 33), "three": (64, 64)}
KEYS = {
    **TINY,
    "MODEL.CODEC.TRAINABLE": ["encoder", "decoder"],
    "MODEL.DETECTOR.TRAINABLE": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": 6,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.WARMUP_ITERS": 0,
    "DATASETS.COCO_FORMAT": [["tiny", "set/annotations.json", "set/images"]],
    "DATASETS.TRAIN": ["tiny"],
    "DATASETS.TEST": ["tiny"],
    "OUTPUT_DIR": "new",
}


def write_config(path: Path, **changes: object) -> None:
    """``tiny.yaml``, with other values of some keys (dots as double underscores)."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    tree = {"_BASE_": str(CONFIGS / "Base_thin.yaml"), **nested({**KEYS, **changed})}
    path.write_text(yaml.safe_dump(tree))


def build(folder: Path) -> None:
    """Fill an empty folder."""
    write_config(folder / "tiny.yaml")
    generate(folder / "set", 6, (64, 64), seed=3, progress=False)
    (folder / "pictures").mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(random_picture(*size, seed)).save(folder / "pictures" / f"{name}.png")
    for command in (
        "train_net --config-file tiny.yaml OUTPUT_DIR run",
        "export_model run --output-dir deploy",
        "encode pictures --model deploy/encoder.safetensors --output-dir coded",
    ):
        status, _, err, _ = run(Row("place", command), folder)
        assert status == 0, err
    _write_curves(folder / "curves")
    _write_study(folder)


def _write_curves(folder: Path) -> None:
    rates, accuracies = [0.1, 0.2, 0.4, 0.8], [30.0, 38.0, 44.0, 46.0]
    for regime, shift in (("baseline", 0.0), ("J-FT", 3.0)):
        shifted = [accuracy + shift for accuracy in accuracies]
        for i, record in enumerate(curve_records(regime, rates, shifted)):
            write_run(folder / f"{regime}-{i + 1}", record)


def _write_study(folder: Path) -> None:
    (folder / "sweep").mkdir()
    write_config(folder / "sweep" / "jft.yaml")
    frozen = {"MODEL__CODEC__TRAINABLE": [], "MODEL__DETECTOR__TRAINABLE": False}
    write_config(folder / "sweep" / "baseline.yaml", **frozen)
    study = {
        "output_dir": "swept",
        "configs": "sweep/{regime}.yaml",
        "seeds": [1],
        "grid": [
            {"regimes": ["baseline", "jft"], "operating_points": {"low": {"beta": 4.0}}},
        ],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
