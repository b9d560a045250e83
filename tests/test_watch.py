"""Watched folders: each file once, whatever happens."""

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest

from codec_det.deploy import watch as module
from codec_det.deploy.watch import Arrival, CommittedFiles, Journal, Watcher
from codec_det.errors import CodecDetError

SUFFIXES = frozenset({".png", ".jpg"})


class Enough(Exception):
    """Ends a program that would run for months."""


class Camera:
    """A folder that is watched, and where its files go."""

    def __init__(self, folder, keep_bytes=None):
        self.pictures, self.output = folder / "pictures", folder / "coded"
        for each in (self.pictures, self.output):
            each.mkdir(exist_ok=True)
        self.keep_bytes = keep_bytes
        self.made, self.said = [], []

    def make(self, path):
        self.files.check_name(path)
        self.made.append(path.name)
        if b"broken" in path.read_bytes():
            raise CodecDetError("it is broken")
        return b"coded " + path.read_bytes()

    def run(self, *steps):
        """Do a step after every look, and end after the last."""
        todo = iter(steps)

        def sleep(_):
            step = next(todo, None)
            if step is None:
                raise Enough
            step()

        with pytest.raises(Enough):
            self.watch(sleep)

    def watch(self, sleep, interval=0.0):
        journal = Journal(self.output / ".journal.jsonl")
        self.files = CommittedFiles(self.output, journal, ".cdet", self.keep_bytes)
        how = {"say": self.said.append, "interval": interval, "sleep": sleep}
        Watcher(self.pictures, SUFFIXES, journal, self.make, self.files.commit, **how).run()

    def write(self, name, content="x"):
        # At once: with looks a millisecond apart, a file may be empty at two of them.
        hidden = self.pictures / f".{name}"
        hidden.write_text(content)
        hidden.replace(self.pictures / name)

    def coded(self):
        return {path.name: path.read_text() for path in self.output.glob("*.cdet")}


@pytest.fixture
def camera(tmp_path):
    return Camera(tmp_path)


def nothing():
    pass


def test_pictures_are_coded_when_they_are_complete_and_once(camera):
    camera.write("a.png", "one")
    camera.write("notes.txt")
    camera.write(".hidden.png")

    def grow():
        camera.write("a.png", "one, two")
        assert camera.coded() == {}

    camera.run(grow, lambda: camera.write("b.png", "late"), nothing, nothing)
    assert camera.coded() == {"a.cdet": "coded one, two", "b.cdet": "coded late"}
    assert camera.made == ["a.png", "b.png"]
    camera.run(nothing, nothing)
    assert camera.made == ["a.png", "b.png"]


def test_another_picture_of_the_same_name_is_coded(camera):
    camera.write("a.png", "one")
    camera.run(nothing, lambda: camera.write("a.png", "another"), nothing, nothing)
    assert camera.coded() == {"a.cdet": "coded another"}
    assert camera.made == ["a.png", "a.png"]


def test_two_pictures_do_not_share_a_file(camera):
    camera.write("a.png", "first")
    camera.run(nothing, lambda: camera.write("a.jpg", "second"), nothing, nothing)
    # Started again, it knows.
    camera.write("a.jpg", "second, changed")
    camera.write("a.png", "first, changed")
    camera.run(nothing, nothing)
    assert camera.coded() == {"a.cdet": "coded first, changed"}
    assert camera.made == ["a.png", "a.png"]
    assert len(camera.said) == 2
    assert "'a.cdet' is the file of 'a.png'" in camera.said[0]
    assert camera.said[0].startswith(f"error: {camera.pictures / 'a.jpg'}: ")
    # Once the first is gone, its name is free.
    (camera.pictures / "a.png").unlink()
    camera.run(nothing, lambda: camera.write("a.jpg", "third"), nothing, nothing)
    assert camera.coded() == {"a.cdet": "coded third"}


def test_broken_pictures_are_named_once(camera):
    camera.write("a.png", "broken")
    camera.write("b.png")
    camera.run(nothing, nothing, nothing)
    camera.run(nothing, nothing)
    assert sorted(camera.coded()) == ["b.cdet"]
    assert camera.said == [f"error: {camera.pictures / 'a.png'}: it is broken"]
    camera.write("a.png", "mended")
    camera.run(nothing, nothing)
    assert sorted(camera.coded()) == ["a.cdet", "b.cdet"]


