"""Evaluated runs, read back: the records that :mod:`codec_det.evaluation.results` makes.

A run folder is what tools/train_net.py leaves: a config and a results file. A data file has records
of any number of runs, one JSON object per line, such as those that tools/plot_rate_accuracy.py
writes beside its figures.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CodecDetError
from ..evaluation.metrics import BPP, KBPS, METRICS, Metric, metric_of, recorded
from ..evaluation.results import RESULTS_FILE, SET_ASIDE, Record, describe_regime, read_records
from ..levels import inference_folder
from ..run_folder import CONFIG_FILE

logger = logging.getLogger(__name__)

NET = "net"
"""Rates of real files without their overhead."""


@dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        record: what :func:`codec_det.evaluation.results.build_record` made.
        folder: of the run, where its detections are; None for a record of a data file.
        rate: what curves are over.
    """

    record: Record
    folder: Path | None = None
    rate: Metric = BPP

    @property
    def regime(self) -> str:
        """Name of what was trained."""
        record = self.record
        return describe_regime(record["regime"], self.codec, record.get("detector", ""))

    @property
    def codec(self) -> str:
        """Name of the codec."""
        return self.record["codec"]["name"]

    @property
    def scale(self) -> float:
        """Coding scale, :mod:`codec_det.coding_scale`."""
        return self.record.get("config", {}).get("MODEL.CODEC.SCALE", 1.0)

    @property
    def levels(self) -> int:
        """How many a codec of variable rate was given, 1 of a fixed rate."""
        return self.record.get("config", {}).get("MODEL.CODEC.LEVELS", 1)

    @property
    def is_gated(self) -> bool:
        """Whether its encoder has gates."""
        return self.record.get("config", {}).get("MODEL.CODEC.GATED", False)

    @property
    def level(self) -> float | None:
        """At which pictures were coded; None of a fixed rate."""
        return self.record.get("level")

    @property
    def detections(self) -> Path:
        """Where the evaluation's detections are, of a run folder."""
        assert self.folder is not None, "records of data files have no detections"
        return inference_folder(self.folder, self.dataset, self.level)

    @property
    def is_compressed(self) -> bool:
        """Whether anything codes the pictures; else they have 24 bits per pixel."""
        return self.codec != "identity"

    @property
    def dataset(self) -> str:
        """Name of the test set."""
        return self.record["dataset"]

    @property
    def kind_of_rate(self) -> str:
        """ "real", "net" or "estimated"; "" of uncompressed pictures, whose rate is of no kind."""
        return self.record.get("rate_is", "unknown").split()[0] if self.is_compressed else ""

    @property
    def seed(self) -> int:
        """What data order, augmentation and noise of the training followed from."""
        return self.record.get("seed") or 0

    @property
    def is_trained(self) -> bool:
        """Whether anything was trained; else all is off the shelf."""
        return self.record["regime"] != "baseline"

    @property
    def has_detector(self) -> bool:
        """Whether anything looks at the decoded pictures."""
        return self.record.get("detector") != "NoDetector"

    @property
    def lossless(self) -> int:
        """Pictures that are as they were, which the mean PSNR leaves out."""
        return int(self.record["results"].get("rate", {}).get("lossless") or 0)

    def figure(self, metric: str) -> float:
        """The figure of a key of :mod:`codec_det.evaluation.metrics`; nan where there is none."""
        return metric_of(metric).read(self.record["results"])


