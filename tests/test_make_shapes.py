"""tools/make_shapes.py, as called from a shell."""

import json

import cv2
import numpy as np
import pytest

from codec_det.data.shapes import generate
from tools import make_shapes as tool


def test_it_draws_a_set_and_a_contact_sheet(tmp_path, capsys):
    folder, preview = tmp_path / "set", tmp_path / "sheets" / "preview.png"
    arguments = ["--output-dir", folder, "--count", 8, "--size", 40, 80, "--preview", preview]
    assert tool.main(list(map(str, arguments))) == 0
    coco = json.loads((folder / "annotations.json").read_text())
    assert [(image["height"], image["width"]) for image in coco["images"]] == [(40, 80)] * 8
    assert len(list((folder / "images").iterdir())) == 8
    # 8 pictures scaled to 128 x 256 in rows of 6.
    assert cv2.imread(str(preview)).shape == (2 * 128, 6 * 256, 3)
    printed = capsys.readouterr().out
    for path in (folder / "images", folder / "annotations.json", preview):
        assert str(path) in printed


def test_a_sheet_that_cannot_be_written_is_not_announced(tmp_path, capsys):
    (tmp_path / "taken.png").mkdir()
    arguments = [
        "--output-dir",
        tmp_path / "set",
        "--count",
        1,
        "--preview",
        tmp_path / "taken.png",
    ]
    assert tool.main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert "contact sheet" not in captured.out
    assert captured.err.splitlines()[-1].startswith(f"error: cannot write '{tmp_path}/taken.png'")


def test_boxes_are_drawn_on_the_sheet(tmp_path):
    json_file = generate(tmp_path / "set", 1, (64, 64), progress=False)
    annotation = json.loads(json_file.read_text())["annotations"][0]
    left, top, width, height = (round(4 * side) for side in annotation["bbox"])
    sheet = tool.contact_sheet(json_file)
    assert sheet.shape == (256, 256, 3)
    box = sheet[top : top + height, left : left + width]
    edges = np.concatenate([box[0], box[-1], box[:, 0], box[:, -1]])
    colour = tool.COLOURS[annotation["category_id"] - 1]
    # Later boxes and names may lie over some of it.
    assert (edges == colour).all(axis=1).mean() > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count: 0 is not positive"),
        (["--count", "many"], "invalid whole number value: 'many'"),
        (["--size", "128", "-1"], "--size: -1 is not positive"),
        (["--size", "128", "16"], "at least 32 pixels"),
        (["--seed", "-1"], "--seed: -1 is negative"),
        (["--preview", "sheet.jpg"], r"does not end in .png"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--output-dir", str(tmp_path / "set"), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    (tmp_path / "precious.txt").touch()
    assert tool.main(["--output-dir", str(tmp_path), "--count", "1"]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--help"])
    assert stopped.value.code == 0
    assert "python tools/make_shapes.py --output-dir" in capsys.readouterr().out
