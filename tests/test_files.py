"""Files and folders."""

import errno
import json
import os

import pytest

from codec_det.errors import CodecDetError
from codec_det.files import append_line, atomic_file, check_written, make_folder


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CodecDetError, match=f"--output-dir '{path}'"):
            make_folder(path, "--output-dir")


def test_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    make_folder(folder, "OUTPUT_DIR")
    assert list(folder.iterdir()) == []


def test_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a" / "file"
    with atomic_file(path) as partial:
        partial.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert list(path.parent.iterdir()) == [path]


def test_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write_as_pytorch():
    """Its writer, on a full disk: what it meets when it closes the file hides the reason."""
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


def test_a_full_disk_is_named_whatever_pytorch_makes_of_it(tmp_path):
    with pytest.raises(CodecDetError, match="No space left on device"), check_written(tmp_path):
        write_as_pytorch()
    message = r"a\.pth' \(No space left on device\)"
    with pytest.raises(CodecDetError, match=message), atomic_file(tmp_path / "a.pth"):
        write_as_pytorch()
    with pytest.raises(RuntimeError, match="a defect"), check_written(tmp_path):
        raise RuntimeError("a defect")


@pytest.mark.parametrize(
    ("end", "kept"), [("", []), ('{"b": 2}', [{"b": 2}]), ('{"b', []), ('{"b": "\xff', [])]
)
def test_lines_are_appended_whole(tmp_path, end, kept):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(('{"a": 1}\n' + end).encode("latin-1"))
    append_line(path, '{"c": 3}')
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, *kept, {"c": 3}]


def test_a_line_that_does_not_fit_is_not_half_written(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    append_line(path, '{"a": 1}')
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(CodecDetError, match="No space left"):
        append_line(path, '{"b": 2}')
    assert path.read_text() == '{"a": 1}\n'
