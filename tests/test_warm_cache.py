"""tools/warm_cache.py, as called from a shell and in processes of its own, on twelve pictures."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codec_det.conventional import CodedCache, build_picture_codec
from codec_det.data.cache_warmup import Totals, size_warning
from codec_det.data.image_io import read_image
from codec_det.data.shapes import generate
from codec_det.deploy.cores import usable_cores
from tests.processes import start as start_process
from tools import warm_cache as tool

ROOT = Path(__file__).parent.parent
WEBP = ("MODEL.CODEC.NAME", "webp", "MODEL.CODEC.QUALITY", 20)
PATIENCE = 60  # seconds until a process of ours must have done what it is waited for

PROGRAM = """
import os, pathlib, shutil, signal, sys, time
source, target = sys.argv[1:]
if "NAP" in os.environ:
    pathlib.Path(os.environ["STARTED"]).touch()
    time.sleep(float(os.environ["NAP"]))
if "MURDER" in os.environ:
    os.kill(os.getppid(), signal.SIGKILL)
if "FAIL" in os.environ:
    sys.exit("out of order")
shutil.copy(source, target)
"""


def run(*arguments):
    return tool.main(list(map(str, arguments)))


def in_cache(folder):
    return ("MODEL.CODEC.CACHE", str(folder))


def entries(folder):
    return {path.name for path in Path(folder).glob("??/*.coded")}


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def counts(text):
    """Coded, found and failed of the last line."""
    return tuple(map(int, re.match(r"coded (\d+), found (\d+), failed (\d+): ", text).groups()))


@pytest.fixture
def external(tmp_path):
    """Keys of a codec whose program copies its input, and can be told to sleep, kill or fail."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"{sys.executable} {program} {{input}} {{output}}"
    settings = [["encode_command", command], ["decode_command", command]]
    return ("MODEL.CODEC.NAME", "external", "MODEL.CODEC.SETTINGS", settings)