def test_the_oldest_files_are_dropped_and_not_made_again(tmp_path):
    camera = Camera(tmp_path, keep_bytes=20)
    for i, name in enumerate(("a", "b", "c")):
        camera.write(f"{name}.png", "12")  # 8 bytes each
        os.utime(camera.pictures / f"{name}.png", (i, i))
    camera.run(nothing, nothing)
    assert sorted(camera.coded()) == ["b.cdet", "c.cdet"]
    camera.run(nothing, nothing)
    assert camera.made == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("where", ["write", "journal"])
def test_a_full_disk_is_said_once_and_waited_for(camera, monkeypatch, where):
    camera.write("a.png", "one")
    full = {"disk"}
    real = {"write": os.fsync, "journal": module.append_line}[where]

    def refuse(*arguments):
        if full:
            if where == "journal":
                raise CodecDetError("cannot append (No space left on device)")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    target = (module.os, "fsync") if where == "write" else (module, "append_line")
    monkeypatch.setattr(*target, refuse)

    def no_file():
        assert [path.name for path in camera.output.iterdir() if "partial" in path.name] == []
        assert camera.coded() == {}

    camera.run(nothing, no_file, no_file, full.clear)
    assert camera.coded() == {"a.cdet": "coded one"}
    waiting, going = camera.said
    assert waiting.startswith("waiting: ")
    assert "No space left on device" in waiting
    assert going == "going on"
    assert camera.made == ["a.png"]


def test_a_folder_that_is_gone_is_waited_for(camera):
    away = camera.pictures.with_name("away")
    camera.write("a.png")
    camera.pictures.rename(away)
    camera.run(nothing, lambda: away.rename(camera.pictures), nothing, nothing)
    assert sorted(camera.coded()) == ["a.cdet"]
    assert [line.split(":")[0] for line in camera.said] == ["waiting", "going on"]


def test_what_was_committed_but_not_named_is_finished(camera):
    camera.write("a.png", "one")
    camera.run(nothing, nothing)
    (camera.output / "a.cdet").rename(camera.output / ".a.cdet.partial")
    (camera.output / ".b.cdet.partial").write_text("cut")
    camera.run(nothing, nothing)
    assert camera.coded() == {"a.cdet": "coded one"}
    assert camera.made == ["a.png"]
    assert list(camera.output.glob(".*.partial")) == []


def test_the_journal_and_memory_do_not_grow_with_pictures_that_are_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SPARE_LINES", 10)
    journal = Journal(tmp_path / "journal.jsonl")
    for i in range(100):
        journal.add(Arrival(f"{i}.png", i, i))
        journal.forget_all_but([f"{i}.png"])
    assert len(journal._entries) == 1
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) <= 13
    assert Journal(tmp_path / "journal.jsonl").has(Arrival("99.png", 99, 99))
    assert not Journal(tmp_path / "journal.jsonl").has(Arrival("99.png", 99, 98))


def test_a_journal_of_something_else_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(CodecDetError, match=r"journal.jsonl' has a line that no program"):
        Journal(tmp_path / "journal.jsonl")


def test_killed_at_random_moments_nothing_is_lost_or_made_twice(tmp_path):
    """20 times, each in a process of its own, while pictures are written."""
    camera = Camera(tmp_path)
    committed = tmp_path / "committed"
    rng = random.Random(0)
    names = [f"{i:03}.png" for i in range(60)]
    waiting = list(names)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            _watch_until_killed(camera, committed)
        for _ in range(3):
            camera.write(waiting.pop(0), "picture")
            time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    camera.run(nothing, nothing)
    assert sorted(camera.coded()) == [f"{name[:-4]}.cdet" for name in names]
    assert set(camera.coded().values()) == {"coded picture"}
    lines = (camera.output / ".journal.jsonl").read_text().splitlines()
    assert len(lines) == len(names)
    assert list(camera.output.glob(".*.partial")) == []


def _watch_until_killed(camera, committed: Path) -> None:
    try:
        camera.watch(time.sleep, interval=0.001)
    finally:
        os._exit(1)
