"""tools/encode.py, as called from a shell, with a tiny codec in PyTorch.

tests/test_camera.py has it in processes of its own: in ONNX Runtime, and interrupted.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.bitstream import PictureEncoder
from codec_det.bitstream.model_file import save_model
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.data.image_io import read_image
from codec_det.deploy.model_files import codec_metadata, save_encoder, to_arrays
from tools import encode as tool

SIZES = {"one": (64, 48), "two.b": (33, 65), "three": (1, 1), "four": (100, 130)}


@dataclass
class Models:
    """Files of a tiny codec, and what they hold."""

    encoder: Path
    receiver: Path
    in_memory: PictureEncoder
    decoder: PictureDecoder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.manual_seed(0)
    codec = LearnedCodec("bmshj2018-hyperprior", 1, n=8, m=12).eval()
    with torch.no_grad():
        # Random weights make latents that are all zero.
        for part in (codec.model.g_a, codec.model.h_a):
            part[-1].weight.mul_(30)
    codec.model.update()
    entropy = freeze_entropy_model(codec.name, codec.model)
    folder = tmp_path_factory.mktemp("models")
    encoder, receiver = folder / "encoder.safetensors", folder / "receiver.safetensors"
    save_encoder(encoder, codec, entropy)
    parts = {"g_s": to_arrays(codec.model.g_s)}
    save_model(receiver, "receiver", entropy, parts, codec_metadata(codec))
    library = picture_encoder(codec.model, entropy)
    return Models(encoder, receiver, library, PictureDecoder(codec.model.g_s, entropy))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, (height, width) in SIZES.items():
        colours = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(colours).save(folder / f"{name}.png")
    return folder


def run(*arguments):
    return tool.main(list(map(str, arguments)))


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("workers", [(), ("--workers", 1), ("--workers", 3)])
def test_files_are_those_of_the_library(models, pictures, tmp_path, workers):
    output = tmp_path / "new" / "coded"
    assert run(pictures, "--model", models.encoder, "--output-dir", output, *workers) == 0
    assert names(output) == sorted(f"{name}.cdet" for name in SIZES)
    for name, size in SIZES.items():
        data = (output / f"{name}.cdet").read_bytes()
        picture = read_image(pictures / f"{name}.png", "RGB")
        assert data == models.in_memory.encode(picture)
        assert models.decoder.decode(data).shape == (3, *size)


def test_it_prints_size_and_rate_of_each_file_and_of_all(models, pictures, tmp_path, capsys):
    output = tmp_path / "coded"
    assert run(pictures, "--model", models.encoder, "--output-dir", output) == 0
    lines = capsys.readouterr().out.splitlines()
    sizes = {name: (output / f"{name}.cdet").stat().st_size for name in sorted(SIZES)}
    for line, (name, size) in zip(lines, sizes.items(), strict=False):
        height, width = SIZES[name]
        bpp = f"{8 * size / (height * width):.4f}"
        assert line.split() == [
            f"{name}.cdet", f"{width}x{height}", str(size), "bytes", bpp, "bpp"
        ]  # fmt: skip
    total, pixels = sum(sizes.values()), sum(h * w for h, w in SIZES.values())
    last = f"together {total} bytes, {8 * total / pixels:.4f} bpp, in {output}"
    assert lines[len(SIZES) :] == [last]


def test_it_says_what_receivers_need_for_large_pictures(
    models, pictures, tmp_path, capsys, monkeypatch
):
    arguments = [pictures, "--model", models.encoder, "--output-dir", tmp_path / "coded"]
    assert run(*arguments) == 0
    assert "note:" not in capsys.readouterr().out
    monkeypatch.setattr("files.encoding.MAX_PIXELS", 100)
    assert run(*arguments) == 0
    note = capsys.readouterr().out.splitlines()[-1]
    assert note.endswith(f"--max-pixels {max(height * width for height, width in SIZES.values())}")


def test_pictures_are_coded_upright(models, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "red").save(path, exif=exif)
    assert run(path, "--model", models.encoder, "--output-dir", tmp_path) == 0
    assert models.decoder.decode((tmp_path / "turned.cdet").read_bytes()).shape == (3, 40, 20)


def test_a_broken_picture_does_not_stop_the_others(models, pictures, tmp_path, capsys):
    (pictures / "one.png").write_bytes((pictures / "four.png").read_bytes()[:500])
    (pictures / "empty.jpg").touch()
    output = tmp_path / "coded"
    assert run(pictures, "--model", models.encoder, "--output-dir", output) == 1
    assert names(output) == ["four.cdet", "three.cdet", "two.b.cdet"]
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    errors = captured.err.splitlines()[-3:]
    assert errors[0] == "error: 2 of 5 files failed:"
    assert errors[1].startswith(f"  {pictures / 'empty.jpg'}: ")
    assert "zero bytes" in errors[1]
    assert errors[2].startswith(f"  {pictures / 'one.png'}: ")
    assert "damaged or cut short" in errors[2]


def test_a_file_that_cannot_be_written_does_not_stop_the_others(models, pictures, tmp_path, capsys):
    output = tmp_path / "coded"
    (output / "one.cdet" / "taken").mkdir(parents=True)
    assert run(pictures, "--model", models.encoder, "--output-dir", output) == 1
    assert names(output) == sorted(f"{name}.cdet" for name in SIZES)
    assert f"{pictures / 'one.png'}: cannot write" in capsys.readouterr().err


def test_no_rate_is_given_where_nothing_was_coded(models, tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text("no picture")
    assert run(path, "--model", models.encoder, "--output-dir", tmp_path / "coded") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "it is not an image" in captured.err
    assert names(tmp_path / "coded") == []


def test_files_of_an_earlier_run_are_replaced(models, pictures, tmp_path):
    (tmp_path / "one.cdet").write_bytes(b"old")
    arguments = ("--model", models.encoder, "--output-dir", tmp_path)
    assert run(pictures / "one.png", *arguments) == 0
    assert models.decoder.decode((tmp_path / "one.cdet").read_bytes()).shape == (3, 64, 48)


def test_models_that_cannot_work_are_refused_before_any_work(models, pictures, tmp_path, capsys):
    output = tmp_path / "coded"
    short, text, onnx = (tmp_path / name for name in ("short.safetensors", "text", "text.onnx"))
    short.write_bytes(models.encoder.read_bytes()[:-100])
    text.write_text("no model")
    onnx.write_text("no model")
    for model, message in (
        (tmp_path / "none.safetensors", "does not exist: make it with tools/export_model.py"),
        (tmp_path / "none.onnx", "does not exist: make it with tools/export_model.py --onnx"),
        (tmp_path, "does not exist"),
        (models.receiver, "is a model of kind 'receiver': give the encoder"),
        (short, "is damaged"),
        (text, "is damaged"),
        (onnx, "is damaged or no ONNX model"),
    ):
        line = refused(capsys, pictures, "--model", model, "--output-dir", output)
        assert f"'{model}'" in line
        assert message in line
    assert not output.exists()


def test_devices_that_cannot_work_are_refused(models, pictures, tmp_path, capsys):
    arguments = ("--model", models.encoder, "--output-dir", tmp_path, "--device")
    assert "device 'cuda:99' cannot be used" in refused(capsys, pictures, *arguments, "cuda:99")
    assert "device 'abacus' cannot be used" in refused(capsys, pictures, *arguments, "abacus")
    arguments = ("--model", tmp_path / "encoder.onnx", "--output-dir", tmp_path, "--device")
    assert "ONNX encoders run on the CPU" in refused(capsys, pictures, *arguments, "cuda")


def test_folders_that_cannot_be_written_to_are_refused(models, pictures, tmp_path, capsys):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "coded"):
        line = refused(capsys, pictures, "--model", models.encoder, "--output-dir", output)
        assert f"--output-dir '{output}' is not writable" in line


def test_pictures_that_cannot_be_told_apart_or_found_are_refused(
    models, pictures, tmp_path, capsys
):
    arguments = ("--model", models.encoder, "--output-dir", tmp_path / "coded")
    Image.new("RGB", (8, 8)).save(pictures / "one.jpg")
    assert "without suffix, and these have the same: " in refused(capsys, pictures, *arguments)
    assert "none' does not exist" in refused(capsys, tmp_path / "none", *arguments)
    (tmp_path / "empty").mkdir()
    assert "has no pictures" in refused(capsys, tmp_path / "empty", *arguments)
    assert not (tmp_path / "coded").exists()


@pytest.mark.parametrize(
    ("workers", "message"), [("0", "0 is not positive"), ("x", "invalid whole number value: 'x'")]
)
def test_workers_out_of_range_are_refused(capsys, workers, message):
    with pytest.raises(SystemExit) as stopped:
        run("picture.png", "--model", "m", "--output-dir", "o", "--workers", workers)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    for option in ("--model", "--output-dir", "--workers", "--device"):
        assert option in text


def test_folders_of_folders_are_mirrored(models, pictures, tmp_path, capsys):
    (pictures / "trip" / "day").mkdir(parents=True)
    (pictures / "one.png").rename(pictures / "trip" / "day" / "three.png")
    arguments = ("--model", models.encoder, "--output-dir", tmp_path / "coded")
    assert run(pictures, *arguments, "--recursive") == 0
    files = [path.relative_to(tmp_path / "coded") for path in (tmp_path / "coded").rglob("*.cdet")]
    assert sorted(map(str, files)) == [
        "four.cdet", "three.cdet", "trip/day/three.cdet", "two.b.cdet"
    ]  # fmt: skip
    assert "trip/day/three.cdet" in capsys.readouterr().out


def test_pictures_coded_before_are_left_as_they_are(models, pictures, tmp_path, capsys):
    output = tmp_path / "coded"
    arguments = (pictures, "--model", models.encoder, "--output-dir", output, "--skip-existing")
    assert run(*arguments) == 0
    written = {path: path.stat().st_mtime_ns for path in output.glob("*.cdet")}
    (output / "one.cdet").write_bytes(b"cut")
    (pictures / "four.png").write_bytes((pictures / "three.png").read_bytes())
    capsys.readouterr()
    assert run(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 of 4 pictures were coded before"
    assert [line.split()[0] for line in lines[1:3]] == ["four.cdet", "one.cdet"]
    again = {path.stem for path, time in written.items() if path.stat().st_mtime_ns != time}
    assert again == {"four", "one"}
    assert run(*arguments) == 0
    assert capsys.readouterr().out == "4 of 4 pictures were coded before\n"


def test_odd_things_in_a_folder_are_said_and_do_not_stop_it(models, pictures, tmp_path, capsys):
    os.mkfifo(pictures / "pipe.png")
    deep = np.zeros((8, 8), np.uint16)
    Image.fromarray(deep).save(pictures / "deep.png")
    for name in ("IMG_1.HEIC", "noname"):
        (pictures / name).write_bytes(b"x")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(pictures / "moving.gif", save_all=True, append_images=frames[1:])
    assert run(pictures, "--model", models.encoder, "--output-dir", tmp_path / "coded") == 1
    lines = capsys.readouterr().err.splitlines()[-5:]
    assert lines == [
        "note: passed over for their suffix, unless they are given by name: "
        f"'{pictures}/IMG_1.HEIC', '{pictures}/noname'",
        f"note: the first picture alone is taken of '{pictures}/moving.gif' (2)",
        "error: 2 of 7 files failed:",
        f"  {pictures}/deep.png: The image {pictures}/deep.png has more than 8 bits per channel. "
        "Convert it to 8 bits per channel; how to scale its values is yours to say.",
        f"  {pictures}/pipe.png: it is a named pipe, not a file",
    ]
    assert len(names(tmp_path / "coded")) == 5


def looks(count):
    """What stands for the module time where folders are watched: Ctrl-C after so many looks."""
    left = iter(range(count - 1))

    def sleep(_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    return SimpleNamespace(sleep=sleep)


def test_a_watched_folder_is_coded_as_it_is_written(
    models, pictures, tmp_path, capsys, monkeypatch
):
    (pictures / "one.png").write_bytes(b"no picture")
    arguments = ("--model", models.encoder, "--output-dir", tmp_path / "coded")
    for expected in (3, 0):
        monkeypatch.setattr("codec_det.deploy.watch.time", looks(3))
        assert run(pictures, "--watch", *arguments) == 130
        captured = capsys.readouterr()
        assert len(captured.out.splitlines()) == expected
        lines = captured.err.splitlines()
        assert lines[-1] == f"interrupted: the files in {tmp_path / 'coded'} are complete"
        assert [line.split(": ")[:2] for line in lines[:-1]] == [
            ["error", str(pictures / "one.png")]
        ] * (expected > 0)
    for name in ("two.b", "three", "four"):
        picture = read_image(pictures / f"{name}.png", "RGB")
        data = (tmp_path / "coded" / f"{name}.cdet").read_bytes()
        assert data == models.in_memory.encode(picture)


def test_what_does_not_go_with_watching_is_refused(models, pictures, tmp_path, capsys):
    arguments = (pictures, "--model", models.encoder, "--output-dir", tmp_path / "coded")
    for option in (("--recursive",), ("--skip-existing",), ("--workers", 2)):
        line = refused(capsys, *arguments, "--watch", *option)
        assert line == f"error: {option[0]} does not go with --watch: leave out either"
    line = refused(capsys, pictures / "one.png", *arguments, "--watch")
    assert "--watch takes one folder, not '" in line
    assert "--keep-bytes goes with --watch" in refused(capsys, *arguments, "--keep-bytes", 9)
    assert not (tmp_path / "coded").exists()
