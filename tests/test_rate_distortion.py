"""tools/rate_distortion.py, as called from a shell, with all kinds of codecs; learned ones tiny."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from compressai.utils.plot.__main__ import parse_json_file
from PIL import Image

from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.coding_scale import shrink
from codec_det.conventional import build_picture_codec
from codec_det.data.image_io import read_image
from codec_det.data.scenes import render_scene
from codec_det.pixels import enlarge, to_uint8
from codec_det.rate_distortion.measurement import to_decibels
from tests.processes import start
from tools import rate_distortion as tool

SIZES = {"large": (176, 192), "narrow": (64, 200), "small": (48, 40)}
KEYS = ["psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"]
ROOT = Path(__file__).parent.parent
PATIENCE = 60  # seconds until a process of ours must have done what it is waited for
TINY = ("--channels", 8, 12)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in SIZES.items():
        picture, _ = render_scene(np.random.default_rng(len(name)), *(max(x, 64) for x in size))
        Image.fromarray(picture[: size[0], : size[1]]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of two tiny codecs of each of two architectures; {quality} is left in their names."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("bmshj2018-hyperprior", "mbt2018"):
        for quality, gain in ((1, 10), (2, 30)):
            torch.manual_seed(0)
            codec = LearnedCodec(name, 1, n=8, m=12)
            with torch.no_grad():
                # Random weights make latents that are all zero.
                codec.model.g_a[-1].weight.mul_(gain)
            codec.model.update()
            torch.save(codec.model.state_dict(), folder / f"{name}_{quality}.pth")
    return folder


def run(*arguments):
    return tool.main(list(map(str, arguments)))


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def refused(capsys, output, *arguments):
    assert run(*arguments, "--output-dir", output) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "img/s" not in captured.err
    assert not output.exists()
    line = captured.err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def psnr(a, b):
    return -10 * math.log10(np.mean((a.astype(float) - b.astype(float)) ** 2) / 255**2)


def test_figures_are_those_of_the_files(pictures, tmp_path):
    output = tmp_path / "new" / "output"
    assert run(pictures, "--codec", "jpeg", "--quality", 30, "--output-dir", output) == 0
    codec = build_picture_codec("jpeg", 30)
    rows = rows_of(output / "jpeg.csv")
    assert [row["file_name"] for row in rows] == [f"{name}.png" for name in sorted(SIZES)]
    for row in rows:
        picture = read_image(pictures / row["file_name"], "RGB")
        data = codec.encode(picture)
        assert float(row["bits"]) == 8 * len(data)
        assert float(row["overhead_bits"]) == 8 * codec.container_overhead(data)
        assert float(row["bpp"]) == 8 * len(data) / (picture.shape[0] * picture.shape[1])
        assert float(row["psnr"]) == pytest.approx(psnr(picture, codec.decode(data)), abs=1e-4)
        assert float(row["encode_seconds"]) > 0
        assert float(row["decode_seconds"]) > 0
        assert math.isnan(float(row["ms_ssim"])) == (row["file_name"] != "large.png")


def test_figures_at_a_scale_are_of_the_picture_as_it_was(pictures, tmp_path):
    arguments = (pictures, "--codec", "jpeg", "--output-dir", tmp_path)
    assert run(*arguments, "--quality", 30, 60, "--scale", 0.5) == 0
    codec = build_picture_codec("jpeg", 30)
    for row in rows_of(tmp_path / "jpeg_scale_0.5.csv")[:3]:
        picture = read_image(pictures / row["file_name"], "RGB")
        height, width = picture.shape[:2]
        data = codec.encode(shrink(picture, 0.5))
        assert float(row["bpp"]) == 8 * len(data) / (height * width)
        small = torch.from_numpy(codec.decode(data)).permute(2, 0, 1) / 255
        large = to_uint8(enlarge(small, (height, width))).permute(1, 2, 0).numpy()
        assert float(row["psnr"]) == pytest.approx(psnr(picture, large), abs=1e-4)
        assert math.isnan(float(row["ms_ssim"])) == (row["file_name"] != "large.png")
    record = json.loads((tmp_path / "jpeg_scale_0.5.json").read_text())
    assert record["name"] == "jpeg (scale 0.5)"
    assert record["codec_det"]["scale"] == 0.5
    assert not (tmp_path / "jpeg.csv").exists()


@pytest.mark.parametrize("scale", ["0", "1.5", "-1", "nan", "half"])
def test_scales_that_cannot_be_are_refused(pictures, tmp_path, capsys, scale):
    arguments = ("--codec", "jpeg", "--quality", 30, "--output-dir", tmp_path / "none")
    with pytest.raises(SystemExit) as stopped:
        run(pictures, *arguments, f"--scale={scale}")
    assert stopped.value.code == 2
    assert "--scale" in capsys.readouterr().err


def test_a_curve_has_the_form_of_published_ones(pictures, tmp_path, capsys):
    arguments = ("--codec", "jpeg", "--quality", 80, 10, 40, "--output-dir", tmp_path)
    assert run(pictures, *arguments, "--setting", "chroma=4:4:4", "progressive=true") == 0
    record = json.loads((tmp_path / "jpeg.json").read_text())
    assert list(record) == ["name", "description", "results", "codec_det"]
    assert list(record["results"]) == KEYS
    rows = rows_of(tmp_path / "jpeg.csv")
    for i, quality in enumerate((10, 40, 80)):
        own = [row for row in rows if float(row["quality"]) == quality]
        for key, column in (("bpp", "bpp"), ("psnr-rgb", "psnr"), ("ms-ssim-rgb", "ms_ssim")):
            expected = np.nanmean([float(row[column]) for row in own])
            assert record["results"][key][i] == pytest.approx(expected)
    assert record["results"]["bpp"] == sorted(record["results"]["bpp"])

    curve = parse_json_file(tmp_path / "jpeg.json", "psnr")
    assert curve["name"] == "jpeg (chroma=4:4:4, progressive=True)"
    assert curve["xs"] == record["results"]["bpp"]
    assert curve["ys"] == record["results"]["psnr-rgb"]
    decibels = parse_json_file(tmp_path / "jpeg.json", "ms-ssim")["ys"]
    assert decibels == pytest.approx([p["ms_ssim_db"] for p in record["codec_det"]["points"]])
    assert Image.open(tmp_path / "jpeg.png").size == (1125, 675)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[2:5]] == ["10", "40", "80"]
    assert printed[-3:] == [str(tmp_path / f"jpeg.{suffix}") for suffix in ("csv", "json", "png")]


def test_the_record_says_how_to_repeat_it(pictures, tmp_path):
    arguments = ("--codec", "webp", "--quality", 20, "--output-dir", tmp_path)
    assert run(pictures, *arguments, "--setting", "method=2") == 0
    assert not (tmp_path / "webp.png").exists()
    record = json.loads((tmp_path / "webp.json").read_text())["codec_det"]
    codec = build_picture_codec("webp", 20, method=2)
    (point,) = record["points"]
    assert point["settings"] == codec.settings
    assert point["version"] == codec.version()
    assert point["command"] == codec.command()
    assert record["rate"] == "real"
    assert record["quality"] == [20]
    rows = rows_of(tmp_path / "webp.csv")
    pixels = sum(height * width for height, width in SIZES.values())
    assert point["bits"] == sum(float(row["bits"]) for row in rows)
    assert point["bpp"] == point["bits"] / pixels
    assert point["overhead_bits"] == sum(float(row["overhead_bits"]) for row in rows)
    assert record["pictures"]["count"] == 3
    assert record["pictures"]["pixels"] == pixels
    assert record["pictures"]["with_ms_ssim"] == 1

    # The fingerprint is of names and contents, whatever the order or folder.
    again = [pictures / f"{name}.png" for name in SIZES]
    assert run(*again, "--codec", "jpeg", "--quality", 20, "--output-dir", tmp_path) == 0
    fingerprint = json.loads((tmp_path / "jpeg.json").read_text())["codec_det"]["pictures"]
    assert fingerprint == record["pictures"]
    Image.new("RGB", (40, 48)).save(pictures / "small.png")
    assert run(pictures, "--codec", "jpeg", "--quality", 20, "--output-dir", tmp_path) == 0
    changed = json.loads((tmp_path / "jpeg.json").read_text())["codec_det"]["pictures"]
    assert changed["sha256"] != fingerprint["sha256"]


def test_learned_codecs_write_files(weights, pictures, tmp_path):
    name = "bmshj2018-hyperprior"
    files = ("--weights", weights / f"{name}_{{quality}}.pth", *TINY)
    arguments = (pictures, "--codec", name, "--quality", 1, 2, *files)
    assert run(*arguments, "--output-dir", tmp_path) == 0
    rows = rows_of(tmp_path / f"{name}.csv")
    assert len(rows) == 6
    for quality in (1, 2):
        codec = LearnedCodec(name, 1, n=8, m=12).eval()
        codec.model.load_state_dict(torch.load(weights / f"{name}_{quality}.pth"))
        encoder = picture_encoder(codec.model, freeze_entropy_model(name, codec.model))
        for row in (row for row in rows if float(row["quality"]) == quality):
            data = encoder.encode(read_image(pictures / row["file_name"], "RGB"))
            assert float(row["bits"]) == 8 * len(data)
            assert float(row["encode_seconds"]) > 0
    record = json.loads((tmp_path / f"{name}.json").read_text())["codec_det"]
    assert record["rate"] == "real"
    assert len({p["settings"]["weights_sha256"] for p in record["points"]}) == 2


def test_estimates_are_close_to_files_and_have_no_times(pictures, tmp_path):
    name = "bmshj2018-hyperprior"
    packaged = ("--weights", "codec_det://shapes_codec_{quality}.pth", "--channels", 32, 48)
    arguments = (pictures, "--codec", name, "--quality", 2, *packaged)
    assert run(*arguments, "--output-dir", tmp_path / "real") == 0
    assert run(*arguments, "--output-dir", tmp_path / "estimated", "--estimated") == 0
    real, estimated = (rows_of(tmp_path / kind / f"{name}.csv") for kind in ("real", "estimated"))
    assert len(real) == 3
    for row, guess in zip(real, estimated, strict=True):
        assert row["file_name"] == guess["file_name"]
        assert float(row["psnr"]) == pytest.approx(float(guess["psnr"]), abs=0.01)
        without = float(row["bits"]) - float(row["overhead_bits"])
        # Small files: the last word of the coder, and escapes, weigh more than in large ones.
        assert without == pytest.approx(float(guess["bits"]), rel=0.03, abs=64)
        assert math.isnan(float(guess["encode_seconds"]))
    record = json.loads((tmp_path / "estimated" / f"{name}.json").read_text())
    assert list(record["results"]) == KEYS[:3]
    assert record["codec_det"]["rate"] == "estimated"
    assert record["codec_det"]["points"][0]["overhead_bits"] is None


def test_autoregressive_codecs_are_estimated_and_it_says_so(weights, pictures, tmp_path, capsys):
    file = weights / "mbt2018_1.pth"
    arguments = ("--codec", "mbt2018", "--quality", 1, "--weights", file, *TINY)
    assert run(pictures, *arguments, "--output-dir", tmp_path) == 0
    assert "Rates are bits estimated" in capsys.readouterr().out
    record = json.loads((tmp_path / "mbt2018.json").read_text())
    assert record["codec_det"]["rate"] == "estimated"
    assert "estimated" in record["description"]
    assert record["results"]["bpp"][0] > 0


def test_results_without_loss_are_infinite(pictures, tmp_path, capsys):
    arguments = ("--codec", "webp", "--quality", 100, "--setting", "lossless=True")
    arguments += ("--setting", "method=0")
    assert run(pictures, *arguments, "--output-dir", tmp_path) == 0
    record = json.loads((tmp_path / "webp.json").read_text())
    assert record["results"]["psnr-rgb"] == [None]
    assert record["codec_det"]["points"][0]["ms_ssim_db"] is None
    assert capsys.readouterr().out.splitlines()[2].split()[2:5] == ["inf", "1.0000", "inf"]


def test_one_picture_without_loss_leaves_the_others(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    for name, picture in (("flat", np.full((48, 40, 3), 128, np.uint8)), ("noise", noise)):
        Image.fromarray(picture).save(folder / f"{name}.png")
    arguments = ("--codec", "jpeg", "--quality", 50, 95, "--output-dir", tmp_path / "out")
    assert run(folder, *arguments) == 0
    rows = rows_of(tmp_path / "out" / "jpeg.csv")
    expected = [float(row["psnr"]) for row in rows if row["file_name"] == "noise.png"]
    assert [row["psnr"] for row in rows if row["file_name"] == "flat.png"] == ["inf", "inf"]
    record = json.loads((tmp_path / "out" / "jpeg.json").read_text())
    assert record["results"]["psnr-rgb"] == pytest.approx(expected)
    for point, psnr in zip(record["codec_det"]["points"], expected, strict=True):
        # Half of the pictures have the error: 3 dB more.
        assert point["psnr_of_mse"] == pytest.approx(psnr + 10 * math.log10(2))
        assert point["lossless"] == 1
    printed = capsys.readouterr().out
    assert f"1 of quality 50 ({expected[0] + 3.0103:.2f} dB), 1 of quality 95" in printed


def test_small_pictures_have_no_ms_ssim(pictures, tmp_path, capsys):
    arguments = ("--codec", "jpeg", "--quality", 50, "--output-dir", tmp_path)
    assert run(pictures / "small.png", *arguments) == 0
    record = json.loads((tmp_path / "jpeg.json").read_text())
    assert "ms-ssim-rgb" not in record["results"]
    assert capsys.readouterr().out.splitlines()[2].split()[3:5] == ["-", "-"]


FAILING = """
import shutil, sys
from PIL import Image
source, target, quality = sys.argv[1:]
if quality == "2" and Image.open(source).size == (40, 48):
    sys.exit("too small")
