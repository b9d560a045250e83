import pytest

from tests.conftest import TINY
from tools.demo import main


@pytest.mark.slow
def test_the_whole_pipeline(tmp_path, tiny_set, capfd):
    tiny = [str(x) for item in TINY.items() for x in item]
    opts = [
        *tiny, *tiny_set, "MODEL.WEIGHTS", "", "MODEL.CODEC.WEIGHTS", "",
        "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2",
    ]  # fmt: skip
    # Random detectors find nothing, but evaluation of a random baseline needs no trained weights.
    assert main(["--output-dir", str(tmp_path), *opts]) == 0
    out = capfd.readouterr().out
    table = out[out.index("regime") :].splitlines()
    assert [line.split()[0] for line in table[2:6]] == ["baseline", "T-FT", "C-FT", "J-FT"]
    for picture in ("curves/rate_AP.png", "pictures/overview.png"):
        assert str((tmp_path / picture).parent) in out
        assert (tmp_path / picture).stat().st_size > 1000


def test_a_failing_step_is_named(tmp_path, capsys):
    assert main(["--output-dir", str(tmp_path), "MODEL.CODEC.BETA", "-1.0"]) == 2
    error = capsys.readouterr().err
    assert "tools/train_net.py failed with status 2" in error
    assert "console.txt" in error
