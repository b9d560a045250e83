"""The whole tool, with a stand-in for what runs points, and with tools/train_net.py itself."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from codec_det.lock import locked
from codec_det.sweep.state import states_of
from tests.conftest import CONFIGS
from tests.processes import start
from tests.sweeps import (
    StandIn,
    finish,
    interrupt,
    make_configs,
    points_of,
    record_of,
    study_of,
    write_study,
)
from tools import sweep
from tools.sweep import main

ROOT = CONFIGS.parent
ALL = [
    "codec", "baseline-low", "tft-low-seed_1", "jft-low-seed_1", "tft-low-seed_2", "jft-low-seed_2",
]  # fmt: skip


@pytest.fixture
def study_file(tmp_path, tiny_set):
    make_configs(tmp_path / "configs", tiny_set)
    return write_study(tmp_path, study_of(tmp_path))


@pytest.fixture
def stand_in(tmp_path, study_file, monkeypatch):
    program = StandIn(tmp_path, study_file)
    monkeypatch.setattr(sweep, "TRAIN_NET", program.path)
    return program


def names(calls):
    return [name for name, *_ in calls]


def statuses(study_file):
    points = points_of(study_file)
    return {name: str(state) for name, state in states_of(list(points.values())).items()}


def test_all_points_run_in_order_and_once(study_file, stand_in, capsys):
    assert main([str(study_file)]) == 0
    assert names(stand_in.calls()) == ALL
    assert set(statuses(study_file).values()) == {"done"}
    output = capsys.readouterr().out
    assert "6 points: 6 missing" in output
    assert "[2/6] baseline-low: started; console in " in output
    done = r"\[3/6\] tft-low-seed_1: done in 0:00:0\d, 36.5 box AP, 0.0945 bpp; elapsed 0:0"
    assert re.search(done, output)
    # Of five points, one T-FT is like one that is done; each takes 40 s by its log.
    assert "time left 0:00:40, not counting 2 points like none that has been done" in output
    assert "time left 0:00:00\n" in output
    out = study_file.parent / "out"
    assert output.endswith(
        f"6 of 6 points are done, in {out}\ncurves: tools/plot_rate_accuracy.py {out}\n"
    )
    assert main([str(study_file)]) == 0
    assert names(stand_in.calls()) == ALL
    assert "6 points: 6 done" in capsys.readouterr().out


def test_the_command_line_of_a_point(tmp_path, study_file, stand_in):
    assert main([str(study_file), "--num-gpus", "2", "MODEL.DEVICE", "cpu"]) == 0
    _, baseline, _, jft, *_ = stand_in.calls()
    configs, out = tmp_path / "configs", tmp_path / "out"
    assert jft == [
        "jft-low-seed_1", "--config-file", f"{configs}/jft.yaml", "--num-gpus", "2",
        "MODEL.CODEC.WEIGHTS", f"{out}/codec/model_final.pth",
        "MODEL.CODEC.TARGET_BPP", "0.25", "MODEL.CODEC.BETA", "4.0", "SEED", "1",
        "MODEL.DEVICE", "cpu", "OUTPUT_DIR", f"{out}/jft-low-seed_1",
    ]  # fmt: skip
    assert "--eval-only" in baseline
    assert "SEED" not in baseline


def test_dry_run_shows_states_and_times_and_runs_nothing(study_file, stand_in, capsys):
    points = points_of(study_file)
    for name in ("codec", "tft-low-seed_1", "jft-low-seed_2"):
        finish(points[name])
    log = "[01/01 00:00:00] Rank of current process: 0\n[01/01 01:02:03] end\n"
    (points["tft-low-seed_1"].folder / "log.txt").write_text(log)
    finish(points["baseline-low"], config={"OUTPUT_DIR": "out/baseline-low"})
    finish(points["jft-low-seed_1"], minutes=-1)
    before = sorted(study_file.parent.rglob("*"))
    assert main([str(study_file), "--dry-run"]) == 0
    rows = [re.split("  +", line) for line in capsys.readouterr().out.splitlines()]
    configs = study_file.parent / "configs"
    assert rows[0] == ["point", "config", "state", "estimate"]
    assert rows[2] == ["codec", f"{configs}/codec.yaml", "done"]
    assert rows[3][2].startswith("changed (DATASETS.")
    assert rows[4:8] == [
        ["tft-low-seed_1", f"{configs}/tft.yaml", "done"],
        ["jft-low-seed_1", f"{configs}/jft.yaml", "stale (codec)", "?"],
        ["tft-low-seed_2", f"{configs}/tft.yaml", "missing", "1:02:03"],
        ["jft-low-seed_2", f"{configs}/jft.yaml", "done"],
    ]
    assert rows[-2] == ["6 points: 3 done, 1 missing, 1 changed, 1 stale"]
    assert rows[-1] == [
        "time, one after the other: 1:02:03, not counting 2 points like none that has been done"
    ]
    assert sorted(study_file.parent.rglob("*")) == before
    assert stand_in.calls() == []


def test_changed_points_run_again_with_those_that_start_from_them(study_file, stand_in, capsys):
    assert main([str(study_file)]) == 0
    text = study_file.read_text().replace("beta: 2.0", "beta: 1.5")
    assert text != study_file.read_text()
    study_file.write_text(text)
    stand_in.learn(study_file)
    Path(stand_in.path.parent, "calls.jsonl").unlink()
    old = (study_file.parent / "out/codec/results.jsonl").read_text()
    capsys.readouterr()
    assert main([str(study_file)]) == 0
    assert names(stand_in.calls()) == ALL
    output = capsys.readouterr().out
    assert "6 points: 1 changed, 5 stale" in output
    assert "[1/6] codec: started, earlier files, changed (MODEL.CODEC.BETA), kept in" in output
    (moved,) = (study_file.parent / "out").glob("codec.old-*")
    assert (moved / "results.jsonl").read_text() == old
    assert len((study_file.parent / "out/codec/results.jsonl").read_text().splitlines()) == 1


def test_an_interrupted_point_is_resumed(study_file, stand_in):
    point = points_of(study_file)["codec"]
    interrupt(point)
    assert main([str(study_file)]) == 0
    resumed = [name for name, *words in stand_in.calls() if "--resume" in words]
    assert resumed == ["codec"]


def test_a_trained_point_is_evaluated_again_and_stays_where_it_is(study_file, stand_in, capsys):
    assert main([str(study_file)]) == 0
    for point in points_of(study_file).values():
        (point.folder / "last_checkpoint").write_text("model_final.pth")
    stand_in.learn(study_file, {"MODEL.CODEC.BITSTREAM": "True"})
    before = len(stand_in.calls())
    assert main([str(study_file), "MODEL.CODEC.BITSTREAM", "True"]) == 0
    again = stand_in.calls()[before:]
    assert sorted(names(again)) == sorted(ALL)
    assert all("--eval-only" in call for call in again)
    assert "codec: started, to be evaluated again, not trained;" in capsys.readouterr().out
    old = [path.name for path in (study_file.parent / "out").glob("*.old-*")]
    assert [name.partition(".old-")[0] for name in old] == ["baseline-low"]


def test_failures_are_tried_again_and_the_others_run(study_file, stand_in, capsys):
    stand_in.fail("tft-low-seed_1", 1, times=1)
    stand_in.fail("jft-low-seed_1", 3, times=9)
    assert main([str(study_file), "--retries", "1"]) == 1
    calls = stand_in.calls()
    tft, jft = "tft-low-seed_1", "jft-low-seed_1"
    assert names(calls) == [*ALL[:2], tft, tft, jft, jft, *ALL[4:]]
    # After its first checkpoint, the second attempt goes on from there.
    assert ["--resume" in words for name, *words in calls if name == tft] == [False, True]
    output = capsys.readouterr().out
    assert f"{tft}: failed (exit status 1 on " in output
    assert "something broke); it will be tried again" in output
    assert f"{jft}: failed (exit status 3 on " in output
    console = study_file.parent / "out" / jft / "console.txt"
    report = output[output.index("1 of 6 points failed:") :]
    assert f"  {jft}: exit status 3 on " in report
    assert f"something broke; console: {console}\n5 of 6 points are done" in report
    assert console.read_text() == "something broke\n" * 2


def test_wrong_input_is_not_tried_again_and_takes_along_what_starts_from_it(
    study_file, stand_in, capsys
):
    stand_in.fail("codec", 2, times=9)
    assert main([str(study_file)]) == 1
    assert names(stand_in.calls()) == ["codec"]
    output = capsys.readouterr().out
    assert "6 of 6 points failed:" in output
    assert "tft-low-seed_1: not run, as it starts from codec, which failed" in output
    assert "curves" not in output


def test_a_run_that_leaves_no_result_has_failed(study_file, stand_in, capsys):
    record = record_of(points_of(study_file)["codec"], iteration=1)
    Path(stand_in.path.parent, "results/codec.json").write_text(json.dumps(record))
    assert main([str(study_file), "--retries", "0"]) == 1
    output = capsys.readouterr().out
    assert re.search("codec: ended on .* without a result of its config: missing;", output)


def test_two_sweeps_in_one_folder(study_file, stand_in, capsys):
    out = study_file.parent / "out"
    with locked(out, "output_dir"):
        assert main([str(study_file)]) == 2
    error = capsys.readouterr().err
    assert f"error: another program works in output_dir '{out}' (process {os.getpid()} on" in error
    assert stand_in.calls() == []
    assert main([str(study_file)]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("grid:", "grids:"), "unknown key 'grids': did you mean grid?"),
        (("beta: 4.0", "beta: -4.0"), "point jft-low-seed_1: MODEL.CODEC.BETA is -4.0"),
    ],
)
def test_mistakes_get_one_line_before_anything_runs(change, message, study_file, stand_in, capsys):
    study_file.write_text(study_file.read_text().replace(*change))
    assert main([str(study_file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert stand_in.calls() == []


def test_data_sets_are_checked_before_anything_runs(study_file, stand_in, capsys):
    missing = "[['other', 'missing.json', 'images']]"
    opts = ["DATASETS.COCO_FORMAT", missing, "DATASETS.TEST", "('other',)"]
    assert main([str(study_file), *opts, "DATASETS.TRAIN", "('other',)"]) == 2
    error = capsys.readouterr().err
    assert "error: point codec: Cannot read the annotation file missing.json" in error
    assert stand_in.calls() == []


def test_more_gpus_than_there_are(study_file, stand_in, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main([str(study_file), "--num-gpus", "2", "MODEL.DEVICE", "cuda"]) == 2
    assert "error: --num-gpus 2, but this machine has 1 usable GPU" in capsys.readouterr().err
    assert stand_in.calls() == []


def test_without_ray(study_file, stand_in, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([str(study_file), "--address", "auto"]) == 2
    error = capsys.readouterr().err
    assert (
        "error: --address needs Ray, which is not installed: pip install 'codec_det[sweep]'"
        in error
    )
    assert stand_in.calls() == []


def test_a_dry_run_says_that_curves_will_be_of_two_kinds_of_bits(tmp_path, study_file, capsys):
    assert main([str(study_file), "--dry-run"]) == 0
    assert "rates:" not in capsys.readouterr().out
    study = study_of(tmp_path)
    jpeg = {"regimes": ["baseline"], "codec": "jpeg", "qualities": [10, 20]}
    study["grid"].append({**jpeg, "options": {"MODEL.CODEC.WEIGHTS": ""}})
    assert main([str(write_study(tmp_path, study)), "--dry-run"]) == 0
    assert "rates: estimated bits of 5 points, real bits of 2; curves of both are drawn" in (
        capsys.readouterr().out
    )


def test_another_folder_has_points_of_its_own(study_file, tmp_path, capsys):
    for point in points_of(study_file).values():
        finish(point)
    assert main([str(study_file), "--dry-run"]) == 0
    assert "6 points: 6 done" in capsys.readouterr().out
    assert main([str(study_file), "--dry-run", "--output-dir", str(tmp_path / "other")]) == 0
    assert "6 points: 6 missing" in capsys.readouterr().out


def test_options_may_stand_between_config_keys(study_file, stand_in, capsys):
    opts = ["SOLVER.MAX_ITER", "2", "--dry-run", "SOLVER.BASE_LR", "0.5"]
    assert main([str(study_file), *opts]) == 0
    assert "6 missing" in capsys.readouterr().out


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "tools/sweep.py configs/study/shapes.yaml --dry-run" in text
    assert "file system that all machines share" in text


def run_of(pid):
    """Process ids of the runs that a sweep has started: none or one."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        # Libraries, too, start programs while they are imported.
        with contextlib.suppress(OSError):
            if b"train_net.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="finds processes by /proc"
)
def test_stopped_in_the_middle_and_run_to_its_end(tmp_path, tiny_set):
    options = {"SOLVER.MAX_ITER": 12, "SOLVER.CHECKPOINT_PERIOD": 1}
    make_configs(tmp_path / "configs", tiny_set, **options)
    study = study_of(tmp_path)
    study.update(options={}, prepare={}, seeds=[1])
    study["grid"][0]["regimes"] = ["jft"]
    study_file = write_study(tmp_path, study)
    folder = tmp_path / "out/jft-low-seed_1"
    command = [sys.executable, str(ROOT / "tools/sweep.py"), str(study_file)]

    def stop(number):
        """Start the sweep, send a signal after a checkpoint; exit status, messages."""
        for tag in folder.glob("last_checkpoint"):
            tag.rename(tag.with_name("tag"))  # to see the next one
        process = start(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: run_of(process.pid) and (folder / "metrics.json").exists())
        (child,) = run_of(process.pid)
        wait_for((folder / "last_checkpoint").exists)
        process.send_signal(number)
        _, messages = process.communicate(timeout=60)
        wait_for(lambda: not alive(child), 10)
        return process.returncode, messages

    status, messages = stop(signal.SIGINT)
    assert status == 130
    assert "run the same command again to go on" in messages
    assert statuses(study_file) == {"jft-low-seed_1": "interrupted"}
    stopped_at = (folder / "last_checkpoint").read_text()
    assert not (folder / "results.jsonl").exists()
    # Nor does its run live on when a sweep is killed.
    last = int(re.search(r"\d+", stopped_at)[0])
    assert 0 <= last < 11
    process = start(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: run_of(process.pid))
    (child,) = run_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(child), 10)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "jft-low-seed_1: started, to be resumed; console in" in done.stdout
    assert statuses(study_file) == {"jft-low-seed_1": "done"}
    assert f"Starting training from iteration {last + 1}" in (folder / "log.txt").read_text()
