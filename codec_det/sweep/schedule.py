"""Runs the points that are not done: each after those it needs, failures again, all to the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..evaluation.metrics import BPP, metric_of, recorded
from ..evaluation.results import RESULTS_FILE, read_records
from ..files import make_folder
from .duration import in_words
from .launch import CONSOLE, Outcome, job_of
from .machines import Machines
from .points import StudyPoint
from .progress import Progress
from .state import State, Status, make_room, state_of

WRONG_INPUT = 2
"""Exit status of tools/train_net.py for what a second attempt cannot mend."""

_NOTES = {
    Status.INTERRUPTED: "to be resumed",
    Status.TO_EVALUATE: "to be evaluated again, not trained",
}


class Schedule:
    """Runs points on machines.

    Args:
        train_net: the program that runs a point.
        num_gpus: of each point; None: one if there is one.
        retries: of each point, after its first failure.
        say: prints a line.
    """

    def __init__(
        self,
        progress: Progress,
        machines: Machines,
        *,
        train_net: Path,
        num_gpus: int | None,
        retries: int,
        say: Callable[[str], None],
    ) -> None:
        self._progress = progress
        self._machines = machines
        self._train_net = train_net
        self._num_gpus = num_gpus
        self._retries = retries
        self._say = say
        self._points = {point.name: point for point in progress.points}
        self._running: set[str] = set()
        self._attempts: Counter[str] = Counter()

    def run(self) -> None:
        """Run until every point is done or given up; what went wrong is in the progress."""
        self._start = time.monotonic()
        self._submit()
        while self._running:
            name, outcome = self._machines.next_ended()
            self._running.remove(name)
            self._judge(self._points[name], outcome)
            self._submit()

    def _submit(self) -> None:
        for point in self._progress.left:
            if len(self._running) >= self._machines.capacity:
                break
            states, failures = self._progress.states, self._progress.failures
            lost = [name for name in point.needs if name in failures]
            if lost:
                failures[point.name] = f"not run, as it starts from {lost[0]}, which failed"
            elif point.name not in self._running and all(states[n].done for n in point.needs):
                self._begin(point)

    def _begin(self, point: StudyPoint) -> None:
        # Anew, as points that it needs may have been done since.
        state = state_of(point, self._progress.states)
        moved = make_room(point, state)
        make_folder(point.folder, "output_dir")
        job = job_of(point, self._train_net, state.status, num_gpus=self._num_gpus)
        self._attempts[point.name] += 1
        self._running.add(point.name)
        self._machines.submit(point.name, job)
        notes = [self._machines.verb]
        if state.status in _NOTES:
            notes.append(_NOTES[state.status])
        if self._attempts[point.name] > 1:
            notes.append(f"attempt {self._attempts[point.name]}")
        if moved:
            notes.append(f"earlier files, {state}, kept in {moved}")
        self._say(f"{self._place(point)}: {', '.join(notes)}; console in {point.folder / CONSOLE}")

    def _place(self, point: StudyPoint) -> str:
        number = list(self._points).index(point.name) + 1
        return f"[{number}/{len(self._points)}] {point.name}"

    def _judge(self, point: StudyPoint, outcome: Outcome) -> None:
        state = state_of(point, self._progress.states)
        elapsed = in_words(time.monotonic() - self._start)
        # Whatever came after its results, the next sweep would find it done, too.
        if state.done:
            self._progress.states[point.name] = state
            at_a_time = max(min(self._machines.room(), len(self._progress.left)), 1)
            self._say(
                f"{self._place(point)}: done in {in_words(outcome.seconds)}{_figures(point)}; "
                f"elapsed {elapsed}, time left {self._progress.time_left(at_a_time)}"
            )
            return
        reason = _reason(point, outcome, state)
        tries = self._attempts[point.name]
        again = outcome.status != WRONG_INPUT and tries <= self._retries
        if not again:
            self._progress.failures[point.name] = reason
        end = "it will be tried again" if again else f"given up after attempt {tries}"
        self._say(f"{self._place(point)}: failed ({reason}); {end}; elapsed {elapsed}")


def _figures(point: StudyPoint) -> str:
    results = list(read_records(point.folder / RESULTS_FILE))[-1]["results"]
    metrics = [metric_of(key) for key in recorded([results])[:1]]
    figures = [f", {m.read(results):.{m.digits}f} {m.name}" for m in metrics]
    return f"{''.join(figures)}, {BPP.read(results):.{BPP.digits}f} bpp"


def _reason(point: StudyPoint, outcome: Outcome, state: State) -> str:
    if outcome.status is None:
        return f"lost: {outcome.reason}"
    where = f" on {outcome.where}" if outcome.where else ""
    if outcome.status == 0:
        return f"ended{where} without a result of its config: {state}"
    what = f"exit status {outcome.status}" if outcome.status > 0 else f"signal {-outcome.status}"
    last = _last_line(point.folder / CONSOLE)
    return f"{what}{where}{': ' * bool(last)}{last}"


def _last_line(console: Path) -> str:
    try:
        lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
