"""The cache of coded pictures: right bytes or none, in bounded space, for many processes."""

import errno
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from codec_det.conventional import CodedCache, build_picture_codec
from codec_det.conventional.pillow import JpegCodec
from codec_det.errors import CodecDetError, ConfigError

MEGABYTE = 2**20


def picture(number=0):
    return np.random.default_rng(number).integers(256, size=(16, 24, 3), dtype=np.uint8)


@pytest.fixture
def codec():
    return build_picture_codec("jpeg", 80)


def entries(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_the_second_call_hits(tmp_path, codec):
    cache = CodedCache(tmp_path / "new" / "cache", MEGABYTE)
    first = cache.get_or_encode(picture(), codec)
    second = cache.get_or_encode(picture().copy(), codec)
    assert first == (codec.encode(picture()), False)
    assert second == (first[0], True)
    assert (cache.hits, cache.misses) == (1, 1)
    (entry,) = entries(cache.folder)
    assert entry.parent.parent == cache.folder  # in a subfolder of two hexadecimal digits
    assert entry.name.startswith(entry.parent.name)
    assert CodedCache(cache.folder, MEGABYTE).get_or_encode(picture(), codec) == second


@dataclass(frozen=True, kw_only=True)
class NewerCodec(JpegCodec):
    """The same codec from a later release of its library."""

    def version(self):
        return "later"


def test_what_makes_another_entry(tmp_path, codec):
    cache = CodedCache(tmp_path, MEGABYTE)
    cache.get_or_encode(picture(), codec)
    one_pixel = picture()
    one_pixel[3, 4, 1] ^= 1
    for other in (one_pixel, picture().reshape(24, 16, 3)):
        assert cache.get_or_encode(other, codec)[1] is False
    for other in (
        build_picture_codec("jpeg", 81),
        build_picture_codec("jpeg", 80, chroma="4:4:4"),
        build_picture_codec("webp", 80),
        NewerCodec(quality=80),
    ):
        data, cached = cache.get_or_encode(picture(), other)
        assert not cached
        assert data == other.encode(picture())
    assert len(entries(tmp_path)) == cache.misses == 7


asked = []


@dataclass(frozen=True, kw_only=True)
class CountingCodec(JpegCodec):
    """Notes when it is asked for its version, which can take a run of a program."""

    def version(self):
        asked.append(self)
        return super().version()


def test_a_codec_is_asked_for_its_version_once(tmp_path):
    cache, codec = CodedCache(tmp_path, MEGABYTE), CountingCodec(quality=80)
    for number in range(3):
        cache.get_or_encode(picture(number), codec)
    assert asked == [codec]


def test_other_users_may_read_entries(tmp_path, codec):
    usual = os.umask(0o022)
    try:
        CodedCache(tmp_path, MEGABYTE).get_or_encode(picture(), codec)
    finally:
        os.umask(usual)
    assert [entry.stat().st_mode & 0o777 for entry in entries(tmp_path)] == [0o644]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
        lambda content: b"x" + content[1:],
    ],
    ids=["empty", "cut", "longer", "flipped", "other magic"],
)
def test_damaged_entries_are_coded_again(tmp_path, codec, damage):
    cache = CodedCache(tmp_path, MEGABYTE)
    data, _ = cache.get_or_encode(picture(), codec)
    (entry,) = entries(tmp_path)
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.get_or_encode(picture(), codec) == (data, False)
    assert cache.get_or_encode(picture(), codec) == (data, True)


def test_the_folder_stays_within_its_bound(tmp_path, codec):
    size = len(codec.encode(picture())) + 36
    bound = 8 * size
    cache = CodedCache(tmp_path, bound)
    for number in range(30):
        cache.get_or_encode(picture(number), codec)
        assert sum(path.stat().st_size for path in entries(tmp_path)) <= bound
        assert cache.get_or_encode(picture(number), codec)[1]  # the newest is always kept
    assert len(entries(tmp_path)) >= 5


def test_the_least_recently_used_goes_first(tmp_path, codec):
    size = len(codec.encode(picture())) + 36
    cache = CodedCache(tmp_path, int(4.5 * size))
    for number in range(4):
        cache.get_or_encode(picture(number), codec)
        for path in entries(tmp_path):  # all of this is faster than the clock of some file systems
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    assert cache.get_or_encode(picture(0), codec)[1]
    cache.get_or_encode(picture(4), codec)
    assert cache.get_or_encode(picture(0), codec)[1]
    assert not cache.get_or_encode(picture(1), codec)[1]


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path, codec):
    cache = CodedCache(tmp_path, 100)
    for _ in range(2):
        assert cache.get_or_encode(picture(), codec) == (codec.encode(picture()), False)
    assert entries(tmp_path) == []


def test_abandoned_files_are_cleared_and_fresh_ones_are_not(tmp_path, codec):
    for name, age in (("old.partial", 7200), ("new.partial", 0)):
        (tmp_path / "ab").mkdir(exist_ok=True)
        path = tmp_path / "ab" / name
        path.write_bytes(bytes(5000))
        os.utime(path, (time.time() - age,) * 2)
    CodedCache(tmp_path, 5000).get_or_encode(picture(), codec)
    names = {path.name for path in entries(tmp_path)}
    assert "old.partial" not in names
    assert "new.partial" in names


def fill(folder, results):
    cache = CodedCache(folder, MEGABYTE)
    codec = build_picture_codec("jpeg", 80)
    good = True
    for _ in range(5):
        for number in range(10):
            data, _ = cache.get_or_encode(picture(number), codec)
            good = good and data == codec.encode(picture(number))
        for path in sorted(Path(folder).rglob("*.coded"))[::2]:
            path.unlink(missing_ok=True)  # so that both write all the time
    results.put(good)


def test_two_processes_write_the_same_entries(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=fill, args=(tmp_path, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=30) for _ in workers] == [True, True]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert not list(tmp_path.rglob("*.partial"))


def test_folders_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the cache's folder '.*file/cache' is not writable"):
        CodedCache(tmp_path / "file" / "cache", MEGABYTE)
    with pytest.raises(ConfigError, match="max_bytes is 0"):
        CodedCache(tmp_path, 0)
    read_only = tmp_path / "read_only"
    read_only.mkdir()

    def refuse(*arguments, **options):  # the superuser may write anywhere, so not by chmod
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("codec_det.files.TemporaryFile", refuse)
    with pytest.raises(
        ConfigError, match=r"read_only' is not writable \(Permission denied\): choose another"
    ):
        CodedCache(read_only, MEGABYTE)


def test_a_full_disk_is_one_clear_error(tmp_path, codec, monkeypatch):
    cache = CodedCache(tmp_path, MEGABYTE)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CodecDetError, match=r"\(No space left on device\): make room"):
        cache.get_or_encode(picture(), codec)
    assert entries(tmp_path) == []