shutil.copy(source, target)
"""


def test_a_bad_picture_does_not_stop_the_others(pictures, tmp_path, capsys):
    """One cannot be read, and one fails at the second of three qualities: it is in no mean."""
    (pictures / "bad.png").write_bytes(b"no picture")
    program = tmp_path / "program.py"
    program.write_text(FAILING)
    command = f"{sys.executable} {program} {{input}} {{output}}"
    settings = (f"encode_command={command} {{quality}}", f"decode_command={command} 0")
    arguments = ("--codec", "external", "--quality", 1, 2, 3, "--setting", *settings)
    assert run(pictures, *arguments, "--output-dir", tmp_path / "out") == 1
    rows = rows_of(tmp_path / "out" / "external.csv")
    assert [row["file_name"] for row in rows] == 3 * ["large.png", "narrow.png"]
    record = json.loads((tmp_path / "out" / "external.json").read_text())
    assert record["codec_det"]["pictures"]["count"] == 2
    failed = {x["file"]: x["reason"] for x in record["codec_det"]["failed"]}
    assert list(failed) == [str(pictures / "bad.png"), str(pictures / "small.png")]
    assert "too small" in failed[str(pictures / "small.png")]
    assert "error: 2 of 4 files failed:" in capsys.readouterr().err


def test_nothing_is_written_where_everything_failed(tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    output = tmp_path / "out"
    arguments = ("--codec", "jpeg", "--quality", 1, 2, "--output-dir", output)
    assert run(tmp_path / "bad.png", *arguments) == 1
    assert list(output.iterdir()) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 of 1 files failed" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--codec", "bpg", "--quality", 1), "there is no codec 'bpg': choose from"),
        (("--codec", "jpeg", "--quality", 10, 101), "quality 101"),
        (("--codec", "mbt2018", "--quality", 9), "quality 9 cannot be with the codec 'mbt2018'"),
        (("--codec", "mbt2018", "--quality", 1.5), "whole number from 1 to 8"),
        (("--codec", "vtm", "--quality", 32), "VTM_ENCODER"),
        (("--codec", "jpeg", "--quality", 10, "--setting", "chrome=1"), "setting 'chrome'"),
        (("--codec", "jpeg", "--quality", 10, "--weights", "w"), "--weights: of learned codecs"),
        (("--codec", "mbt2018", "--quality", 1, "--setting", "tune=psnr"), "leave out tune"),
        (("--codec", "mbt2018", "--quality", 1, *TINY), "zoo has no weights"),
        (("--codec", "mbt2018", "--quality", 1, 2, "--weights", "w"), "put {quality} into"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    pictures, tmp_path, capsys, monkeypatch, arguments, message
):
    for variable in ("VTM_ENCODER", "VTM_DECODER", "VTM_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    assert message in refused(capsys, tmp_path / "out", pictures, *arguments)


def test_weights_of_all_qualities_are_checked_first(weights, pictures, tmp_path, capsys):
    file = weights / "bmshj2018-hyperprior_{quality}.pth"
    arguments = (pictures, "--codec", "bmshj2018-hyperprior", "--weights", file)
    line = refused(capsys, tmp_path / "out", *arguments, *TINY, "--quality", 1, 2, 3)
    assert "quality 3" in line
    assert "bmshj2018-hyperprior_3.pth' not found" in line
    line = refused(capsys, tmp_path / "out", *arguments, "--quality", 1)
    assert "do not fit" in line
    line = refused(
        capsys, tmp_path / "out", *arguments, *TINY, "--quality", 1, "--device", "abacus"
    )
    assert "device 'abacus' cannot be used" in line


SLEEPING = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[3], str(os.getpid())).touch()
time.sleep(600)
"""