def read_results(paths: Iterable[str | Path], dataset: str | None = None) -> list[Result]:
    """What run folders, folders of run folders at any depth, and data files hold.

    Of a run folder, the newest complete record of each test set counts, and of a codec of variable
    rate those of its other levels, if they are of the same weights and config; of a data file,
    every one.
    Folders that were set aside (NAME.old-...) are not looked into. Lines that are no record, such
    as one cut short by a crash, are skipped with a warning. A record that is met twice counts once.
    Runs that are not finished count, with a warning.

    Args:
        dataset: take the records of this test set alone; None: of all.

    Raises:
        CodecDetError: if there is no record in a path, or none of the test set.
    """
    found: dict[str, Result] = {}
    for path in map(Path, paths):
        for result in _read(path):
            key = json.dumps(result.record, sort_keys=True)
            # The one whose detections are there is worth more.
            if key not in found or result.folder is not None:
                found[key] = result
    results = list(found.values())
    chosen = [result for result in results if dataset in (None, result.dataset)]
    if not chosen:
        there = ", ".join(sorted({result.dataset for result in results}))
        raise CodecDetError(f"no result is of the data set '{dataset}': they are of {there}")
    _warn_of_unfinished(chosen)
    return chosen


def without_overhead(results: Iterable[Result]) -> list[Result]:
    """Results whose rates leave out what files hold beside the coded picture.

    That is containers, tables and parameter sets, and the start of a learned codec's stream: what a
    link may send once for many pictures, or need not send.

    Raises:
        CodecDetError: if a rate is not of real files.
    """
    found = []
    for result in results:
        if not result.is_compressed or result.kind_of_rate == NET:
            found.append(result)
            continue
        rate = result.record["results"]["rate"]
        if "bpp_overhead" not in rate:
            raise CodecDetError(
                f"{describe_origin(result)}: its rate is {result.kind_of_rate}, and only real "
                "files have an overhead to leave out: evaluate it with MODEL.CODEC.BITSTREAM True"
            )
        net = {**rate, "bpp": rate["bpp"] - rate["bpp_overhead"]}
        if "kbps" in rate:
            net["kbps"] = rate["kbps"] * net["bpp"] / rate["bpp"]
        record = {
            **result.record,
            "rate_is": f"{NET} bits per pixel of the original picture",
            "results": {**result.record["results"], "rate": net},
        }
        found.append(replace(result, record=record))
    return found


def over_rate(results: Sequence[Result], key: str | None = None) -> list[Result]:
    """The same results for curves over a rate.

    Args:
        key: "bpp" or "kbps"; None: kbit/s where all that is coded has them, else bits per pixel.

    Raises:
        CodecDetError: if kbit/s are asked for, and some result has none.
    """
    coded = [result for result in results if result.is_compressed]
    without = [result for result in coded if math.isnan(result.figure(KBPS.key))]
    if key == KBPS.key and without:
        origins = _list(_examples(without, ["without"] * len(without)))
        raise CodecDetError(
            f"--rate {KBPS.key}: only sequences with frame rates have {KBPS.unit} ({origins}): "
            f"leave these out, evaluate them again, or compare over --rate {BPP.key}"
        )
    is_over_time = key == KBPS.key or (key is None and bool(coded) and not without)
    return [replace(result, rate=KBPS if is_over_time else BPP) for result in results]


def _warn_of_unfinished(results: Sequence[Result]) -> None:
    for result in results:
        done = result.record.get("iteration")
        wanted = result.record.get("config", {}).get("SOLVER.MAX_ITER")
        if done is not None and wanted is not None and done < wanted:
            origin = describe_origin(result)
            logger.warning("not trained to its end (%d of %d iterations): %s", done, wanted, origin)


def describe_origin(result: Result) -> str:
    """Where a result is from, for messages."""
    if result.folder is not None:
        return str(result.folder)
    config = result.record.get("config", {})
    return f"a record of {config.get('OUTPUT_DIR', 'an unnamed run')}"


