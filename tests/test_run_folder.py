"""OUTPUT_DIR: what evaluation finds in it, how a run goes on, and that none is lost."""

import json
import logging
import shutil
import signal
from pathlib import Path

import pytest
import torch

from codec_det.config import load_config
from codec_det.config_differences import training_differences
from codec_det.errors import CodecDetError, ConfigError
from codec_det.lock import locked
from codec_det.run_folder import check_unused, config_as_trained, replacing
from codec_det.training.checkpoint import ChainCheckpointer
from codec_det.training.trainer import Trainer
from tests.conftest import CONFIGS
from tests.test_train_net import command, weights
from tools.train_net import main


@pytest.fixture(autouse=True)
def _closed_streams(monkeypatch):
    """Loggers of one run after the other in this process write to what earlier tests captured."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_set):
    """The output folder of a finished run."""
    output = tmp_path_factory.mktemp("finished") / "run"
    assert main(command(output, *tiny_set)) == 0
    return output


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it that may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def records(folder):
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


def kept(folder):
    """What must not be lost of a run."""
    names = ("config.yaml", "results.jsonl", "last_checkpoint", "model_final.pth", "metrics.json")
    return {name: Path(folder, name).read_bytes() for name in names}


def error_of(capsys):
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("with_config_file", [False, True])
def test_evaluating_a_run_is_evaluating_what_it_trained(run, tiny_set, caplog, with_config_file):
    (trained,) = records(run)
    key = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"
    opts = ["OUTPUT_DIR", str(run), key, "0.2"]
    if with_config_file:
        # Whose schedule is another than the run's was.
        opts = ["--config-file", str(CONFIGS / "shapes" / "jft.yaml"), *opts, *tiny_set]
    with caplog.at_level(logging.INFO):
        assert main(["--eval-only", *opts]) == 0
    assert f"Weights: {run}/model_final.pth, iteration 4" in caplog.text
    record = records(run)[-1]
    assert record["weights_sha256"] == trained["weights_sha256"]
    assert record["iteration"] == 4
    assert record["config"][key] == 0.2
    assert training_differences(record["config"], trained["config"]) == set()
    assert record["config"]["SOLVER.MAX_ITER"] == 4
    assert record["results"]["rate"]["bpp"] == trained["results"]["rate"]["bpp"]


def test_an_evaluation_of_other_weights_leaves_the_config_of_the_training(run, tiny_set):
    before = kept(run)
    opts = ["MODEL.WEIGHTS", str(run / "model_0000001.pth"), "MODEL.CODEC.BETA", "7.0"]
    assert main(command(run, *tiny_set, *opts, flags=["--eval-only"])) == 0
    assert kept(run)["config.yaml"] == before["config.yaml"]
    assert records(run)[-1]["iteration"] is None


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.MAX_ITER", "9"], "SOLVER.MAX_ITER was 4 when the weights in OUTPUT_DIR"),
        (["MODEL.CODEC.WEIGHTS", "x.pth"], "MODEL.CODEC.WEIGHTS was '' when the weights"),
        (["DATASETS.TEST", "()"], "DATASETS.TEST is empty: there is nothing to evaluate on"),
    ],
)
def test_what_evaluation_cannot_change_is_refused(run, capsys, opts, message):
    before = kept(run)
    assert main(["--eval-only", "OUTPUT_DIR", str(run), *opts]) == 2
    assert message in error_of(capsys)
    assert kept(run) == before


def test_evaluation_with_the_config_of_another_regime_is_refused(run):
    cfg = load_config(str(CONFIGS / "shapes" / "baseline.yaml"), ["OUTPUT_DIR", str(run)])
    with pytest.raises(ConfigError, match=r"a training of J-FT, and the config is of baseline"):
        config_as_trained(cfg, [])


def test_a_test_set_may_be_added_and_the_training_set_stays(run, tiny_set):
    ((name, *files),) = json.loads(tiny_set[1].replace("'", '"'))
    sets = ["DATASETS.TEST", "('other',)", "DATASETS.COCO_FORMAT"]
    config = str(run / "config.yaml")

    def evaluated(listed):
        opts = ["OUTPUT_DIR", str(run), *sets, str(listed)]
        return config_as_trained(load_config(config, opts), opts)[0]

    assert evaluated([[name, *files], ["other", *files]]).DATASETS.TEST == ("other",)
    with pytest.raises(ConfigError, match=r"DATASETS\.COCO_FORMAT was"):
        evaluated([[name, "other.json", files[1]], ["other", *files]])


def test_without_a_checkpoint_there_is_nothing_to_evaluate(tmp_path, tiny_set, capsys):
    assert main(command(tmp_path, *tiny_set, flags=["--eval-only"])) == 2
    assert f"'{tmp_path}' has no checkpoint of J-FT to evaluate" in error_of(capsys)
    assert not Path(tmp_path, "results.jsonl").exists()


def test_where_nothing_trains_the_weights_of_the_config_are_evaluated(tmp_path, tiny_set):
    nothing = ["MODEL.CODEC.TRAINABLE", "[]", "MODEL.DETECTOR.TRAINABLE", "False"]
    arguments = command(tmp_path, *tiny_set, *nothing, flags=["--eval-only"])
    assert main(arguments) == 0
    assert main(["--eval-only", "OUTPUT_DIR", str(tmp_path)]) == 0
    first, second = records(tmp_path)
    assert first["regime"] == second["regime"] == "baseline"
    assert first["iteration"] is None


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.ROI_BOX_HEAD.FC_DIM", "24"], "model_final.pth': the weights lack 0 tensors"),
        (["MODEL.CODEC.N", "12"], "model_final.pth': the weights hold another codec"),
        (["SOLVER.MAX_ITER", "3"], "SOLVER.MAX_ITER is 3, but the last checkpoint in OUTPUT_DIR"),
        (["SOLVER.OPTIMIZER", "SGD"], "its optimizer is not SOLVER.OPTIMIZER SGD"),
        (["MODEL.DETECTOR.TRAINABLE", "False"], "another regime or optimizer wrote it"),
    ],
)
def test_what_does_not_fit_does_not_go_on(run, tiny_set, capsys, opts, message):
    before = kept(run)
    assert main(command(run, *tiny_set, "SOLVER.MAX_ITER", "6", *opts, flags=["--resume"])) == 2
    error = error_of(capsys)
    assert message in error
    assert "delete" not in error
    assert {k: v for k, v in kept(run).items() if k != "metrics.json"} == {
        k: v for k, v in before.items() if k != "metrics.json"
    }


def test_learning_rates_of_the_config_apply_to_what_goes_on(run, tiny_set):
    opts = ["SOLVER.MAX_ITER", "6", "SOLVER.BASE_LR", "1e-30", "SOLVER.CODEC_LR", "2e-30"]
    opts += ["SOLVER.QUANTILES_LR", "3e-30"]
    before = weights(run)
    assert main(command(run, *tiny_set, *opts, flags=["--resume"])) == 0
    after = weights(run)
    trained = [key for key in before if "weight" in key and "norm" not in key]
    assert all(torch.equal(before[key], after[key]) for key in trained)
    assert records(run)[-1]["iteration"] == 6


def test_a_run_is_overwritten_only_if_that_is_asked_for(run, tiny_set, capsys):
    before = kept(run)
    arguments = command(run, *tiny_set, "SOLVER.MAX_ITER", "1")
    assert main(arguments) == 2
    assert f"OUTPUT_DIR '{run}' has a run in it: add --resume" in error_of(capsys)
    # And not by a run that cannot begin.
    assert main(["--overwrite", *arguments, "MODEL.WEIGHTS", "missing.pth"]) == 2
    assert "weights 'missing.pth' not found" in error_of(capsys)
    assert kept(run) == before
    Path(run, "notes.txt").write_text("the user's")
    assert main(["--overwrite", *arguments]) == 0
    assert {path.name for path in run.glob("*.pth")} == {"model_final.pth"}
    assert [record["iteration"] for record in records(run)] == [1]
    assert Path(run, "notes.txt").exists()
    assert not Path(run, ".replaced").exists()


def test_overwrite_goes_with_training_anew_alone(capsys):
    for flag in ("--resume", "--eval-only"):
        with pytest.raises(SystemExit):
            main(["--overwrite", flag])
        assert "not allowed with argument" in capsys.readouterr().err


def test_lost_names_of_checkpoints_do_not_make_a_folder_free(tmp_path):
    check_unused(tmp_path)
    Path(tmp_path, "model_0000001.pth").touch()
    with pytest.raises(ConfigError, match="has a run in it"):
        check_unused(tmp_path)


def test_a_killed_replacement_is_undone_by_the_next(tmp_path):
    Path(tmp_path, ".replaced").mkdir()
    Path(tmp_path, ".replaced", "model_final.pth").write_text("old")
    # Also before a new run has written anything, the folder is no free one.
    with pytest.raises(ConfigError, match="has a run in it"):
        check_unused(tmp_path)
    Path(tmp_path, "model_final.pth").write_text("half")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path):
        raise KeyboardInterrupt
    assert Path(tmp_path, "model_final.pth").read_text() == "old"
    with replacing(tmp_path):
        assert not Path(tmp_path, "model_final.pth").exists()
    assert list(tmp_path.iterdir()) == []


def test_two_runs_in_one_folder(tmp_path, tiny_set, capsys):
    with locked(tmp_path, "OUTPUT_DIR"):
        assert main(command(tmp_path, *tiny_set)) == 2
    assert f"another program works in OUTPUT_DIR '{tmp_path}' (process" in error_of(capsys)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_without_a_test_set_no_result_is_promised(tmp_path, tiny_set, caplog):
    opts = ["DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1"]
    with caplog.at_level(logging.INFO):
        assert main(command(tmp_path, *tiny_set, *opts)) == 0
    assert "appended" not in caplog.text
    assert Path(tmp_path, "model_final.pth").is_file()


def test_a_test_set_that_is_named_twice_is_evaluated_once(run):
    assert main(["--eval-only", "OUTPUT_DIR", str(run), "DATASETS.TEST", "('tiny', 'tiny')"]) == 0
    assert [record["dataset"] for record in records(run)] == ["tiny", "tiny"]


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(tmp_path, tiny_set, capsys, monkeypatch):
    save = torch.save

    def full(data, file):
        if "0000003" in file.name:
            file.write(b"PK half of a checkpoint")
            raise OSError(28, "No space left on device")
        save(data, file)

    with monkeypatch.context() as patch:
        patch.setattr("fvcore.common.checkpoint.torch.save", full)
        assert main(command(tmp_path, *tiny_set)) == 2
    error = error_of(capsys)
    assert f"'{tmp_path}/model_0000003.pth' (No space left on device)" in error
    assert "model_0000001.pth" in error
    assert not list(tmp_path.glob(".model*"))
    assert main(command(tmp_path, *tiny_set, flags=["--resume"])) == 0
    assert records(tmp_path)[-1]["iteration"] == 4


def test_a_divergence_before_the_first_checkpoint(tmp_path, tiny_set, capsys, monkeypatch):
    def diverge(_self):
        raise FloatingPointError("no longer finite")

    monkeypatch.setattr(Trainer, "run_step", diverge)
    assert main(command(tmp_path, *tiny_set)) == 1
    error = capsys.readouterr().err
    assert "Last good checkpoint: none yet." in error
    assert "--resume" not in error
    monkeypatch.undo()
    # Nothing worth keeping is there, and nothing of it is left.
    assert main(command(tmp_path, *tiny_set, "SOLVER.MAX_ITER", "1")) == 0


@pytest.mark.parametrize(("iteration", "message"), [(1, "start over"), (3, "--resume to go on")])
def test_after_ctrl_c_it_says_how_to_go_on(
    tmp_path, tiny_set, capsys, monkeypatch, iteration, message
):
    step = Trainer.run_step

    def interrupted(self):
        if self.iter == iteration:
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(Trainer, "run_step", interrupted)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(command(tmp_path, *tiny_set)) == 130
    finally:
        signal.signal(signal.SIGINT, previous)
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("interrupted: run the same command")
    assert message in line
    assert ("model_0000001.pth" in line) == (iteration == 3)


@pytest.mark.slow
def test_an_error_in_several_processes_is_one_line(run, tiny_set, capfd):
    arguments = command(run, *tiny_set, "SOLVER.MAX_ITER", "3", flags=["--resume"])
    assert main(["--num-gpus", "2", *arguments]) == 2
    assert "SOLVER.MAX_ITER is 3, but the last checkpoint" in error_of(capfd)


def test_an_interrupted_write_of_the_last_line_harms_no_other(run):
    path, metrics = Path(run, "results.jsonl"), Path(run, "metrics.json")
    path.write_text(path.read_text() + '{"time": "2020-')
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([*lines, '{"lr": 0.']))
    assert main(["--resume", "OUTPUT_DIR", str(run)]) == 0
    assert len(records(run)) == 2
    logged = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert logged[: len(lines)] == [json.loads(line) for line in lines]


def test_checkpoints_that_cannot_be_tagged_are_no_traceback(tmp_path, monkeypatch):
    class Small(torch.nn.Module):
        codec = detector = torch.nn.Identity()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CodecDetError, match=r"model_x\.pth' \(Permission denied\)"):
        ChainCheckpointer(Small(), str(tmp_path)).save("model_x")
