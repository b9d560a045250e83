"""Checks, benchmarks and installation."""

from tests.bad_inputs.row import ODD, Row

ROWS = [
    Row(
        "check_exactness: a run that is not there",
        "check_exactness nowhere --images pictures --count 1 --size 32 32",
        "nowhere",
    ),
    Row(
        "check_exactness: pictures that are not there",
        "check_exactness run --images nowhere",
        "nowhere",
    ),
    Row(
        "check_exactness: pictures too small",
        "check_exactness run --images pictures --count 9 --size 999 999",
        "--size",
    ),
    Row(
        "check_emulated: a model that is not there",
        "check_emulated nowhere.onnx --images pictures",
        "nowhere.onnx",
    ),
    Row("benchmark: an unknown section", "benchmark --sections speed", "speed"),
    Row(
        "benchmark: a config that is not there",
        "benchmark --short --sections training --config-file nowhere.yaml",
        "nowhere.yaml",
    ),
    Row(
        "benchmark: weights that are not there",
        "benchmark --short --sections codec --weights nowhere.pth",
        "nowhere.pth",
    ),
    Row(
        "benchmark: an unknown key",
        "benchmark --short --sections training MODEL.NOTHING 1",
        "MODEL.NOTHING",
    ),
    Row(
        "benchmark: a GPU that is not there",
        "benchmark --short --sections codec --device cuda",
        "cuda",
    ),
    Row(
        "fuzz_bitstream: no mutations",
        "fuzz_bitstream --output-dir new --mutations 0",
        "--mutations",
    ),
    Row(
        "fuzz_bitstream: an unknown codec", "fuzz_bitstream --output-dir new --codecs jpeg", "jpeg"
    ),
    Row(
        "fuzz_bitstream: output that is a file",
        "fuzz_bitstream --output-dir tiny.yaml --mutations 10",
        "tiny.yaml",
    ),
    Row(
        "fuzz_bitstream: a negative seed",
        "fuzz_bitstream --output-dir new --mutations 10 --seed -1",
        "--seed",
    ),
    Row(
        "fuzz_bitstream: no time",
        "fuzz_bitstream --output-dir new --mutations 10 --time-limit 0",
        "--time-limit",
    ),
    Row(
        "fuzz_bitstream: a time that is no number",
        "fuzz_bitstream --output-dir new --mutations 10 --time-limit nan",
        "--time-limit",
    ),
    Row(
        "install_detectron2: it is there",
        "install_detectron2 --wheel nowhere.whl",
        "already installed",
        ODD,
    ),
    Row("install_detectron2: an unknown option", "install_detectron2 --wheels x", "--wheels"),
]
