"""Work on many files: what is found, in which order, and what a bad file or Ctrl-C does."""

import os
import socket
import threading
from pathlib import Path

import pytest

from codec_det.deploy.file_batch import Failure, describe_failures, find_files, process
from codec_det.errors import BitstreamError, CodecDetError

SUFFIXES = frozenset({".png", ".jpg"})
# Seconds after which something that must happen did not.
PATIENCE = 30


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", "d"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    return tmp_path


def batch(*paths, **options):
    return find_files(paths, SUFFIXES, "pictures", **options)


def find(*paths, **options):
    return batch(*paths, **options).files


def test_files_of_folders_are_sorted_and_known_by_their_suffix(folder):
    assert find(folder) == [folder / "a.JPG", folder / "b.png"]


def test_files_that_are_named_are_taken_whatever_their_suffix(folder):
    assert find(folder / "c.txt", folder) == [folder / name for name in ("c.txt", "a.JPG", "b.png")]


def test_a_file_named_twice_is_taken_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    relative = folder.relative_to(folder) / "b.png"
    assert find(folder / "b.png", folder, relative) == [folder / "b.png", folder / "a.JPG"]


def test_files_whose_results_would_overwrite_each_other_are_refused(folder):
    for name in ("b.jpg", "a.png"):
        (folder / name).touch()
    # All of them at once.
    both = (
        rf"same: '{folder}/a\.JPG' and '{folder}/a\.png'; '{folder}/b\.jpg' and '{folder}/b\.png':"
    )
    with pytest.raises(CodecDetError, match=both):
        find(folder, distinct_names=True)
    (folder / "a.png").unlink()
    (folder / "e.png" / "b.png").touch()
    with pytest.raises(CodecDetError, match="have the same: "):
        find(folder / "b.png", folder / "e.png", distinct_names=True)
    # Where nothing is written per file, all are wanted.
    names = [folder / name for name in ("a.JPG", "b.jpg", "b.png", "e.png/b.png")]
    assert find(folder, folder / "e.png") == names


def test_folders_of_folders_are_taken_when_asked_for(folder):
    for name in ("sub/b.png", "sub/deep/c.v2.jpg", "sub/.hidden/x.png", "sub/notes"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "sub" / "link").symlink_to(folder)
    found = batch(folder, recursive=True, distinct_names=True)
    # Results are named as the files are below the folder.
    assert found.names == {
        folder / "a.JPG": "a",
        folder / "b.png": "b",
        folder / "sub/b.png": "sub/b",
        folder / "sub/deep/c.v2.jpg": "sub/deep/c.v2",
    }
    assert set(found.others) == {folder / n for n in ("c.txt", "d", "sub/notes", "sub/link")}
    assert batch(folder / "sub/b.png", recursive=True).names == {folder / "sub/b.png": "b"}


def test_what_is_passed_over_is_named(folder):
    (folder / ".DS_Store").touch()
    files, folders = batch(folder).describe_others().splitlines()
    assert files.endswith(f"by name: '{folder}/c.txt', '{folder}/d'")
    assert folders == f"note: passed over without --recursive: '{folder}/e.png'"
    for i in range(30):
        (folder / f"{i:02}.heic").touch()
    files, _ = batch(folder).describe_others().splitlines()
    assert files.endswith("19.heic' and 12 more")
    assert batch(folder / "b.png").describe_others() == ""


def test_links_of_other_names_are_files_of_their_own(folder):
    (folder / "c.png").symlink_to(folder / "b.png")
    assert find(folder, distinct_names=True) == [folder / n for n in ("a.JPG", "b.png", "c.png")]


def test_links_to_nowhere_are_not_passed_over(folder):
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    assert {folder / "lost.png", folder / "loop.png"} <= set(find(folder))


def test_inputs_without_files_are_refused(folder):
    with pytest.raises(CodecDetError, match=r"none' does not exist: give files or folders of pic"):
        find(folder, folder / "none")
    with pytest.raises(CodecDetError, match=r"e\.png' has no pictures \(\.jpg, \.png\) in it$"):
        find(folder, folder / "e.png")
    (folder / "e.png" / "photo.heic").touch()
    with pytest.raises(CodecDetError, match=r"in it, only '.*photo\.heic'$"):
        find(folder / "e.png")
    with pytest.raises(CodecDetError, match=r"cannot look for pictures in .* name too long"):
        find(folder / ("x" * 300))


def test_results_and_failures_are_in_order_of_files(tmp_path):
    files = [tmp_path / str(i) for i in range(6)]
    # Each waits for the one after it, so that they end in reverse order.
    ended = [threading.Event() for _ in range(7)]
    ended[6].set()

    def work(path):
        i = int(path.name)
        assert ended[i + 1].wait(PATIENCE)
        ended[i].set()
        if i % 3 == 0:
            raise BitstreamError(f"number {i} is damaged")
        if i == 4:
            raise MemoryError
        return 10 * i

    results, failures = process(files, work, 6, "file")
    assert list(results.items()) == [(files[i], 10 * i) for i in (1, 2, 5)]
    assert failures == [
        Failure(files[0], "number 0 is damaged"),
        Failure(files[3], "number 3 is damaged"),
        Failure(files[4], "MemoryError"),
    ]
    assert describe_failures(failures, 6).splitlines() == [
        "error: 3 of 6 files failed:",
        f"  {files[0]}: number 0 is damaged",
        f"  {files[3]}: number 3 is damaged",
        f"  {files[4]}: MemoryError",
    ]


def test_what_would_be_waited_for_is_a_failure(tmp_path):
    pipe, file = tmp_path / "pipe.png", tmp_path / "file.png"
    os.mkfifo(pipe)
    file.touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        paths = [*find(tmp_path), Path(os.devnull)]
        results, failures = process(paths, lambda path: path.read_bytes(), 1, "file")
    assert results == {file: b""}
    assert [failure.reason for failure in failures] == [
        "it is a named pipe, not a file",
        "it is a socket, not a file",
        "it is a device, not a file",
    ]


def test_no_more_than_workers_are_busy_at_a_time(tmp_path):
    lock, busy, most = threading.Lock(), 0, 0
    both = threading.Barrier(2)

    def work(_):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        both.wait(PATIENCE)
        with lock:
            busy -= 1

    process([tmp_path / str(i) for i in range(10)], work, 2, "file")
    assert most == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_interruptions_and_bugs_end_the_work_at_once(tmp_path, error):
    files = [tmp_path / str(i) for i in range(5)]
    begun, goes_on, ended = [], threading.Event(), threading.Event()

    def work(path):
        begun.append(path)
        if path == files[0]:
            raise error
        assert goes_on.wait(PATIENCE)
        ended.set()

    with pytest.raises(error):
        process(files, work, 1, "file")
    # The second may have begun, and is not waited for; what follows never begins.
    assert not ended.is_set()
    goes_on.set()
    ended.wait(0.2)
    assert begun in (files[:1], files[:2])
