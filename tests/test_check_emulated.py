"""Files of a camera on another processor: what is compared, and an emulated one where there is."""

import sys
from pathlib import Path

import pytest
import torch

from checks.emulation import Emulation
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.deploy.model_files import save_onnx_encoder
from codec_det.errors import CodecDetError
from tests.deployed import random_picture
from tools import check_emulated as tool

FOLDER = Path("output/emulation")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    codec = LearnedCodec("mbt2018-mean", 1, n=8, m=12).eval()
    codec.model.g_a[-1].weight.data *= 40
    codec.model.h_a[-1].weight.data *= 30
    codec.model.update()
    path = tmp_path_factory.mktemp("model") / "encoder.onnx"
    save_onnx_encoder(path, codec, freeze_entropy_model(codec.name, codec.model))
    return path


class WithoutConstriction:
    """This very processor, where the entropy coder is that in Python."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "constriction.py").write_text("raise ImportError('no wheel')\n")

    def command(self, paths, arguments):
        path = ":".join(map(str, (self.folder, *paths)))
        return ["env", f"PYTHONPATH={path}", sys.executable, *arguments]


def test_a_camera_without_constriction_writes_and_reads_the_same(model, tmp_path):
    pictures = {f"{i}": random_picture(40 + i, 70, i) for i in range(3)}
    figures = tool.compare([model], pictures, WithoutConstriction(tmp_path))
    assert figures == {
        "files": 6,
        "written alike": 3,
        "unreadable": 0,
        "latents differ": 0,
        "hyper-synthesis differs": 0,
    }


def test_what_differs_is_counted():
    good = {"latents": "a", "hyper-synthesis": "b"}
    read = {
        (writer, reader): {"x": good}
        for writer in ("here", "there")
        for reader in ("here", "there")
    }
    read["here", "there"] = {"x": {**good, "latents": "other"}}
    read["there", "here"] = {"x": {"error": "damaged"}}
    figures = tool.summarize(read, 0)
    assert figures == {
        "files": 2,
        "written alike": 0,
        "unreadable": 1,
        "latents differ": 1,
        "hyper-synthesis differs": 0,
    }


def test_where_there_can_be_no_emulation_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CodecDetError, match="no emulation without apt-get"):
        Emulation(tmp_path / "new", "aarch64")
    assert not (tmp_path / "new" / "ready").exists()


@pytest.mark.slow
def test_an_emulated_camera_writes_and_reads_the_same(model):
    if not (FOLDER / "ready").exists():
        pytest.skip(f"no emulated processor in {FOLDER}: tools/check_emulated.py makes it")
    pictures = {f"{i}": random_picture(40, 70, i) for i in range(2)}
    figures = tool.compare([model], pictures, Emulation(FOLDER, "aarch64"))
    assert figures["files"] == 4
    wrong = ("unreadable", "latents differ", "hyper-synthesis differs")
    assert [figures[what] for what in wrong] == [0, 0, 0]
