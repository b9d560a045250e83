"""What it takes to get the results again: configs, versions, devices and commands."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..rate_accuracy.records import Result
from ..run_folder import CONFIG_FILE
from .points import run_name


def environment(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Versions of packages and devices, each with how many runs had it where they differ."""
    versions = [result.record.get("versions", {}) for result in results]
    packages = dict.fromkeys(name for one in versions for name in one)
    found = [(name, _tally(one.get(name, "unknown") for one in versions)) for name in packages]
    devices = _tally(result.record.get("device", "unknown") for result in results)
    return [*found, ("device", devices)]


def _tally(values: Iterable[Any]) -> str:
    counts = Counter(map(str, values))
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count} runs)" for value, count in counts.most_common())


def run_entries(results: Sequence[Result], root: Path) -> list[dict[str, Any]]:
    """Name, config and command of every run, by name."""
    return sorted(
        (_entry(result, root) for result in results),
        key=lambda entry: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", entry["name"])],
    )


def _entry(result: Result, root: Path) -> dict[str, Any]:
    name = run_name(result, root)
    assert result.folder is not None, "runs are read from folders"
    slug = re.sub(r"[^\w.,=+-]+", "_", name).strip("._") or "run"
    # A baseline trains nothing, so there is only its evaluation to repeat.
    only = "" if result.is_trained else "--eval-only "
    command = f"tools/train_net.py --config-file {shlex.quote(slug)}.yaml {only}"
    return {
        "name": name,
        "what": f"{result.regime}, seed {result.seed}, {result.record.get('device', '')}",
        "file": f"{slug}.yaml",
        "command": f"{command}OUTPUT_DIR output/again/{shlex.quote(slug)}",
        "config": (result.folder / CONFIG_FILE).read_text(errors="replace"),
    }
