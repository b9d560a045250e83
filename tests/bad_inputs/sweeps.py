"""Studies that tools/sweep.py runs."""

import math

import yaml

from tests.bad_inputs.damage import (
    write,
)
from tests.bad_inputs.row import ODD, Row


def study(name, change, says, status=2, **more):
    """A dry run of a study that ``change`` has changed."""

    def prepare(folder):
        content = yaml.safe_load((folder / "study.yaml").read_text())
        changed = change(content)
        text = yaml.safe_dump(content if changed is None else changed)
        (folder / "study.yaml").write_text(text)

    return Row(
        f"sweep: {name}", "sweep study.yaml --dry-run", says, status, prepare=prepare, **more
    )


def grid(**changes):
    return lambda content: content["grid"][0].update(changes)


ROWS = [
    Row("sweep: a dry run", "sweep study.yaml --dry-run", "baseline", ODD),
    Row("sweep: a file that is not there", "sweep nowhere.yaml --dry-run", "nowhere.yaml"),
    Row("sweep: a folder", "sweep set --dry-run", "set"),
    Row("sweep: a picture", "sweep pictures/one.png --dry-run", "pictures/one.png"),
    Row("sweep: a config instead of a study", "sweep tiny.yaml --dry-run", "tiny.yaml"),
    Row(
        "sweep: an empty study",
        "sweep empty.yaml --dry-run",
        "empty.yaml",
        prepare=write("empty.yaml", ""),
    ),
    Row(
        "sweep: an unknown key on the command line",
        "sweep study.yaml --dry-run MODEL.NOTHING 1",
        "MODEL.NOTHING",
    ),
    Row(
        "sweep: a key without a value",
        "sweep study.yaml --dry-run SOLVER.MAX_ITER",
        "SOLVER.MAX_ITER",
    ),
    Row(
        "sweep: OUTPUT_DIR, which belongs to points",
        "sweep study.yaml --dry-run OUTPUT_DIR x",
        "OUTPUT_DIR",
    ),
    Row("sweep: negative retries", "sweep study.yaml --retries -1", "--retries"),
    Row(
        "sweep: an address of nothing",
        "sweep study.yaml --address nonsense",
        "nonsense",
        writes=("swept/*",),
        seconds=60,
    ),
    Row(
        "sweep: output that cannot be written",
        "sweep study.yaml",
        "/proc/swept",
        prepare=lambda folder: write(
            "study.yaml", (folder / "study.yaml").read_text().replace("swept", "/proc/swept")
        )(folder),
    ),
    Row(
        "sweep: output that is a file",
        "sweep study.yaml",
        "tiny.yaml",
        prepare=lambda folder: write(
            "study.yaml", (folder / "study.yaml").read_text().replace("swept", "tiny.yaml")
        )(folder),
    ),
    Row(
        "sweep: a data set that is not there",
        "sweep study.yaml DATASETS.ROOT nowhere",
        "nowhere",
        writes=("swept/*",),
    ),
    study("no grid", lambda content: content.pop("grid"), "grid"),
    study("an empty grid", lambda content: content.update(grid=[]), "grid"),
    study("a misspelt key", lambda content: content.update(seed=[1]), "seed"),
    study("a list", lambda content: [content], "study.yaml"),
    study("no regimes", grid(regimes=[]), "regimes"),
    study("an unknown regime", grid(regimes=["wft"]), "wft"),
    study("a seed that is a word", lambda content: content.update(seeds=["one"]), "seeds"),
    study("a seed twice", lambda content: content.update(seeds=[1, 1]), "seeds"),
    study("a negative seed", lambda content: content.update(seeds=[-1]), "seeds"),
    study(
        "an unknown option", lambda content: content.update(options={"SOLVER.MAX": 1}), "SOLVER.MAX"
    ),
    study(
        "an option of the wrong type",
        lambda content: content.update(options={"SOLVER.MAX_ITER": "many"}),
        "SOLVER.MAX_ITER",
    ),
    study(
        "a value that cannot work",
        lambda content: content.update(options={"SOLVER.IMS_PER_BATCH": 0}),
        "SOLVER.IMS_PER_BATCH",
    ),
    study(
        "a prepared point that is not there",
        lambda content: content.update(options={"MODEL.CODEC.WEIGHTS": "${nothing}"}),
        "nothing",
    ),
    study(
        "configs without a place for the regime",
        lambda content: content.update(configs="tiny.yaml"),
        "tiny.yaml",
    ),
    study(
        "configs that are not there",
        lambda content: content.update(configs="nowhere/{regime}.yaml"),
        "nowhere/",
    ),
    study("points of a name with a slash", grid(operating_points={"a/b": {"beta": 1.0}}), "a/b"),
    study("a negative target", grid(operating_points={"low": {"target_bpp": -1}}), "TARGET_BPP"),
    study("a beta that is no number", grid(operating_points={"low": {"beta": math.nan}}), "BETA"),
    study(
        "estimated and real rates in one",
        lambda content: content["grid"].append(
            {"regimes": ["baseline"], "codec": "webp", "qualities": [10]}
        ),
        ("estimated", "real"),
        ODD,
    ),
]
