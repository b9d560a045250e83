"""How tools end: in one line, with a status that says why, whatever the streams are."""

import ast
import errno
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from codec_det.errors import ConfigError
from tests.processes import default_ctrl_c
from tools.command_line import BROKEN_PIPE, INTERRUPTED, run_command

ROOT = Path(__file__).parent.parent
TOOLS = sorted(path for path in (ROOT / "tools").glob("[!_]*.py") if path.stem != "command_line")
PROGRAM = """
import os, signal, sys
from command_line import run_command, run_program
from argparse import ArgumentParser
def work(args):
{work}
def main():
    return run_command(ArgumentParser().parse_args, work, [], interrupted="all is well")
{before}
run_program(main)
"""


def program(work, before="", **options):
    """A tool of its own, as a process."""
    indented = "".join(f"    {line}\n" for line in work.splitlines())
    code = PROGRAM.format(work=indented, before=before)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    environment |= {"PYTHONUNBUFFERED": "", **options.pop("env", {})}
    with default_ctrl_c():
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            stderr=subprocess.PIPE,
            check=False,
            **{"stdout": subprocess.PIPE, **options},
        )


def status_of(raised, capsys):
    """Status and messages of a tool whose work raises this."""
    parser = ArgumentParser()
    parser.add_argument("folder")

    def work(args):
        raise raised

    status = run_command(parser.parse_args, work, ["here"], interrupted="{folder} is whole")
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (ConfigError("KEY is 0: give 1"), 2, "error: KEY is 0: give 1\n"),
        (FloatingPointError("diverged"), 1, "error: diverged\n"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: here is whole\n"),
        (KeyboardInterrupt("resume it"), INTERRUPTED, "interrupted: resume it\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.pth"),
            2,
            "error: [Errno 28] No space left on device: 'x.pth': make room, then run the same "
            "command again\n",
        ),
        (
            ModuleNotFoundError("No module named 'absent_package.x'", name="absent_package.x"),
            2,
            "error: absent_package is not installed: docs/install.md names the extra that "
            "brings it\n",
        ),
    ],
)
def test_what_users_can_mend_is_one_line(capsys, raised, status, message):
    assert status_of(raised, capsys) == (status, message)


@pytest.mark.parametrize(
    "raised",
    [ValueError("x"), FileNotFoundError("x"), ModuleNotFoundError("x", name="codec_det.absent")],
    ids=repr,
)
def test_defects_are_not_hidden(capsys, raised):
    with pytest.raises(type(raised)):
        status_of(raised, capsys)


def test_work_without_a_status_ends_well():
    assert run_command(ArgumentParser().parse_args, lambda args: None, []) == 0
    assert run_command(ArgumentParser().parse_args, lambda args: 1, []) == 1


LOG = """
import logging
logging.basicConfig(filename=sys.argv[1], encoding="ascii") if sys.argv[1:] else None
logging.warning("\\u03b2 = %s", 1)
print("\\u03b2")
"""


def test_characters_that_a_stream_lacks_are_escaped(tmp_path):
    done = program(LOG, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, b"\\u03b2\n")
    assert done.stderr == b"WARNING:root:\\u03b2 = 1\n"
    log = tmp_path / "log.txt"
    done = program(LOG.replace("sys.argv[1:]", "True").replace("sys.argv[1]", repr(str(log))))
    assert (done.returncode, done.stderr) == (0, b"")
    assert log.read_text() == "WARNING:root:\\u03b2 = 1\n"


@pytest.mark.parametrize(
    "work",
    [
        "for i in range(99999): print(i)",
        "print('few')",
        # logging would print a traceback for each line, and go on.
        "import logging\nlogging.basicConfig(stream=sys.stdout)\nlogging.error('x')",
        "os.dup2(1, 2), print('x', file=sys.stderr)",
    ],
)
def test_a_reader_that_goes_away_ends_it_quietly(work):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stdout:
        done = program(work, stdout=stdout)
    assert done.returncode == BROKEN_PIPE
    assert b"Error" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output_is_one_line():
    with Path("/dev/full").open("w") as stdout:
        done = program("print('x')", stdout=stdout)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: [Errno 28] No space left on device: make room")
    assert done.stderr.count(b"\n") == 1


def test_closed_streams_are_none_that_matter():
    work = "print('x'), print('y', file=sys.stderr), sys.stderr.write('z')"
    done = program(work, preexec_fn=lambda: (os.close(1), os.close(2)))
    assert done.returncode == 0


# As a pool of threads has: an orderly end would wait for it.
THREAD = "import threading, time; threading.Thread(target=time.sleep, args=[60]).start()"
CTRL_C = "os.kill(os.getpid(), signal.SIGINT)"
SWALLOWED = """
sys.path.insert(0, {folder!r})
try:
    import interrupted_while_loading
except BaseException:
    pass
print("went on")
"""


def test_ctrl_c_while_modules_load_is_not_swallowed(tmp_path):
    text = f"import os, signal\n{CTRL_C}\nfor i in range(1000): pass\n"
    (tmp_path / "interrupted_while_loading.py").write_text(text)
    work = SWALLOWED.format(folder=str(tmp_path))
    done = program(work)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, b"", b"interrupted\n")
    done = program(
        f"import command_line\ncommand_line.say_after_ctrl_c(lambda: 'half is done')\n{work}"
    )
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"interrupted: half is done\n")


@pytest.mark.parametrize(
    ("work", "before", "message"),
    [
        (CTRL_C, "", b"interrupted: all is well\n"),
        ("pass", CTRL_C, b"interrupted\n"),
        (f"{THREAD}\n{CTRL_C}", "", b"interrupted: all is well\n"),
    ],
)
def test_ctrl_c_at_any_moment_is_one_line(work, before, message):
    done = program(work, before, timeout=30)
    assert (done.returncode, done.stderr) == (INTERRUPTED, message)


def test_ctrl_c_stays_ignored_where_it_is():
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    done = program(f"{CTRL_C}\nprint('went on')", **ignored)
    assert (done.returncode, done.stdout) == (0, b"went on\n")


THREADS = """
import numpy
square = numpy.ones((512, 512))
square @ square
print(len(os.listdir("/proc/self/task")), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


def test_products_of_numpy_take_one_thread_unless_told(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert program(THREADS).stdout == b"1 1\n"
    assert program(THREADS, env={"OPENBLAS_NUM_THREADS": "2"}).stdout.endswith(b" 2\n")


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_every_tool_ends_so(path):
    body = ast.parse(path.read_text()).body
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [node.module for node in imports[:2]] == ["__future__", "command_line"]
    assert ast.unparse(body[-1]) == "if __name__ == '__main__':\n    run_program(main)"
    (main,) = (n for n in body if isinstance(n, ast.FunctionDef) and n.name == "main")
    assert ast.unparse(main.body[-1]).startswith("return run_command(")
