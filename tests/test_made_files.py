"""Files that need not be made again: only those that would come out the same."""

import pytest

from codec_det.deploy.made_files import RECORD, MadeFiles


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "source").write_bytes(b"picture")
    (tmp_path / "model").write_bytes(b"weights")
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "sub" / "a.cdet").write_bytes(b"coded")
    made = MadeFiles(tmp_path / "out", tmp_path / "model")
    assert not made.has("sub/a.cdet", tmp_path / "source")
    made.add("sub/a.cdet", tmp_path / "source")
    assert has(tmp_path)
    return tmp_path


def has(folder):
    return MadeFiles(folder / "out", folder / "model").has("sub/a.cdet", folder / "source")


@pytest.mark.parametrize("changed", ["source", "model", "out/sub/a.cdet"])
def test_a_file_is_known_by_all_that_made_it(folder, changed):
    original = (folder / changed).read_bytes()
    (folder / changed).write_bytes(original[:-1])
    assert not has(folder)
    (folder / changed).write_bytes(original)
    assert has(folder)


def test_another_version_of_the_package_makes_it_again(folder, monkeypatch):
    monkeypatch.setattr("codec_det.deploy.made_files.__version__", "0.0")
    assert not has(folder)


def test_a_file_that_is_gone_is_made_again(folder):
    (folder / "out/sub/a.cdet").unlink()
    assert not has(folder)


def test_a_record_cut_short_costs_one_file(folder):
    record = folder / "out" / RECORD
    (folder / "out/b.cdet").write_bytes(b"b")
    made = MadeFiles(folder / "out", folder / "model")
    made.add("b.cdet", folder / "source")
    record.write_bytes(record.read_bytes()[:-20])
    assert has(folder)
    made = MadeFiles(folder / "out", folder / "model")
    assert not made.has("b.cdet", folder / "source")
    made.add("b.cdet", folder / "source")
    assert MadeFiles(folder / "out", folder / "model").has("b.cdet", folder / "source")
    record.write_bytes(b"[1]\n\xff\n" + record.read_bytes())
    assert has(folder)
