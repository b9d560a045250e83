"""Files and folders."""

import pytest

from codec_det.errors import CodecDetError
from codec_det.files import atomic_file, make_folder


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
