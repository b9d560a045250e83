"""tools/benchmark.py, as called from a shell, on a small picture."""

import json

import pytest
import torch

from codec_det.codec.names import LEARNED
from tools import benchmark as tool


def test_reports_both_sides_and_writes_them(tmp_path, capsys):
    output = tmp_path / "benchmark.json"
    arguments = ["--codecs", "bmshj2018-factorized", "--size", "65", "96", "--rounds", "1"]
    assert tool.main([*arguments, "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    figures = record["codecs"]["bmshj2018-factorized"]
    assert figures["max_difference"] < 0.01
    # Both code the same latents: the lengths differ by containers and coders alone.
    assert abs(figures["bytes"] - figures["peer_bytes"]) < 40
    assert figures["encode"]["ratio"] == figures["encode"]["theirs"] / figures["encode"]["ours"]
    assert record["versions"]["compressai"]
    assert "times as fast" in capsys.readouterr().out


def test_missing_weights_are_named(capsys):
    arguments = ["--codecs", "bmshj2018-hyperprior", "--weights", "none.pth"]
    assert tool.main(arguments) == 2
    assert "none.pth" in capsys.readouterr().err


def test_weights_of_something_else_are_refused(tmp_path, capsys):
    path = tmp_path / "other.pth"
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, path)
    arguments = ["--codecs", "bmshj2018-hyperprior", "--weights", str(path)]
    assert tool.main(arguments) == 2
    assert f"'{path}' has no weights of a bmshj2018-hyperprior" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--rounds", "0"], ["--threads", "0"], ["--size", "0", "8"]])
def test_nothing_to_measure_is_a_usage_error(option, capsys):
    with pytest.raises(SystemExit):
        tool.main(option)
    assert "0 is not positive" in capsys.readouterr().err


def test_offers_only_codecs_with_a_bitstream():
    choices = next(a.choices for a in tool.build_parser()._actions if a.dest == "codecs")
    assert set(choices) < set(LEARNED)
    assert "mbt2018" not in choices
