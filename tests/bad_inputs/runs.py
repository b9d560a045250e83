"""Runs of tools/train_net.py: what they start from, go on with, evaluate, and where they write."""

import json

from tests.bad_inputs.damage import (
    all_of,
    cut,
    fifo,
    link,
    make,
    remove,
    write,
)  # fmt: skip
from tests.bad_inputs.row import ODD, Row, Start

ALL = ("run/*",)
NEW = ("new/*",)
# What is there once a run has begun.
BEGUN = ("new/config.yaml", "new/metrics.json")
TRAIN = "train_net --config-file tiny.yaml"
RESUME = f"{TRAIN} --resume OUTPUT_DIR run"
EVALUATE = "train_net --eval-only OUTPUT_DIR run"
CHECKPOINTS = remove("run/*.pth")


def records(folder, name="run"):
    return [json.loads(line) for line in (folder / name / "results.jsonl").read_text().splitlines()]


def trained_weights_are_evaluated(folder, printed):
    first, last = records(folder)
    assert last["weights_sha256"] == first["weights_sha256"]
    assert last["iteration"] == 2
    assert last["results"]["bbox"] == first["results"]["bbox"]


def real_bits_of_trained_weights(folder, printed):
    first, last = records(folder)
    assert last["weights_sha256"] == first["weights_sha256"]
    assert (first["rate_is"][:9], last["rate_is"][:4]) == ("estimated", "real")


