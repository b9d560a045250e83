"""Codes the pictures of the page: which runs, which pictures, and what could not be shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ..data.register import check_datasets, register_datasets
from ..errors import CodecDetError
from ..pictures.picture_choice import Entry, by_disagreement, check_files, evenly
from ..rate_accuracy.curves import Curve
from ..run_folder import CHECKPOINT_TAG
from ..runs import CodedPicture, Run, code_pictures, open_run, read_original
from .gallery import Gallery


@dataclass(frozen=True)
class _Shown:
    """A run that stands for a curve."""

    curve: Curve
    run: Run


def make_gallery(
    curves: Sequence[Curve], count: int, metric: str, *, by_difference: bool = False
) -> Gallery:
    """Code pictures with one run of each curve: the lowest seed at its lowest rate.

    A run that cannot be shown is named in the gallery's notes, and so is a picture that is missing:
    the rest of the page does not need them.

    Args:
        count: pictures, evenly spread over the test set.
        metric: by which the second run that the page opens with is the best.
        by_difference: instead those whose box AP differs most between the two runs that the page
            opens with.
    """
    if count == 0:
        return Gallery(notes=["Without pictures, as --pictures 0 asks for."])
    notes: list[str] = []
    shown = [each for curve in curves for each in _open(curve, notes)]
    if not shown:
        return Gallery(notes=notes)
    try:
        for each in shown:
            register_datasets(each.run.cfg)
        check_datasets(shown[0].run.cfg, train=False)
        first = _first(shown, metric)
        entries = _choose(shown, first, count, by_difference)
        check_files(entries)
    except CodecDetError as error:
        return Gallery(notes=[*notes, f"No pictures: {error}"])
    return _code(shown, entries, metric, notes)


def _open(curve: Curve, notes: list[str]) -> list[_Shown]:
    """The run that stands for a curve, if it can be built again."""
    point = curve.points[0]
    result = point.results[0]
    try:
        assert result.folder is not None, "runs are read from folders"
        run = open_run(result.folder, result.level)
        if point.is_trained and not (run.folder / CHECKPOINT_TAG).exists():
            raise CodecDetError(f"'{run.folder}' has no checkpoint")
        if run.dataset != curve.dataset:
            raise CodecDetError(f"the first DATASETS.TEST of '{run.folder}' is {run.dataset}")
    except CodecDetError as error:
        notes.append(f"Without {curve.label}: {error}.")
        return []
    return [_Shown(curve, run)]


def _first(shown: Sequence[_Shown], metric: str) -> tuple[int, int]:
    """Places of the two to look at first: the first that is compressed, and the best other.

    The other has the same codec, if there is one that has.
    """
    left, *others = [i for i, each in enumerate(shown) if not each.curve.is_level] or [0]
    same = [i for i in others if shown[i].curve.codec == shown[left].curve.codec]
    figures = {i: shown[i].curve.points[0].mean(metric) for i in same or others}
    # max() with nan depends on the order.
    known = [i for i, figure in figures.items() if math.isfinite(figure)]
    best = max(known or figures, key=lambda i: figures[i], default=left)
    return left, best


def _choose(
    shown: Sequence[_Shown], first: tuple[int, int], count: int, by_difference: bool
) -> list[Entry]:
    left, right = first
    if by_difference and left != right:
        return by_disagreement(shown[left].run, shown[right].run, count)
    return evenly(shown[0].run.dataset, count)


def _code(
    shown: Sequence[_Shown], entries: Sequence[Entry], metric: str, notes: list[str]
) -> Gallery:
    """One model in memory at a time."""
    complete: list[tuple[_Shown, list[CodedPicture]]] = []
    with tqdm(total=len(shown) * len(entries), unit="img") as progress:
        for each in shown:
            progress.set_description(each.curve.label)
            pictures = []
            try:
                for one in code_pictures(each.run, entries, bit_maps=True):
                    pictures.append(one)
                    progress.update()
            except CodecDetError as error:
                notes.append(f"Without {each.curve.label}: {error}.")
                continue
            complete.append((each, pictures))
    return Gallery(
        names=[each.curve.label for each, _ in complete],
        first=_first([each for each, _ in complete], metric) if complete else (0, 0),
        rows=[
            (read_original(entry), [pictures[i] for _, pictures in complete])
            for i, entry in enumerate(entries)
        ],
        class_names=MetadataCatalog.get(shown[0].run.dataset).get("thing_classes", []),
        notes=notes,
    )
