"""How processes are started, interrupted, and what becomes of what they print."""

from tests.bad_inputs.row import INTERRUPTED, ODD, PIPE_CLOSED, REFUSED, Row, Start

ENCODE = "encode pictures --model deploy/encoder.safetensors --output-dir new"
DECODE = "decode coded --model deploy/receiver.safetensors --output-dir new"
TRAIN = "train_net --config-file tiny.yaml"
PLOT = "plot_rate_accuracy curves --output-dir new --bootstrap 0"
NEW = ("new/*",)
ASCII, C = Start(encoding="ascii"), Start(encoding="ascii", locale="C")
FULL = Start(stdout="full")
READ_ONLY_HOME = {"HOME": "/proc"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COMMANDS = {
    "train_net": TRAIN,
    "encode": ENCODE,
    "decode": DECODE,
    "detect": "detect coded --model deploy/receiver.safetensors --output-dir new",
    "info": "info deploy coded",
    "export_model": "export_model run --output-dir new",
    "export_codec": "export_codec run/model_final.pth new.pth",
    "rate_distortion": "rate_distortion pictures --codec webp --quality 10 --output-dir new",
    "warm_cache": "warm_cache --config-file tiny.yaml",
    "sweep": "sweep study.yaml",
    "plot_rate_accuracy": PLOT,
    "report": "report curves --output new.html",
    "visualize": "visualize run --output-dir new",
    "make_shapes": "make_shapes --output-dir new",
    "benchmark": "benchmark --short --output new.json",
    "check_exactness": "check_exactness run --images pictures --quick --output new.json",
    "fuzz_bitstream": "fuzz_bitstream --output-dir new",
}
# As short as they can be.
PRINTING = {
    "info": "info deploy coded --json",
    "encode": ENCODE,
    "plot_rate_accuracy": "plot_rate_accuracy curves",
    "sweep": "sweep study.yaml --dry-run",
    "train_net": TRAIN,
    "export_model": "export_model run --output-dir new",
    "make_shapes": "make_shapes --output-dir new --count 1 --size 64 64",
    "visualize": "visualize run --count 1 --output-dir new",
    "report": "report curves --output new.html --pictures 0",
}
WEBP = "MODEL.CODEC.TRAINABLE [] MODEL.CODEC.NAME webp MODEL.CODEC.QUALITY 20"


def each(name, tools, start, says=(), status=ODD):
    """A row for each of some tools."""
    writes = ("new*", "new/*")
    return [
        Row(f"{name}: {tool}", PRINTING[tool], says, status, start=start, writes=writes)
        for tool in tools
    ]


def with_umlaut(folder):
    (folder / "pictures/one.png").rename(folder / "pictures/größe.png")


ROWS = [
    *(
        Row(f"Ctrl-C: {tool} imports", command, (), INTERRUPTED, start=Start(interrupt="imports"))
        for tool, command in COMMANDS.items()
    ),
    Row(
        "Ctrl-C: train_net trains, and says how to go on",
        f"{TRAIN} SOLVER.MAX_ITER 100000 SOLVER.CHECKPOINT_PERIOD 5",
        "--resume",
        INTERRUPTED,
        start=Start(interrupt="iter: 19"),
        writes=NEW,
    ),
    Row(
        "Ctrl-C: train_net with processes of the data loader",
        f"{TRAIN} SOLVER.MAX_ITER 100000 SOLVER.CHECKPOINT_PERIOD 5 DATALOADER.NUM_WORKERS 1",
        "--resume",
        INTERRUPTED,
        start=Start(interrupt="iter: 19"),
        writes=NEW,
    ),
    Row(
        "Ctrl-C: fuzz_bitstream reads files",
        "fuzz_bitstream --output-dir new --codecs mbt2018-mean --mutations 1000000 --workers 1",
        (),
        INTERRUPTED,
        start=Start(interrupt="[00:02<"),
    ),
    Row(
        "Ctrl-C: sweep runs a point",
        "sweep study.yaml SOLVER.MAX_ITER 100000",
        "run the same command again",
        INTERRUPTED,
        start=Start(interrupt="baseline"),
        writes=("swept/*",),
    ),
    *each("| head", PRINTING, Start(stdout="head"), status=PIPE_CLOSED),
    Row("| head: help", "train_net --help", (), PIPE_CLOSED, start=Start(stdout="head")),
    *each(">/dev/full", ("info", "encode", "train_net"), FULL, "No space left", REFUSED),
    *each(">&-", ("info", "encode", "train_net", "report"), Start(stdout="closed")),
    *each("<&-", ("info", "train_net"), Start(stdin="closed")),
    *each("ASCII", ("info", "plot_rate_accuracy", "train_net", "report"), ASCII),
    *each("LC_ALL=C", ("export_model", "plot_rate_accuracy", "report"), C),
    *each("no TMPDIR", ("encode", "report"), Start(environment={"TMPDIR": "/nowhere"})),
    Row(
        "ASCII: a picture's name",
        ENCODE,
        (),
        ODD,
        prepare=with_umlaut,
        start=ASCII,
        writes=NEW,
        makes=("new/größe.cdet",),
    ),
    Row("ASCII: an error", "info größe", "gr", start=ASCII),
    Row(
        "read-only HOME: plot_rate_accuracy",
        PLOT,
        (),
        ODD,
        start=Start(environment=READ_ONLY_HOME, fresh=True),
        writes=NEW,
    ),
    Row(
        "read-only HOME: warm_cache",
        f"warm_cache --config-file tiny.yaml {WEBP}",
        "/proc/.cache",
        start=Start(environment=READ_ONLY_HOME),
    ),
    Row(
        "LC_ALL=C: a picture's name, in a new interpreter",
        ENCODE,
        (),
        ODD,
        prepare=with_umlaut,
        start=Start(environment=C_LOCALE, fresh=True),
        writes=NEW,
        makes=("new/größe.cdet",),
    ),
]
