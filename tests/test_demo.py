"""What `make demo` runs: the lines of its recipe, and the study that they begin with."""

import json
import os
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from codec_det.sweep.study import read_study
from tests.conftest import CONFIGS, TINY
from tests.sweeps import points_of

ROOT = Path(__file__).parent.parent
STUDY = CONFIGS / "study/demo.yaml"


@pytest.fixture
def recipe(monkeypatch):
    """Tool and arguments of each line, which is run in the checkout."""
    monkeypatch.chdir(ROOT)
    # Not as a part of the make that may be running these tests.
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    dry_run = ["make", "--dry-run", "--old-file=.venv/.complete", "demo"]
    shown = subprocess.run(
        dry_run, env=environment, capture_output=True, text=True, check=True
    ).stdout
    commands = [shlex.split(line) for line in shown.replace("\\\n", "").splitlines()]
    return [(Path(program).stem, arguments) for _, program, *arguments in commands]


def test_the_recipe_shows_what_the_study_makes(recipe):
    (sweep, (study, *_)), *others = recipe
    assert sweep == "sweep"
    assert Path(study).samefile(STUDY)
    folders = {str(point.folder) for point in points_of(STUDY).values()}
    made = [a for _, arguments in others for a in arguments if a.startswith("output/demo/")]
    runs = [folder for folder in made if "rate" in folder]
    assert len(runs) == 2
    assert set(runs) <= folders
    for tool, arguments in others:
        import_module(f"tools.{tool}").build_parser().parse_args(arguments)


def test_the_curves_have_as_many_points_as_bd_figures_need(monkeypatch):
    monkeypatch.chdir(ROOT)
    points = points_of(STUDY)
    weights = CONFIGS.parent / "codec_det/weights"
    for curve in ("baseline-rate", "tft-rate", "jft-rate", "baseline-vvc"):
        own = [point.cfg for name, point in points.items() if name.startswith(curve)]
        assert len(own) >= 3
        for cfg in own:
            names = (cfg.MODEL.WEIGHTS, cfg.MODEL.CODEC.WEIGHTS)
            assert all((weights / name.removeprefix("codec_det://")).exists() for name in names)


@pytest.mark.slow
def test_the_recipe_works_from_end_to_end(recipe, tmp_path, tiny_set, capsys):
    study = yaml.safe_load(STUDY.read_text())
    # One rate, and no VVC: curves of one point take the same way.
    (entry,) = study["grid"][:1]
    entry["operating_points"] = {"rate_1": entry["operating_points"]["rate_1"]}
    study.update(output_dir=str(tmp_path), grid=[entry])
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    tiny = [str(x) for item in TINY.items() for x in item]
    opts = [
        *tiny, *tiny_set, "MODEL.WEIGHTS", "", "MODEL.CODEC.WEIGHTS", "",
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2",
    ]  # fmt: skip
    for tool, arguments in recipe:
        moved = [a.replace(str(read_study(STUDY).output_dir), str(tmp_path)) for a in arguments]
        words = [str(file), *opts] if tool == "sweep" else moved
        assert import_module(f"tools.{tool}").main(words) == 0
    table = capsys.readouterr().out
    assert all(f"\n{regime} " in table for regime in ("baseline", "T-FT", "J-FT"))
    for picture in ("curves/rate_AP.png", "pictures/overview.png", "report.html"):
        assert (tmp_path / picture).stat().st_size > 1000
    records = (tmp_path / "curves/records.jsonl").read_text().splitlines()
    assert {json.loads(line)["regime"] for line in records} == {"baseline", "T-FT", "J-FT"}
