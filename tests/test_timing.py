"""Comparisons in turn."""

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import compare, in_turn


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the functions under test advance."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_times_each_side_without_its_first_run(clock):
    calls = []

    def side(name, seconds):
        def run():
            clock[0] += seconds if name in calls else 100.0
            calls.append(name)

        return run

    seconds = in_turn({"a": side("a", 2.0), "b": side("b", 5.0)}, rounds=3)
    assert seconds["a"].tolist() == [2.0] * 3
    assert seconds["b"].tolist() == [5.0] * 3


def test_another_side_begins_each_round(clock):
    calls = []
    in_turn({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"


def test_waits_for_started_work_before_and_after(clock):
    pending = [0.0]

    def start():
        pending[0] += 3.0

    def synchronize():
        clock[0] += pending[0]
        pending[0] = 0.0

    seconds = in_turn({"a": start}, rounds=2, synchronize=synchronize)
    assert seconds["a"].tolist() == [3.0, 3.0]


def test_ratio_is_own_over_reference_and_its_spread_covers_the_rounds():
    result = compare(np.array([1.0, 2.0, 4.0, 8.0]), np.full(4, 2.0))
    assert (result.own, result.reference, result.rounds) == (3.0, 2.0, 4)
    assert result.ratio == 1.5
    assert result.low == 0.875
    assert result.high == 2.5


def test_ratios_are_taken_round_by_round():
    # A machine that is busy in one round slows both sides.
    result = compare(np.array([1.0, 10.0, 1.0]), np.array([2.0, 20.0, 2.0]))
    assert result.low == result.ratio == result.high == 0.5
