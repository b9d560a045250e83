"""Comparisons in turn."""

import pytest

from codec_det import timing
from codec_det.timing import compare


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the functions under test advance."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_ratio_is_the_peers_time_over_ours(clock):
    def advance(seconds):
        clock[0] += seconds

    result = compare(lambda: advance(2.0), lambda: advance(5.0), rounds=4)
    assert (result.ours, result.theirs) == (2.0, 5.0)
    assert result.ratio == result.low == result.high == 2.5


def test_the_order_alternates_and_a_first_run_is_not_timed(clock):
    calls = []

    def side(name):
        def run():
            clock[0] += 100.0 if name not in calls else 1.0
            calls.append(name)

        return run

    result = compare(side("a"), side("b"), rounds=2)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert result.ours == result.theirs == 1.0


def test_spread_covers_the_rounds(clock):
    seconds = iter([1.0, 1.0, 2.0, 4.0, 8.0])  # a warm-up and four rounds

    def ours():
        clock[0] += 1.0

    def theirs():
        clock[0] += next(seconds)

    result = compare(ours, theirs, rounds=4)
    assert result.low < result.ratio < result.high
    assert result.ratio == 3.0
