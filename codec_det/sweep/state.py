"""What the results on disk say of a point: done, or why not.

A point is done when the newest record of each of its test sets has the config that the study gives
it, after all of its iterations, and no point that it starts from is newer. Keys that say only where
things are, or how fast they go, may differ, and a sweep's folder may have been moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from ..config import flatten, load_config
from ..errors import CodecDetError
from ..evaluation.results import (
    PLACES_AND_SPEED,
    RESULTS_FILE,
    SET_ASIDE,
    Record,
    changed_keys,
    read_records,
)
from ..runs import CHECKPOINT_TAG, CONFIG_FILE
from .points import FINAL_WEIGHTS, StudyPoint


class Status(str, Enum):
    """What is to be done with a point."""

    DONE = "done"
    MISSING = "missing"
    """Nothing that could be used."""
    INTERRUPTED = "interrupted"
    """There is a checkpoint to go on from."""
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
        if not other.done or other.time is None or other.time > own.time:
            newer.append(name)
    return State(Status.STALE, ", ".join(newer)) if newer else own


def _own_state(point: StudyPoint) -> State:
    records = _newest_records(point)
    if records:
        wanted = changed_keys(point.cfg)
        keys = {key for record in records for key in _differences(wanted, record["config"])}
        if keys:
            return State(Status.CHANGED, _some(keys))
        time = max(datetime.fromisoformat(record["time"]) for record in records)
        finished = all(record["iteration"] == _iterations(point) for record in records)
        if finished and len(records) == len(set(point.cfg.DATASETS.TEST)):
            if point.prepares and not (point.folder / FINAL_WEIGHTS).is_file():
                return State(Status.MISSING, f"no {FINAL_WEIGHTS}")
            return State(Status.DONE, time=time)
    return _unfinished_state(point)


def _unfinished_state(point: StudyPoint) -> State:
    config_file = point.folder / CONFIG_FILE
    if not (config_file.is_file() and (point.folder / CHECKPOINT_TAG).is_file()):
        return State(Status.MISSING)
    try:
        cfg = load_config(str(config_file), [])
    except CodecDetError:
        return State(Status.CHANGED, f"unreadable {CONFIG_FILE}")
    keys = _differences(dict(flatten(point.cfg)), dict(flatten(cfg)))
    if keys:
        return State(Status.CHANGED, _some(keys))
    began = datetime.fromtimestamp(config_file.stat().st_mtime, timezone.utc)
    return State(Status.INTERRUPTED, time=began)


def _iterations(point: StudyPoint) -> int | None:
    return None if point.evaluates else point.cfg.SOLVER.MAX_ITER


def _newest_records(point: StudyPoint) -> list[Record]:
    """The newest record of each test set, as far as there are any.

    Of a point that trains, evaluations alone do not count: they may be of other weights.
    """
    newest: dict[str, Record] = {}
    path = point.folder / RESULTS_FILE
    for record in read_records(path) if path.exists() else ():
        if point.evaluates or record["iteration"] is not None:
            newest[record["dataset"]] = record
    return [newest[name] for name in dict.fromkeys(point.cfg.DATASETS.TEST) if name in newest]


def _differences(wanted: dict[str, Any], found: dict[str, Any]) -> set[str]:
    """Config keys whose values make results differ."""
    missing = object()
    wanted, found = _comparable(wanted), _comparable(found)
    return {
        key
        for key in wanted.keys() | found.keys()
        if wanted.get(key, missing) != found.get(key, missing)
    }


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """What results depend on; paths to other points are relative to the folder of all points."""
    prefix = f"{Path(config.get('OUTPUT_DIR', '')).parent}/"
    # As files have it: lists, no tuples.
    config = json.loads(json.dumps(config))
    return {
        key: value.removeprefix(prefix) if isinstance(value, str) else value
        for key, value in config.items()
        if key not in PLACES_AND_SPEED
    }


def _some(keys: set[str], limit: int = 3) -> str:
    names = sorted(keys)
    more = f", ... {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def make_room(point: StudyPoint, state: State) -> Path | None:
    """Rename a point's folder, if it has weights or results that a new run would mix with.

    Returns:
        What it is called now; None where there was nothing to keep.
    """
    worth_keeping = (RESULTS_FILE, CHECKPOINT_TAG, FINAL_WEIGHTS)
    if state.status is Status.INTERRUPTED or not any(
        (point.folder / name).exists() for name in worth_keeping
    ):
        return None
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return point.folder.rename(f"{point.folder}{SET_ASIDE}{now}")
