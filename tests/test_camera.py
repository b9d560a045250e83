"""A camera: the wheel in an environment with what it requires, and nothing else."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.bitstream.stream import decode_stream
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.frame_coding import sequence_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model, freeze_prediction
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.data.image_io import read_image
from codec_det.deploy.model_files import save_onnx_encoder
from codec_det.deploy.streams import StreamEncoder
from tests.processes import start
from tests.test_temporal_codec import clip, entropy_of
from tests.test_temporal_codec import make as make_temporal

ROOT = Path(__file__).parent.parent
SOURCE = ("codec_det", "tools", "setup.py", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input")
# All that a camera installs, as the help of tools/encode.py says.
NEEDED = ("numpy", "Pillow", "constriction", "onnxruntime", "safetensors", "tqdm")
SIZES = {"even": (128, 192), "odd": (63, 101)}
# Seconds after which something that must happen did not.
PATIENCE = 60


@dataclass
class Camera:
    """A Python environment with what a camera needs, and an encoder.

    Attributes:
        program: the command codec-det in it.
    """

    python: Path
    program: Path
    model: Path

    def run(self, *arguments, status=0):
        """Output of a program, which must end with ``status``."""
        done = subprocess.run(
            self._command(*arguments),
            env=self.environment,
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def encode(self, pictures, output):
        """Arguments that code a folder, a picture at a time."""
        arguments = (self.program, "encode", pictures, "--model", self.model)
        return (*arguments, "--output-dir", output, "--workers", 1)

    @contextmanager
    def started(self, *arguments):
        """A program that runs, and is ended with the block."""
        process = start(
            self._command(*arguments), env=self.environment, stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @property
    def environment(self):
        return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def _command(self, *arguments):
        # The command, too, is a script of this Python.
        return [str(self.python), *map(str, arguments)]


def link_distribution(name, site_packages):
    """Make a distribution that is installed here importable there."""
    found = distribution(name)
    tops = {file.parts[0] for file in found.files or () if ".." not in file.parts}
    assert tops, f"{name} does not list its files"
    for top in tops - {"__pycache__"}:
        (site_packages / top).symlink_to(found.locate_file(top))


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    codec = LearnedCodec("bmshj2018-hyperprior", 1, n=8, m=12).eval()
    with torch.no_grad():
        # Random weights make latents that are all zero, and grey pictures.
        for part, gain in ((codec.model.g_a, 30), (codec.model.h_a, 30), (codec.model.g_s, 10)):
            part[-1].weight.mul_(gain)
    codec.model.update()
    return codec


@pytest.fixture(scope="module")
def entropy(codec):
    return freeze_entropy_model(codec.name, codec.model)


def build_wheel(folder):
    """The wheel of this checkout, which stays as it is."""
    source = folder / "source"
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    how = ("--no-build-isolation", "--no-deps", "--wheel-dir", folder)
    subprocess.run([*PIP, "wheel", *how, source], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Folder of an environment with the wheel and the distributions that are here of its needs."""
    folder = tmp_path_factory.mktemp("camera")
    wheel = build_wheel(folder)
    venv.create(folder / "environment", symlinks=True, with_pip=False)
    python = folder / "environment" / "bin" / "python"
    how = ("--python", python, "install", "--no-deps", "--no-index", wheel)
    subprocess.run([*PIP, *how], check=True, capture_output=True)
    (site_packages,) = (folder / "environment").glob("lib/python*/site-packages")
    for name in NEEDED:
        link_distribution(name, site_packages)
    return folder / "environment"


@pytest.fixture(scope="module")
def camera(environment, codec, entropy):
    model = environment / "encoder.onnx"
    save_onnx_encoder(model, codec, entropy)
    return Camera(environment / "bin" / "python", environment / "bin" / "codec-det", model)


def save_pictures(folder, sizes):
    """Random patches of colour."""
    folder.mkdir()
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        colours = np.random.default_rng(seed).integers(
            0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
        )
        patches = np.kron(colours, np.ones((8, 8, 1), np.uint8))
        Image.fromarray(patches[:height, :width]).save(folder / f"{name}.png")
    return folder


def test_the_wheel_requires_what_a_camera_needs_and_has_extras_for_the_rest(environment):
    (found,) = environment.glob("lib/python*/site-packages/codec_det-*.dist-info")
    metadata = PathDistribution(found).metadata
    required = metadata.get_all("Requires-Dist")
    own = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    assert own == set(NEEDED)
    text = (ROOT / "docs" / "install.md").read_text()
    for extra in metadata.get_all("Provides-Extra"):
        assert f"`{extra}`" in text


def test_the_command_names_every_tool_of_the_wheel(camera):
    text = camera.run(camera.program, "--help")
    for path in (ROOT / "tools").glob("[!_]*.py"):
        assert (f"\n  {path.stem} " in text) == (path.stem != "command_line")
    files = [camera.model, "--json"]
    (described,) = json.loads(camera.run(camera.program, "info", *files))["models"]
    assert described["kind"] == "encoder"


def test_the_camera_has_no_training_software(camera):
    names = ["torch", "torchvision", "compressai", "detectron2"]
    program = f"""
for name in {names}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error.name)
"""
    assert camera.run("-c", program).split() == names


def test_the_camera_imports_what_it_installed_from_there(camera):
    program = (
        "import sys, codec_det.bitstream, codec_det.deploy.file_batch, codec_det.data.image_io\n"
    )
    loaded = camera.run("-c", f"{program}print(sys.prefix, *sys.path, *sys.modules, sep='\\n')")
    lines = loaded.splitlines()
    assert Path(lines[0]) == camera.python.parent.parent
    own = str(camera.python.parent.parent)
    # Beyond the standard library, nothing of the environment that the tests run in.
    assert not [x for x in lines if "site-packages" in x and not x.startswith(own)]
    assert "numpy" in lines
    assert "torch" not in lines


