"""What is done of a sweep, what is left, and how long that will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .duration import estimated_seconds, in_words, measured_seconds
from .points import StudyPoint
from .state import State, Status


@dataclass
class Progress:
    """What is known of a sweep.

    Attributes:
        points: all of them, in order.
        states: of each point, by name.
        failures: why, by the names of points that are given up.
    """

    points: Sequence[StudyPoint]
    states: dict[str, State]
    failures: dict[str, str] = field(default_factory=dict)
    _measured: dict[str, float | None] = field(default_factory=dict)

    @property
    def left(self) -> list[StudyPoint]:
        """Points that are neither done nor given up."""
        return [
            point
            for point in self.points
            if not self.states[point.name].done and point.name not in self.failures
        ]

    def estimates(self) -> dict[str, float]:
        """Seconds by name, where points of the same kind have been done."""
        for point in self.points:
            if self.states[point.name].done and point.name not in self._measured:
                self._measured[point.name] = measured_seconds(point.folder)
        estimates = estimated_seconds(self.points, self._measured)
        # What they took was their training.
        evaluated = Status.TO_EVALUATE
        return {n: s for n, s in estimates.items() if self.states[n].status is not evaluated}

    def time_left(self, at_a_time: int = 1) -> str:
        """What the points that are left will take, in words that say how much of it is known."""
        estimates = self.estimates()
        left = self.left
        known = [estimates[point.name] for point in left if point.name in estimates]
        unknown = len(left) - len(known)
        total = in_words(sum(known) / at_a_time)
        if not unknown:
            return total
        if not known:
            return "unknown, as no point like those left has been done"
        return f"{total}, not counting {unknown} points like none that has been done"