def test_ctrl_c_stops_it_and_its_encoders(pictures, tmp_path):
    program, started = tmp_path / "program.py", tmp_path / "started"
    program.write_text(SLEEPING)
    started.mkdir()
    command = f"{sys.executable} {program} {{input}} {{output}} {started}"
    settings = (f"encode_command={command}", f"decode_command={command}")
    arguments = (pictures, "--codec", "external", "--quality", "1", "--workers", "2")
    arguments += ("--output-dir", tmp_path / "out", "--setting", *settings)
    process = start(
        [sys.executable, "-W", "ignore", "tools/rate_distortion.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: len(list(started.iterdir())) == 2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: nothing was written"
    wait_until(lambda: not any(is_running(path.name) for path in started.iterdir()))
    assert list((tmp_path / "out").iterdir()) == []


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process):
    try:
        return Path("/proc", process, "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_names_of_files_need_be_no_text(tmp_path):
    name = os.fsdecode(b"\xce\xb2 \xff.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    arguments = [tmp_path, "--codec", "jpeg", "--quality", "50", "--output-dir", tmp_path / "out"]
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tools/rate_distortion.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **plain},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (rows,) = (tmp_path / "out").glob("*.csv")
    assert b"\xce\xb2 \xff.png" in rows.read_bytes()


def test_odd_things_in_a_folder_are_said_and_not_waited_for(pictures, tmp_path, capsys):
    os.mkfifo(pictures / "pipe.png")
    (pictures / "IMG_1.HEIC").touch()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(pictures / "moving.gif", save_all=True, append_images=frames[1:])
    (pictures / "sub").mkdir()
    frames[0].save(pictures / "sub" / "more.png")
    arguments = (pictures, "--codec", "jpeg", "--quality", "50", "--output-dir", tmp_path / "out")
    assert tool.main([str(argument) for argument in (*arguments, "--recursive")]) == 1
    captured = capsys.readouterr()
    notes = [line for line in captured.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: passed over for their suffix, unless they are given by name: "
        f"'{pictures}/IMG_1.HEIC'",
        f"note: the first picture alone is taken of '{pictures}/moving.gif' (2)",
    ]
    assert captured.err.splitlines()[-1] == f"  {pictures}/pipe.png: it is a named pipe, not a file"
    (rows,) = (tmp_path / "out").glob("*.csv")
    assert "more.png" in rows.read_text()


def test_decibels_are_those_of_the_field():
    assert to_decibels(0.9) == pytest.approx(10)
    assert to_decibels(1.0) == math.inf


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    for option in ("--quality", "--setting", "--weights", "--estimated", "--workers"):
        assert option in text
