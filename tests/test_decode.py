"""tools/decode.py, as called from a shell; and what all tools of deployed models have in common."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from codec_det.deploy.model_files import load_decoder
from codec_det.pixels import to_uint8
from tests.conftest import CONFIGS
from tests.deployed import SIZES, encode, export, make_run
from tools import decode as tool

ROOT = CONFIGS.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_set):
    folder = tmp_path_factory.mktemp("runs")
    return export(make_run(folder / "run", *tiny_set), folder / "deploy") / "receiver.safetensors"


@pytest.fixture
def coded(model, tmp_path):
    encode(model.parent, tmp_path / "coded")
    return tmp_path / "coded"


def pictures(folder):
    return {path.stem: np.array(Image.open(path)) for path in folder.iterdir()}


def test_pictures_are_those_of_the_decoder(model, coded, tmp_path, capsys):
    output = tmp_path / "new" / "pictures"
    assert tool.main([str(coded), "--model", str(model), "--output-dir", str(output)]) == 0
    found = pictures(output)
    assert found.keys() == SIZES.keys()
    decoder = load_decoder(model)
    for name, (height, width) in SIZES.items():
        expected = to_uint8(decoder.decode((coded / f"{name}.cdet").read_bytes()))
        assert found[name].shape == (height, width, 3)
        assert found[name].std() > 1
        assert np.array_equal(found[name], expected.permute(1, 2, 0).numpy())
    first, second = capsys.readouterr().out.splitlines()
    size = sum(path.stat().st_size for path in coded.iterdir())
    pixels = sum(height * width for height, width in SIZES.values())
    rate = f"{8 * size / pixels:.4f} bpp"
    assert first == f"3 pictures decoded into {output}: {size} bytes, {pixels} pixels, {rate}"
    shares = list(map(int, re.findall(r"(\d+)%", second)))
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=2)


@pytest.mark.parametrize("workers", [1, 3])
def test_bad_files_do_not_stop_the_others(model, coded, tmp_path, capsys, workers):
    damaged = coded / "second.cdet"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    (coded / "empty.cdet").touch()
    output = tmp_path / "pictures"
    arguments = ["--model", str(model), "--output-dir", str(output), "--workers", str(workers)]
    assert tool.main([str(coded), *arguments]) == 1
    assert sorted(path.name for path in output.iterdir()) == ["first.png", "third.png"]
    captured = capsys.readouterr()
    assert captured.out.startswith(f"2 pictures decoded into {output}: ")
    lines = captured.err.splitlines()[-3:]
    assert lines[0] == "error: 2 of 4 files failed:"
    assert lines[1].startswith(f"  {coded / 'empty.cdet'}: the file is empty")
    assert lines[2].startswith(f"  {damaged}: ")
    assert lines[2].endswith(": damaged")


def test_a_lone_bad_file_is_reported(model, tmp_path, capsys):
    (tmp_path / "x.cdet").write_bytes(b"no picture")
    output = tmp_path / "pictures"
    arguments = [tmp_path / "x.cdet", "--model", model, "--output-dir", output]
    assert tool.main(list(map(str, arguments))) == 1
    captured = capsys.readouterr()
    assert captured.out == f"0 pictures decoded into {output}\n"
    assert "x.cdet: not a codec_det file" in captured.err


def test_large_pictures_are_refused_unless_allowed(model, coded, tmp_path, capsys):
    arguments = [str(coded), "--model", str(model), "--output-dir", str(tmp_path / "pictures")]
    limit = SIZES["third"][0] * SIZES["third"][1]
    assert tool.main([*arguments, "--max-pixels", str(limit - 1)]) == 1
    assert f"more than the limit of {limit - 1}" in capsys.readouterr().err
    assert pictures(tmp_path / "pictures").keys() == {"first", "second"}
    assert tool.main([*arguments, "--max-pixels", str(limit)]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "missing.safetensors"}, "'missing.safetensors' does not exist"),
        ({"--model": "{deploy}/encoder.safetensors"}, "of kind 'encoder': give the receiver"),
        ({"--output-dir": "{coded}/first.cdet/x"}, "first.cdet/x' is not writable"),
        ({"--device": "abacus"}, "the device 'abacus' cannot be used"),
        ({"files": "nowhere"}, "'nowhere' does not exist"),
        ({"files": "{deploy}"}, "has no coded pictures (.cdet) in it"),
    ],
)
def test_what_cannot_work_is_refused(model, coded, tmp_path, capsys, change, message):
    options = {"files": str(coded), "--model": str(model), "--output-dir": str(tmp_path / "new")}
    options |= {k: v.format(deploy=model.parent, coded=coded) for k, v in change.items()}
    files = options.pop("files")
    assert tool.main([files, *(x for item in options.items() for x in item)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert not (tmp_path / "new").exists()


def test_detectron2_is_not_needed(model, coded, tmp_path):
    program = (
        "import sys; sys.modules['detectron2'] = None; sys.path.insert(0, 'tools')\n"
        "from decode import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [coded, "--model", model, "--output-dir", tmp_path / "pictures"]
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, check=True)
    assert pictures(tmp_path / "pictures").keys() == SIZES.keys()
