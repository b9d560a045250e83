"""Every tool with bad and odd inputs: the table is in tests/bad_inputs.

A tool refuses what it cannot use with exit status 2 and one line that names the culprit, takes what
is merely odd, ends at once after Ctrl-C, never hangs, and never loses or half writes a file.
"""

import hashlib
import shutil
from collections import Counter
from fnmatch import fnmatch

import pytest

from tests.bad_inputs import ROWS, TODO
from tests.bad_inputs.place import build
from tests.bad_inputs.process import run
from tests.bad_inputs.row import INTERRUPTED, REFUSED
from tests.test_startup import TOOLS


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The folder that all rows have copies of."""
    folder = tmp_path_factory.mktemp("place")
    build(folder)
    return folder


def files_in(folder):
    """Hash of every file by relative path; links and what is no file, by what they are."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            found[str(path.relative_to(folder))] = str(path.lstat().st_mode)
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha1(path.read_bytes()).hexdigest()
    return found


def marked(row):
    """The row as a parameter; one that is known to fail must fail."""
    reason = TODO.get(row.name)
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(row, id=row.name, marks=marks)


@pytest.mark.parametrize("row", [marked(row) for row in ROWS])
def test_what_is_odd_is_answered(row, place, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(place, folder, symlinks=True)
    try:
        if row.prepare:
            row.prepare(folder)
        before = files_in(folder)
        outcome = run(row, folder)
        check_answer(row, outcome)
        check_files(row, folder, before)
        if row.check:
            row.check(folder, outcome.out + outcome.err)
    finally:
        shutil.rmtree(folder)


def check_answer(row, outcome):
    printed = f"\n--- stdout\n{outcome.out[-3000:]}\n--- stderr\n{outcome.err[-3000:]}"
    assert outcome.status is not None, f"hangs: not done after {row.seconds} s{printed}"
    for noise in ("Traceback", "Exception ignored", "Logging error"):
        assert noise not in outcome.out + outcome.err, printed
    assert outcome.status == row.status, printed
    assert not outcome.left_behind, f"processes live on{printed}"
    if row.status == REFUSED:
        said = [line for line in outcome.err.splitlines() if "error: " in line]
        assert len(said) == 1, printed
        assert outcome.err.endswith(f"{said[0]}\n"), printed
        for culprit in row.culprits:
            assert culprit in said[0], printed
        return
    if row.status == INTERRUPTED:
        assert "interrupted" in outcome.err.splitlines()[-1], printed
    for culprit in row.culprits:
        assert culprit in outcome.out + outcome.err, printed


def check_files(row, folder, before):
    after = files_in(folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    # The lock of a folder stays, and its log may say what was refused.
    allowed = ("*.lock", "*/log.txt*", *row.writes)
    unexpected = {name for name in changed if not any(fnmatch(name, p) for p in allowed)}
    assert not unexpected, f"files are new, changed or lost: {sorted(unexpected)}"
    unfinished = {name for name in after if ".partial" in name or ".tmp" in name}
    assert not unfinished, "files are half written"
    missing = {name for name in row.makes if not (folder / name).is_file()}
    assert not missing, "files are missing"


def test_the_table_has_every_tool_and_no_row_twice():
    names = Counter(row.name for row in ROWS)
    assert max(names.values()) == 1
    assert {row.command.split()[0] for row in ROWS} == set(TOOLS)
    assert len(ROWS) >= 150
    assert TODO.keys() <= names.keys()