def no_two_records_are_glued(folder, printed):
    lines = (folder / "run" / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["dataset"] == "tiny"


def nothing_claims_results(folder, printed):
    assert "appended" not in printed
    assert not (folder / "new" / "results.jsonl").exists()


def resume(name, keys, says, **more):
    """Refused."""
    return Row(f"resume: {name}", f"{RESUME} {keys}".strip(), says, **more)


ROWS = [
    # Evaluating a run is evaluating what it trained.
    Row(
        "evaluate: a run's folder",
        EVALUATE,
        "model_final.pth",
        ODD,
        writes=ALL,
        check=trained_weights_are_evaluated,
    ),
    Row(
        "evaluate: a run's folder and its config",
        f"{TRAIN} --eval-only OUTPUT_DIR run",
        "model_final.pth",
        ODD,
        writes=ALL,
        check=trained_weights_are_evaluated,
    ),
    Row(
        "evaluate: a run by real bits",
        f"{EVALUATE} MODEL.CODEC.BITSTREAM True",
        "model_final.pth",
        ODD,
        writes=ALL,
        check=real_bits_of_trained_weights,
    ),
    Row("evaluate: a run whose checkpoints are gone", EVALUATE, "run", prepare=CHECKPOINTS),
    Row(
        "evaluate: a run whose checkpoints are gone, with its config",
        f"{TRAIN} --eval-only OUTPUT_DIR run",
        "run",
        prepare=CHECKPOINTS,
    ),
    Row(
        "evaluate: a run whose checkpoints are cut short",
        EVALUATE,
        "run",
        prepare=all_of(remove("run/model_0*.pth"), cut("run/model_final.pth")),
    ),
    Row("evaluate: a folder that is no run", "train_net --eval-only OUTPUT_DIR set", "set"),
    Row(
        "evaluate: a folder that is not there",
        "train_net --eval-only OUTPUT_DIR nowhere",
        "nowhere",
    ),
    Row("evaluate: neither config nor run", "train_net --eval-only", "DATASETS.TEST"),
    Row("train: no config", "train_net", "DATASETS.TRAIN"),
    Row(
        "evaluate: a run whose config is of another program",
        EVALUATE,
        "learning_rate",
        prepare=write("run/config.yaml", "learning_rate: 1\n"),
    ),
    Row(
        "evaluate: an exported receiver as the chain's weights",
        f"{TRAIN} --eval-only OUTPUT_DIR new MODEL.WEIGHTS deploy/receiver.safetensors",
        "receiver.safetensors",
        writes=BEGUN,
    ),
    Row(
        "weights: of codec, an exported encoder",
        f"{TRAIN} MODEL.CODEC.WEIGHTS deploy/encoder.safetensors",
        "encoder.safetensors",
        writes=BEGUN,
    ),
    Row(
        "evaluate: no test set",
        f"{TRAIN} --eval-only MODEL.WEIGHTS run/model_final.pth DATASETS.TEST ()",
        "DATASETS.TEST",
    ),
    Row(
        "train: no test set",
        f"{TRAIN} DATASETS.TEST ()",
        (),
        ODD,
        writes=NEW,
        makes=("new/model_final.pth",),
        check=nothing_claims_results,
    ),
    Row(
        "evaluate: the last record was cut short",
        EVALUATE,
        (),
        ODD,
        prepare=cut("run/results.jsonl", 0.9),
        writes=ALL,
        check=no_two_records_are_glued,
    ),
    # Going on.
    Row(
        "resume: nothing there yet",
        f"{TRAIN} --resume",
        (),
        ODD,
        writes=NEW,
        makes=("new/model_final.pth",),
    ),
    Row("resume: a finished run", RESUME, (), ODD, writes=ALL),
    Row("resume: more iterations", f"{RESUME} SOLVER.MAX_ITER 3", (), ODD, writes=ALL),
    resume("fewer iterations", "SOLVER.MAX_ITER 1", "SOLVER.MAX_ITER"),
    resume("another detector", "MODEL.ROI_BOX_HEAD.FC_DIM 32", "run"),
    resume("another backbone", "MODEL.RESNETS.DEPTH 101", "run"),
    resume("another codec width", "MODEL.CODEC.N 10", "run"),
    resume("another codec", "MODEL.CODEC.NAME bmshj2018-factorized", "run"),
    resume("another optimizer", "SOLVER.OPTIMIZER SGD SOLVER.MAX_ITER 3", "SOLVER.OPTIMIZER"),
    resume(
        "all checkpoints are cut short",
        "",
        "run",
        prepare=all_of(remove("run/model_0*.pth"), cut("run/model_final.pth")),
    ),
    resume(
        "the note names a file of another folder",
        "",
        "run",
        prepare=all_of(CHECKPOINTS, write("run/last_checkpoint", "../elsewhere.pth")),
    ),
    Row(
        "resume: the last checkpoint is cut short",
        RESUME,
        "model_final.pth",
        ODD,
        prepare=cut("run/model_final.pth"),
        writes=ALL,
    ),
    Row(
        "resume: an empty note of the last checkpoint",
        RESUME,
        (),
        ODD,
        prepare=write("run/last_checkpoint", ""),
        writes=ALL,
    ),
    # Weights.
    Row("weights: not there", f"{TRAIN} MODEL.WEIGHTS nowhere.pth", "nowhere.pth", writes=BEGUN),
    Row("weights: a folder", f"{TRAIN} MODEL.WEIGHTS set", "'set'", writes=BEGUN),
    Row("weights: a text", f"{TRAIN} MODEL.WEIGHTS tiny.yaml", "tiny.yaml", writes=BEGUN),
    Row(
        "weights: an empty file",
        f"{TRAIN} MODEL.WEIGHTS empty.pth",
        "empty.pth",
        prepare=write("empty.pth", b""),
        writes=BEGUN,
    ),
    Row(
        "weights: cut short",
        f"{TRAIN} MODEL.WEIGHTS run/model_final.pth",
        "run/model_final.pth",
        prepare=cut("run/model_final.pth"),
        writes=BEGUN,
    ),
    Row(
        "weights: a pickle that runs a program",
        f"{TRAIN} MODEL.WEIGHTS evil.pkl",
        "evil.pkl",
        prepare=write("evil.pkl", b"cos\nsystem\n(S'touch stolen'\ntR."),
        writes=BEGUN,
    ),
    Row(
        "weights: a pipe",
        f"{TRAIN} MODEL.WEIGHTS pipe.pth",
        "pipe.pth",
        prepare=fifo("pipe.pth"),
        writes=BEGUN,
        seconds=10,
    ),
    Row(
        "weights: a server that does not answer",
        f"{TRAIN} MODEL.WEIGHTS http://127.0.0.1:9/x.pth",
        "http://127.0.0.1:9/x.pth",
        writes=BEGUN,
    ),
    Row(
        "weights: of codec, not there",
        f"{TRAIN} MODEL.CODEC.WEIGHTS nowhere.pth",
        "nowhere.pth",
        writes=BEGUN,
    ),
    Row(
        "weights: of codec, an unknown packaged name",
        f"{TRAIN} MODEL.CODEC.WEIGHTS codec_det://nowhere.pth",
        "codec_det://nowhere.pth",
        writes=BEGUN,
    ),
    Row(
        "weights: of codec, of another width",
        f"{TRAIN} MODEL.CODEC.WEIGHTS run/model_final.pth MODEL.CODEC.N 10",
        "run/model_final.pth",
        writes=BEGUN,
    ),
    # Where results go.
    Row("output: a finished run", f"{TRAIN} OUTPUT_DIR run", "run"),
    Row(
        "output: a run that was interrupted",
        f"{TRAIN} OUTPUT_DIR run",
        "run",
        prepare=remove("run/results.jsonl", "run/model_final.pth"),
    ),
    Row(
        "output: a finished run, to be overwritten",
        f"{TRAIN} --overwrite OUTPUT_DIR run",
        (),
        ODD,
        writes=(*ALL, "run*/*"),
        makes=("run/model_final.pth",),
    ),
    Row(
        "output: overwrite and resume at once",
        f"{TRAIN} --overwrite --resume OUTPUT_DIR run",
        "--overwrite",
    ),
    Row("output: a file", f"{TRAIN} OUTPUT_DIR tiny.yaml", "tiny.yaml"),
    Row("output: below a file", f"{TRAIN} OUTPUT_DIR tiny.yaml/new", "tiny.yaml/new"),
    Row("output: no name", f"{TRAIN} OUTPUT_DIR ''", "OUTPUT_DIR"),
    Row(
        "output: a link to nowhere",
        f"{TRAIN} OUTPUT_DIR there",
        "there",
        prepare=link("there", "/proc/nowhere/x"),
    ),
    Row("output: a file system that takes no files", f"{TRAIN} OUTPUT_DIR /proc/new", "/proc/new"),
    Row(
        "output: no permission",
        f"{TRAIN} OUTPUT_DIR locked/new",
        "locked/new",
        prepare=make("locked", 0o555),
        start=Start(obeys_modes=True),
    ),
    Row(
        "output: a folder that may not be entered",
        f"{TRAIN} OUTPUT_DIR locked/new",
        "locked/new",
        prepare=make("locked", 0),
        start=Start(obeys_modes=True),
    ),
    Row("output: a name too long", f"{TRAIN} OUTPUT_DIR {'x' * 300}", "OUTPUT_DIR"),
    Row(
        "output: letters beyond ASCII",
        f"{TRAIN} OUTPUT_DIR 'Läufe 一'",
        (),
        ODD,
        writes=("Läufe 一/*",),
        makes=("Läufe 一/model_final.pth",),
    ),
    Row(
        "output: the disk is full when a checkpoint is written",
        TRAIN,
        "model_",
        start=Start(file_bytes=100_000),
        writes=NEW,
    ),
    Row(
        "output: results cannot be appended",
        EVALUATE,
        "results.jsonl",
        prepare=all_of(remove("run/results.jsonl"), make("run/results.jsonl")),
        writes=ALL,
    ),
]