@pytest.fixture
def start(tmp_path, tiny_set):
    """``start(*arguments, **environment)``: the tool in a process of its own, ended afterwards."""
    processes = []

    def make(*arguments, **environment):
        (tmp_path / "tmp").mkdir(exist_ok=True)
        own = {"TMPDIR": str(tmp_path / "tmp"), "STARTED": str(tmp_path / "started")}
        processes.append(
            start_process(
                [sys.executable, "-W", "ignore", "tools/warm_cache.py"]
                + [str(x) for x in (*arguments, *tiny_set)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **own, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield make
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_with(text):
    """Ids of running processes whose environment has ``text``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # ended meanwhile, or somebody else's
            pass
    return found


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_an_evaluation_afterwards_encodes_nothing(tiny_cfg, tiny_set, tmp_path, capsys, scale):
    from codec_det.data.loader import build_train_loader
    from codec_det.training.trainer import Trainer

    opts = (*WEBP, *in_cache(tmp_path / "cache"), *tiny_set, "MODEL.CODEC.SCALE", scale)
    assert run(*opts) == 0
    assert counts(last_line(capsys)) == (12, 0, 0)
    assert run(*opts) == 0
    last = last_line(capsys)
    assert counts(last) == (0, 12, 0)
    cfg = tiny_cfg(*opts, "MODEL.WEIGHTS", "", "SOLVER.IMS_PER_BATCH", 4)
    rate = Trainer.test(cfg, Trainer.build_model(cfg))["rate"]
    assert rate["encoded"] == 0
    assert rate["images"] == 12
    assert f", {rate['bpp']:.4f} bpp;" in last
    for entry in next(iter(build_train_loader(cfg))):
        assert math.isnan(entry["measured"]["encode_seconds"])


@pytest.mark.parametrize("workers", [1, 3])
def test_the_last_line_adds_up(tiny_set, tmp_path, capsys, workers):
    opts = (*WEBP, *in_cache(tmp_path / "cache"), *tiny_set)
    assert run("--workers", workers, "--sets", "test", *opts) == 0
    lines = capsys.readouterr().out.splitlines()
    codec = build_picture_codec("webp", 20)
    assert f"12 of 12 pictures, webp at 20, {codec.version()}" in lines[-2]
    figures = re.search(
        r": (\d+) bytes, ([\d.]+) bpp; ([\d.]+) s with (\d) at a time, ([\d.]+) s of CPU, "
        r"([\d.]+) coded pictures per second and core",
        lines[-1],
    )
    size, bpp, seconds, at_a_time, cpu, speed = map(float, figures.groups())
    images = Path(json.loads(tiny_set[1].replace("'", '"'))[0][2])
    sizes = [len(codec.encode(read_image(path, "RGB"))) for path in images.iterdir()]
    assert size == sum(sizes)
    assert bpp == pytest.approx(8 * size / (12 * 64 * 64), abs=1e-4)
    assert at_a_time == workers
    assert cpu > 0
    cores = min(workers, usable_cores())
    assert speed == pytest.approx(12 / seconds / cores, abs=0.01 * speed + 0.01 * speed / seconds)


def test_parts_are_disjoint_and_complete(tiny_set, tmp_path, capsys):
    opts = ("--sets", "train", "test", *WEBP, *tiny_set)
    assert run(*opts, *in_cache(tmp_path / "all")) == 0
    parts = []
    for i in range(1, 6):
        assert run("--part", f"{i}/5", *opts, *in_cache(tmp_path / str(i))) == 0
        parts.append(entries(tmp_path / str(i)))
    assert [len(part) for part in parts] == [3, 3, 2, 2, 2]
    assert len(set().union(*parts)) == 12
    assert set().union(*parts) == entries(tmp_path / "all")


def test_a_damaged_picture_is_named_and_does_not_stop_the_others(tmp_path, capsys):
    json_file = generate(tmp_path / "set", 4, (64, 64), progress=False)
    bad = tmp_path / "set" / "images" / "000002.png"
    bad.write_bytes(bad.read_bytes()[:500])
    name = f"warm_{tmp_path.name}"
    own = ("DATASETS.COCO_FORMAT", [[name, str(json_file), str(bad.parent)]])
    sets = ("DATASETS.TRAIN", "()", "DATASETS.TEST", (name,))
    assert run(*WEBP, *in_cache(tmp_path / "cache"), *own, *sets) == 1
    captured = capsys.readouterr()
    assert counts(captured.out.splitlines()[-1]) == (3, 0, 1)
    assert "error: 1 of 4 files failed:" in captured.err
    assert f"  {bad}: " in captured.err
    assert len(entries(tmp_path / "cache")) == 3


def test_it_warns_where_the_cache_is_too_small(tiny_set, tmp_path, capsys):
    opts = (*WEBP, *in_cache(tmp_path / "cache"), *tiny_set)
    assert run(*opts, "MODEL.CODEC.CACHE_GB", 1e-6) == 0
    captured = capsys.readouterr().err
    assert "warning: 12 pictures will take about" in captured
    assert "the first will be removed again" in captured
    named = float(re.search(r"Set it to ([\d.e-]+),", captured)[1])
    assert run(*opts, "MODEL.CODEC.CACHE_GB", named) == 0
    assert "warning:" not in capsys.readouterr().err
    assert len(entries(tmp_path / "cache")) == 12


def test_sizes_are_estimated_from_the_first_pictures(tmp_path):
    totals = Totals(coded=2, found=2, size=4 * (2**20 - 36), pixels=1)
    limit = CodedCache(tmp_path, 100 * 2**20)
    assert size_warning(totals, 100, 0, limit) is None
    message = size_warning(totals, 3 * 1024, 0, limit)
    assert "take about 3 GiB" in message
    assert "CACHE_GB is 0.0977" in message
    assert "Set it to 3.3," in message
    assert size_warning(Totals(), 100, 100, limit) is None
    unlimited = CodedCache(tmp_path, 2**80)
    assert "the disk of" in size_warning(totals, 2**40, 2**40, unlimited)


def test_it_stops_where_nothing_works_any_more(external, tiny_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    monkeypatch.setattr(tool, "MAX_FAILURES_IN_A_ROW", 4)
    assert run(*external, *in_cache(tmp_path / "cache"), *tiny_set) == 2
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
    assert "4 pictures in a row failed" in line


def test_a_killed_worker_is_an_error(external, tiny_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MURDER", "1")
    assert run(*external, *in_cache(tmp_path / "cache"), *tiny_set) == 2
    assert "error: a worker was killed" in capsys.readouterr().err


def test_two_at_once_on_the_same_cache_do_no_harm(start, tiny_set, tmp_path, capsys):
    opts = ("--workers", 2, *WEBP, *in_cache(tmp_path / "cache"))
    both = [start(*opts), start(*opts)]
    for process in both:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        coded, found, failed = counts(output.splitlines()[-1])
        assert (coded + found, failed) == (12, 0)
    assert len(entries(tmp_path / "cache")) == 12
    assert not list((tmp_path / "cache").glob("??/*.partial"))
    # Damaged entries would be coded again.
    assert run(*opts, *tiny_set) == 0
    assert counts(last_line(capsys)) == (0, 12, 0)


def test_a_killed_one_resumes_and_leaves_no_process(start, external, tiny_set, tmp_path, capsys):
    opts = ("--workers", 2, *external, *in_cache(tmp_path / "cache"))
    process = start(*opts, NAP="0.5")
    wait_until(lambda: len(entries(tmp_path / "cache")) >= 3)
    process.kill()
    wait_until(lambda: not processes_with(str(tmp_path / "started")))
    kept = len(entries(tmp_path / "cache"))
    assert 3 <= kept < 12
    assert run(*opts, *tiny_set) == 0
    assert counts(last_line(capsys)) == (12 - kept, kept, 0)


def test_ctrl_c_stops_it_and_its_encoders_at_once(start, external, tmp_path):
    process = start("--workers", 2, *external, *in_cache(tmp_path / "cache"), NAP="600")
    wait_until((tmp_path / "started").exists)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("interrupted: what is coded is kept")
    assert "Traceback" not in errors
    wait_until(lambda: not processes_with(str(tmp_path / "started")))
    # Nor do they leave temporary files.
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "MODEL.CODEC.NAME is bmshj2018-hyperprior"),
        (("--sets", "val", *WEBP), "--sets val: choose train, test or both"),
        (("--sets", "test", *WEBP, "MODEL.CODEC.QUALITY", 101), "quality 101"),
        ((*WEBP, "MODEL.CODEC.CACHE", ""), "MODEL.CODEC.CACHE is ''"),
        ((*WEBP, "DATASETS.TEST", "('no_set',)"), "data set 'no_set' is not registered"),
        (("--part", "13/13", *WEBP), "no picture in --part 13/13 of the 12"),
        (("MODEL.CODEC.NAMES", "webp"), "unknown config key MODEL.CODEC.NAMES"),
    ],
)
def test_what_cannot_work_is_refused(tiny_set, tmp_path, capsys, arguments, message):
    assert run(*arguments[:2], *in_cache(tmp_path / "cache"), *tiny_set, *arguments[2:]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("part", ["3/2", "0/2", "2", "a/b"])
def test_parts_that_cannot_be_are_refused(capsys, part):
    with pytest.raises(SystemExit) as stopped:
        run("--part", part, *WEBP)
    assert stopped.value.code == 2
    assert f"'{part}'" in capsys.readouterr().err


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "parallel efficiency" in text
    for option in ("--part", "--workers", "--sets", "MODEL.CODEC.CACHE"):
        assert option in text