def test_the_receiver_reads_what_the_camera_writes(camera, codec, entropy, tmp_path):
    pictures = save_pictures(tmp_path / "pictures", SIZES)
    out = camera.run(*camera.encode(pictures, tmp_path / "coded"))
    assert [line.split()[:2] for line in out.splitlines()[:2]] == [
        ["even.cdet", "192x128"],
        ["odd.cdet", "101x63"],
    ]
    decoder = PictureDecoder(codec.model.g_s, entropy)
    reference = picture_encoder(codec.model, entropy)
    for name, size in SIZES.items():
        data = (tmp_path / "coded" / f"{name}.cdet").read_bytes()
        picture = read_image(pictures / f"{name}.png", "RGB")
        # Other arithmetic may round a latent to the number beside it, but seldom.
        mine, theirs = (entropy.read(x) for x in (data, reference.encode(picture)))
        assert (mine.y != theirs.y).mean() < 0.005
        assert (mine.z != theirs.z).sum() <= 1
        assert np.abs(mine.y).max() >= 3

        decoded = decoder.decode(data)
        assert decoded.shape == (3, *size)
        with torch.inference_mode():
            original = torch.from_numpy(picture).permute(2, 0, 1) / 255
            expected = codec([original]).reconstructions[0]
        # 40 dB are a mean error of 2.5 levels, which one latent beside its number can make.
        assert (decoded - expected).square().mean() < 1e-4
        assert expected.var() > 10 * 1e-4


def test_the_receiver_follows_what_the_camera_sends_of_a_sequence(camera, tmp_path):
    _, codec = make_temporal("mbt2018-mean-temporal", key_interval=4)
    own = entropy_of(codec)
    prediction = freeze_prediction(codec.name, codec.prediction, own)
    model = tmp_path / "frames.onnx"
    save_onnx_encoder(model, codec, own, prediction=prediction)
    frames = [(255 * p).byte().permute(1, 2, 0).numpy() for p in clip(6, size=(40, 56))]
    (tmp_path / "street").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "street" / f"{number}.png")
    arguments = ("--sequence", "--model", model, "--output-dir", tmp_path)
    said = camera.run(camera.program, "encode", tmp_path / "street", *arguments)
    assert "6 frames of 56x40, 2 of them key frames: " in said
    data = (tmp_path / "street.cdetv").read_bytes()
    # Each has a checksum of what it follows on, too, as its sender has decoded it.
    found = [*decode_stream(data, prediction, 10**5)]
    assert [frame.number for frame in found] == [*range(6)]
    pictures = picture_encoder(codec.model, own)
    encoder = StreamEncoder(sequence_encoder(pictures, codec.prediction, prediction, 4))
    sent = b"".join([encoder.header(0), *(encoder.encode(frame).pack() for frame in frames)])
    for mine, theirs in zip(found, decode_stream(sent, prediction, 10**5), strict=True):
        # Other arithmetic may round a latent to the number beside it, and later frames then differ.
        step = abs(mine.latents.values - theirs.latents.values)
        assert (step > 0.5).mean() < 0.005
        assert mine.latents.y.any()


def test_what_needs_detectron2_says_how_to_get_it(camera):
    program = """
try:
    from codec_det import CodecDetector
except ImportError as error:
    print(error)
"""
    out = camera.run("-c", program)
    assert "codec_det.CodecDetector needs detectron2, which is not installed" in out
    assert "`codec-det install_detectron2`" in out


def test_a_model_that_needs_pytorch_is_refused(camera, tmp_path):
    pictures = save_pictures(tmp_path / "pictures", SIZES)
    model = tmp_path / "encoder.safetensors"
    model.touch()
    arguments = camera.encode(pictures, tmp_path / "coded")
    with camera.started(*arguments, "--model", model) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert errors.startswith(f"error: '{model}' needs torch, which is not installed")
    assert "--onnx" in errors
    assert len(errors.splitlines()) == 1


MANY = {f"{i:02d}": (512, 768) for i in range(20)}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Pictures that take long enough to be interrupted."""
    return save_pictures(tmp_path_factory.mktemp("many") / "pictures", MANY)


def wait_for_files(folder, process, count):
    """Until a program has written as many."""
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("*.cdet"))) < count:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_run_that_was_killed_leaves_whole_files_and_can_be_repeated(
    camera, codec, entropy, many, tmp_path
):
    arguments = camera.encode(many, tmp_path)
    with camera.started(*arguments) as process:
        wait_for_files(tmp_path, process, 3)
        process.kill()
        process.wait(PATIENCE)
    decoder = PictureDecoder(codec.model.g_s, entropy)
    written = {path.name: path.read_bytes() for path in tmp_path.glob("*.cdet")}
    assert 3 <= len(written) < len(MANY)
    for data in written.values():
        assert decoder.decode(data).shape == (3, 512, 768)
    camera.run(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.cdet" for name in MANY]
    assert all((tmp_path / name).read_bytes() == data for name, data in written.items())


def test_ctrl_c_ends_a_run_without_a_traceback(camera, many, tmp_path):
    with camera.started(*camera.encode(many, tmp_path)) as process:
        wait_for_files(tmp_path, process, 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == f"interrupted: the files in {tmp_path} are complete"
    assert len(list(tmp_path.glob("*.cdet"))) < len(MANY)


def test_the_help_names_what_a_camera_installs(camera):
    text = camera.run(ROOT / "tools" / "encode.py", "--help")
    for name in NEEDED:
        assert re.search(rf"\b{name}\b", text)
