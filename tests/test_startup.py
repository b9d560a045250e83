"""What is loaded, and so waited for, before anything is done with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codec_det.bitstream import MAX_PIXELS
from codec_det.bitstream.ids import CODEC_IDS
from codec_det.codec.table import METRICS, conventional_codecs, learned_codecs
from codec_det.data.scenes import MIN_SIDE
from tools import command_line, rate_distortion

ROOT = Path(__file__).parent.parent
TOOLS = sorted(
    path.stem for path in (ROOT / "tools").glob("[!_]*.py") if path.stem != "command_line"
)
# Help of a tool that imports any of these takes a second or more.
HEAVY = {
    "PIL",
    "codec_det",
    "compressai",
    "cv2",
    "detectron2",
    "fvcore",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "pandas",
    "plotly",
    "pycocotools",
    "ray",
    "safetensors",
    "scipy",
    "torch",
    "torch_geometric",
    "torchvision",
    "tqdm",
    "yaml",
}
# Runs a tool as a program of its own; then prints its exit status and the packages it has loaded.
PROGRAM = """
import json, runpy, sys
sys.path.insert(0, "tools")
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stopped:
    status = stopped.code
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def answer(tool, *arguments):
    """Exit status, packages loaded and output of a tool in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"tools/{tool}.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    status, packages = json.loads(last)
    return status, frozenset(packages), "\n".join(lines) + done.stderr


@pytest.fixture(scope="module", params=TOOLS)
def helped(request):
    return request.param, *answer(request.param, "--help")


def test_help_waits_for_no_library(helped):
    name, status, packages, shown = helped
    assert status == 0
    assert not packages & HEAVY
    # It also silences warnings.
    assert "command_line" in packages or name == "install_detectron2"
    assert shown.startswith(f"usage: {name}.py")


def test_an_unknown_option_is_refused_as_soon():
    # Parsing is over when it is found, in every tool alike.
    status, packages, shown = answer("train_net", "--epochs=3", "--num-gpus", "none")
    assert status == 2
    assert not packages & HEAVY
    assert "invalid whole number value: 'none'" in shown


def test_defaults_named_in_help_are_those_of_the_package(helped):
    name, _, _, shown = helped
    text = " ".join(shown.split())
    if "--max-pixels" in text:
        assert f"(default: {MAX_PIXELS})" in text
    if name == "make_shapes":
        assert f"at least {MIN_SIDE} " in text


def test_names_that_tools_offer_are_those_of_the_package():
    assert tuple(CODEC_IDS) == command_line.DEPLOYABLE
    actions = {action.dest: action for action in rate_distortion.build_parser()._actions}
    assert tuple(actions["metric"].choices) == METRICS
    named = actions["codec"].help.replace(";", ",").replace(":", ",").split(", ")
    assert [name for name in named if name not in ("learned", "conventional")] == [
        *learned_codecs(),
        *conventional_codecs(),
    ]


def test_importing_the_package_registers_it_and_loads_little_more_than_detectron2():
    program = (
        "import sys, detectron2.config, detectron2.modeling\n"
        "before = set(sys.modules)\n"
        "import codec_det\n"
        "for name in ('CodecDetector', 'NoDetector'):\n"
        "    found = detectron2.modeling.META_ARCH_REGISTRY.get(name)\n"
        "    assert found is getattr(codec_det, name)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # Not CompressAI, which takes a second: it imports torch_geometric and pandas.
    added = set(done.stdout.split()) - sys.stdlib_module_names
    assert added <= {"codec_det", "constriction", "PIL"}


def test_importing_the_package_alone_loads_no_library():
    program = "import sys, codec_det\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {name.partition(".")[0] for name in done.stdout.split()} & HEAVY == {"codec_det"}


def test_whoever_imports_detectron2_after_the_package_finds_it_registered():
    # As in a process that launch has started, which gets its config without asking the package.
    program = (
        "import sys, inspect, codec_det\n"
        "from detectron2.modeling import META_ARCH_REGISTRY, meta_arch\n"
        "for name in ('CodecDetector', 'NoDetector'):\n"
        "    assert META_ARCH_REGISTRY.get(name).__module__ == 'codec_det.meta_arch'\n"
        "modules = {n: m for n, m in sys.modules.items() if n.startswith('codec_det')}\n"
        "for name, module in modules.items():\n"
        # It would be registering while it is being imported itself.
        "    needs = 'detectron2.modeling import' in inspect.getsource(module)\n"
        "    assert not needs or name == 'codec_det.meta_arch', name\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True)
    assert done.returncode == 0


def test_tools_do_not_show_what_libraries_say_to_developers():
    # fvcore, detectron2 and torch_geometric each say it.
    load = "import command_line, codec_det.codec.learned.learned_codec"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}"}
    environment.pop("PYTHONWARNINGS", None)
    done = subprocess.run(
        [sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=True
    )
    assert "torch.jit" not in done.stderr


def test_training_and_deployment_need_nothing_of_the_extras_for_the_rest():
    load = (
        "import sys, codec_det.training.trainer, codec_det.deploy.receiver, codec_det.sweep.points"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{load}\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    # jinja2 comes with PyTorch.
    others = {"bjontegaard", "imageio_ffmpeg", "matplotlib", "onnx", "onnxscript", "plotly", "ray"}
    assert not packages & others


def test_a_receiver_may_be_what_is_imported_first():
    program = "from codec_det.deploy.receiver import load_receiver"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True)