def _read(path: Path) -> list[Result]:
    if not path.exists():
        raise CodecDetError(f"'{path}' does not exist: give folders of runs, or files of records")
    if path.is_file() and not _is_run(path.parent, path.name):
        results = [Result(record) for record in read_records(path)]
    else:
        folders = [path.parent] if path.is_file() else sorted(_run_folders(path))
        if not folders:
            raise CodecDetError(
                f"no results in '{path}': no folder in it has {CONFIG_FILE} and {RESULTS_FILE}, "
                "which tools/train_net.py leaves in its OUTPUT_DIR"
            )
        results = [
            Result(record, folder)
            for folder in folders
            for record in _newest(read_records(folder / RESULTS_FILE))
        ]
    for result in results:
        _check_figures(result)
    if not results:
        raise CodecDetError(
            f"'{path}' holds no complete record: evaluate again, with tools/train_net.py "
            "--eval-only --resume"
        )
    return results


def _check_figures(result: Result) -> None:
    """Raise :class:`CodecDetError` if what should be groups of figures is none."""
    groups = result.record["results"]
    sound = isinstance(groups, dict) and all(
        isinstance(group, dict)
        and all(value is None or isinstance(value, (int, float)) for value in group.values())
        for group in groups.values()
    )
    if not sound:
        raise CodecDetError(
            f"the results of {describe_origin(result)} are no figures: evaluate again, or mend the "
            "record"
        )


def _newest(records: Iterable[Record]) -> Iterable[Record]:
    """The last record of each test set, and with it those of other levels of the same model."""
    last, every = {}, {}
    for record in records:
        last[record["dataset"]] = record
        every[record["dataset"], record.get("level")] = record
    return [one for one in every.values() if _model(one) == _model(last[one["dataset"]])]


def _model(record: Record) -> tuple[Any, ...]:
    """What one evaluation at several levels has in common."""
    config = {k: v for k, v in record.get("config", {}).items() if k != "MODEL.CODEC.LEVELS_TEST"}
    variable = record.get("level") is not None
    return variable, record.get("weights_sha256"), record.get("rate_is"), config


def _run_folders(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if SET_ASIDE not in name]
        if {CONFIG_FILE, RESULTS_FILE} <= set(files):
            yield Path(place)


def _is_run(folder: Path, file_name: str) -> bool:
    """Whether a file is the results file of a run folder."""
    return file_name == RESULTS_FILE and (folder / CONFIG_FILE).is_file()


def choose_metrics(results: Sequence[Result], keys: Sequence[str] | None = None) -> list[str]:
    """The metrics to show: those asked for, or the headline figures that any result has.

    What some codec has goes before what only uncompressed pictures have.

    Raises:
        CodecDetError: if no result has a metric that is asked for, or any of a quality.
    """
    compressed = [result for result in results if result.is_compressed]
    there = recorded(result.record["results"] for result in compressed or results)
    if not there:
        raise CodecDetError("no result has any figure of quality: evaluate with a detector")
    for key in keys or ():
        if key not in there:
            raise CodecDetError(
                f"--metrics '{key}': no result has it; they have {', '.join(there)}"
            )
    headlines = [key for key in there if key in METRICS and METRICS[key].is_headline]
    return list(dict.fromkeys(keys or headlines or there[:1]))


def check_comparable(results: Sequence[Result]) -> None:
    """Check that all results are of one data set.

    Raises:
        CodecDetError: if not; the message says which is from where.
    """
    sets = _examples(results, [result.dataset for result in results])
    if len(sets) > 1:
        raise CodecDetError(
            f"results are of different data sets and do not compare ({_list(sets)}): give runs "
            "with the same DATASETS.TEST, or choose one with --dataset"
        )


def _examples(results: Sequence[Result], values: Sequence[str]) -> dict[str, list[str]]:
    """Where the results of each value are from."""
    origins: dict[str, list[str]] = {}
    for result, value in zip(results, values, strict=True):
        origins.setdefault(value, []).append(describe_origin(result))
    return origins


def _list(origins: dict[str, list[str]]) -> str:
    def shorten(names: list[str]) -> str:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        return ", ".join(names[:2]) + more

    return "; ".join(f"{value}: {shorten(names)}" for value, names in origins.items())
