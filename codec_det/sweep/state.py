"""What the results on disk say of a point: done, or why not.

A point is done when the newest record of each of its test sets, at each level of a codec of
variable rate, has the config that the study gives it, after all of its iterations, and no point
that it starts from is newer. Keys that say only where things are, or how fast they go, may differ,
and a sweep's folder may have been moved. Where keys of evaluation alone differ, or a test set is
new, what was trained is evaluated again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from ..config import flatten, load_config
from ..config_differences import differences, some_keys, training_differences
from ..errors import CodecDetError
from ..evaluation.results import RESULTS_FILE, SET_ASIDE, Record, changed_keys, read_records
from ..levels import levels_to_test
from ..run_folder import CHECKPOINT_TAG, CONFIG_FILE, has_run
from .points import FINAL_WEIGHTS, StudyPoint


class Status(str, Enum):
    """What is to be done with a point."""

    DONE = "done"
    MISSING = "missing"
    """Nothing that could be used."""
    INTERRUPTED = "interrupted"
    """There is a checkpoint to go on from."""
    TO_EVALUATE = "to evaluate"
    """Trained as it should be, but not evaluated so."""
    CHANGED = "changed"
    """Its folder is of another config."""
    STALE = "stale"
    """A point that it starts from is newer, or yet to run."""


@dataclass(frozen=True)
class State:
    """A point's status.

    Attributes:
        why: keys that differ, points that are newer; "" where the status says all.
        time: when it was done; where it is not, when it began.
    """

    status: Status
    why: str = ""
    time: datetime | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.status is Status.DONE

    def __str__(self) -> str:
        return f"{self.status.value} ({self.why})" if self.why else self.status.value


def states_of(points: Sequence[StudyPoint]) -> dict[str, State]:
    """State of each point by name; prepared points come before those that start from them."""
    states: dict[str, State] = {}
    for point in points:
        states[point.name] = state_of(point, states)
    return states


def state_of(point: StudyPoint, others: Mapping[str, State]) -> State:
    """State of a point, given those of the points that it needs."""
    own = _own_state(point)
    if own.time is None or own.status is Status.CHANGED:
        return own
    newer = []
    for name in point.needs:
        other = others[name]
        trained = other.status in (Status.DONE, Status.TO_EVALUATE)
        if not trained or other.time is None or other.time > own.time:
            newer.append(name)
    return State(Status.STALE, ", ".join(newer)) if newer else own


def _own_state(point: StudyPoint) -> State:
    every = _records(point)
    newest = {(record["dataset"], record.get("level")): record for record in every}
    sets = dict.fromkeys(point.cfg.DATASETS.TEST)
    evaluations = list(itertools.product(sets, levels_to_test(point.cfg)))
    records = [newest[one] for one in evaluations if one in newest]
    wanted = changed_keys(point.cfg)
    trained = _trained_as(point, wanted, every)
    keys = {key for record in records for key in differences(wanted, record["config"])}
    if trained and (keys or len(records) < len(evaluations)):
        missing = {name for name, _ in evaluations} - {name for name, _ in newest}
        reason = {"DATASETS.TEST"} if missing else {"MODEL.CODEC.LEVELS_TEST"}
        return State(Status.TO_EVALUATE, some_keys(keys or reason), _time_of(trained))
    if keys:
        return State(Status.CHANGED, some_keys(keys))
    finished = all(record["iteration"] == _iterations(point) for record in records)
    if finished and len(records) == len(evaluations):
        if point.is_started_from and not (point.folder / FINAL_WEIGHTS).is_file():
            return State(Status.MISSING, f"no {FINAL_WEIGHTS}")
        time = _time_of(trained) if trained else max(_time_of(record) for record in records)
        return State(Status.DONE, time=time)
    return _unfinished_state(point)


def _trained_as(point: StudyPoint, wanted: dict[str, Any], records: list[Record]) -> Record | None:
    """The first record of the final weights in the folder, if they are what the study wants."""
    weights_are_there = all(
        (point.folder / name).is_file() for name in (CHECKPOINT_TAG, FINAL_WEIGHTS)
    )
    if point.evaluates or not weights_are_there or not records:
        return None
    last = records[-1]
    if last["iteration"] != _iterations(point) or training_differences(wanted, last["config"]):
        return None
    # Evaluating them again makes them no newer.
    checksum = last.get("weights_sha256")
    alike = (record for record in records if checksum == record.get("weights_sha256"))
    return next(alike) if checksum else last


def _time_of(record: Record) -> datetime:
    return datetime.fromisoformat(record["time"])


def _unfinished_state(point: StudyPoint) -> State:
    config_file = point.folder / CONFIG_FILE
    if not (config_file.is_file() and (point.folder / CHECKPOINT_TAG).is_file()):
        return State(Status.MISSING)
    try:
        cfg = load_config(str(config_file), [])
    except CodecDetError:
        return State(Status.CHANGED, f"unreadable {CONFIG_FILE}")
    keys = differences(dict(flatten(point.cfg)), dict(flatten(cfg)))
    if keys:
        return State(Status.CHANGED, some_keys(keys))
    began = datetime.fromtimestamp(config_file.stat().st_mtime, timezone.utc)
    return State(Status.INTERRUPTED, time=began)


def _iterations(point: StudyPoint) -> int | None:
    return None if point.evaluates else point.cfg.SOLVER.MAX_ITER


def _records(point: StudyPoint) -> list[Record]:
    """Records of a point, oldest first; of one that trains, those of its own weights."""
    path = point.folder / RESULTS_FILE
    return [
        record
        for record in (read_records(path) if path.exists() else ())
        if point.evaluates or record["iteration"] is not None
    ]


def make_room(point: StudyPoint, state: State) -> Path | None:
    """Rename a point's folder, if it has weights or results that a new run would mix with.

    Returns:
        What it is called now; None where there was nothing to keep.
    """
    kept = (Status.INTERRUPTED, Status.TO_EVALUATE)
    if state.status in kept or not has_run(point.folder):
        return None
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return point.folder.rename(f"{point.folder}{SET_ASIDE}{now}")
