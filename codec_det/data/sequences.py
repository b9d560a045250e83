"""Sequences of frames in COCO's format, by the convention of COCO-VID.

Each of the ``images`` has a ``video_id`` and a ``frame_id``, whole numbers; frames are numbered in
order of time, without gaps, from any number on. The list ``videos`` has ``id``, ``name`` and, where
it is known, ``fps``, frames per second. A set has sequences alone, or none.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.utils import comm
from torch.utils.data import Sampler

from ..errors import DatasetError

Record = dict[str, Any]


def load_coco(json_file: str | Path, image_root: str | Path, name: str) -> list[Record]:
    """detectron2's dictionaries of a registered set in COCO's format.

    Those of frames have "video_id" and "frame_id" as well, and "fps" where the set tells, and come
    in order of both.
    """
    entries = load_coco_json(str(json_file), str(image_root), name)
    text = Path(json_file).read_bytes()
    # Parsing takes longer than all else, and detectron2 has done it once already.
    if b'"video_id"' not in text:
        return entries
    coco = json.loads(text)
    frames = {image["id"]: image for image in coco["images"] if "video_id" in image}
    rates = {video["id"]: video["fps"] for video in coco.get("videos", ()) if "fps" in video}
    for entry in entries:
        if image := frames.get(entry["image_id"]):
            video = image["video_id"]
            entry.update(video_id=video, frame_id=image["frame_id"])
            if video in rates:
                entry["fps"] = float(rates[video])
    return sorted(entries, key=_place) if frames else entries


def has_sequences(entries: Sequence[Record]) -> bool:
    """Whether a set is one of frames."""
    return any("video_id" in entry for entry in entries)


def clips_of(entries: Sequence[Record], length: int) -> list[range]:
    """All runs of ``length`` consecutive frames of one sequence, as indices of ``entries``.

    With a length of 1, every picture is one, whether or not it is a frame.
    """
    if length == 1:
        return [range(index, index + 1) for index in range(len(entries))]
    starts = range(len(entries) - length + 1)
    return [
        range(start, start + length)
        for start in starts
        if all(
            _follows(entries[index], entries[index + 1])
            for index in range(start, start + length - 1)
        )
    ]


def check_clips(name: str, length: int, burn_in: int = 0) -> None:
    """Refuse a registered set that has no clip of so many frames, with others before it.

    Raises:
        DatasetError: if there is none.
    """
    entries = DatasetCatalog.get(name)
    if length + burn_in == 1 or clips_of(entries, length + burn_in):
        return
    longest = max((len(list(run)) for _, run in _sequences(entries)), default=0)
    what = f"the longest sequence of {name} has {longest}" if longest else f"{name} has none"
    if burn_in and longest > length:
        raise DatasetError(
            f"INPUT.BURN_IN is {burn_in} frames before clips of {length}, but {what}: set it to "
            f"{longest - length} or less"
        )
    raise DatasetError(
        f"INPUT.CLIP_LENGTH is {length} frames of one sequence, but {what}: set it to "
        f"{longest or 1} or less"
    )


class SequenceSampler(Sampler[int]):
    """A process's share of a set of frames, for evaluation: whole sequences, in their order."""

    def __init__(self, entries: Sequence[Record]) -> None:
        runs = [[index for index, _ in run] for _, run in _sequences(entries)]
        self._indices = [i for run in runs[comm.get_rank() :: comm.get_world_size()] for i in run]

    def __iter__(self) -> Iterator[int]:
        yield from self._indices

    def __len__(self) -> int:
        return len(self._indices)


def sequence_faults(coco: Record, missing: Sequence[str] = ()) -> list[str]:
    """What is wrong with the frames of a set whose images are sound; empty of one without any.

    Args:
        coco: as in the file.
        missing: names of files that are not there.
    """
    images = coco["images"]
    if not any("video_id" in image or "frame_id" in image for image in images):
        return []
    known, faults = _videos(coco.get("videos"))
    sequences = defaultdict(list)
    for image in images:
        unset = [key for key in ("video_id", "frame_id") if not _is_whole(image.get(key))]
        if unset:
            faults.append(f"image {image['id']} has no whole number as {' and '.join(unset)}")
        elif known and image["video_id"] not in known:
            faults.append(f"image {image['id']} is of video {image['video_id']}, not in videos")
        else:
            sequences[image["video_id"]].append(image)
    for video, frames in sorted(sequences.items()):
        faults += [f"video {video} {fault}" for fault in _faults_of(frames, set(missing))]
    return faults


def _videos(videos: Any) -> tuple[set[int], list[str]]:
    """Ids of the list, and what is wrong with it."""
    if not (isinstance(videos, list) and all(isinstance(video, dict) for video in videos)):
        return set(), ["there is no list of videos, of {id, name, fps}"]
    ids = [video.get("id") for video in videos]
    if not all(map(_is_whole, ids)) or len(set(ids)) < len(ids):
        return set(), ["videos have no id, a whole number, each of its own"]
    bad = [v["id"] for v in videos if "fps" in v and not _is_rate(v["fps"])]
    return set(ids), [f"video {video} has an fps that is no number above 0" for video in bad]


def _faults_of(frames: list[Record], missing: set[str]) -> Iterator[str]:
    """Of the frames of one sequence."""
    numbers = [frame["frame_id"] for frame in frames]
    first, last, have = min(numbers), max(numbers), set(numbers)
    again = sorted(number for number, times in Counter(numbers).items() if times > 1)
    if again:
        yield f"has several frames {_listed(again)}"
    if last - first + 1 > len(have):
        # The span may be of billions where a number is wrong.
        holes, at = [], first
        for number in sorted(have):
            holes += [f"{at} to {number - 1}" if number - at > 1 else str(at)] * (number > at)
            at = number + 1
        yield f"lacks frames {_listed(holes)}"
    sizes = {f"{frame['width']}x{frame['height']}": frame["frame_id"] for frame in frames}
    if len(sizes) > 1:
        yield f"has frames of several sizes ({_listed([f'{s} as {i}' for s, i in sizes.items()])})"
    gone = [f"{f['frame_id']} ({f['file_name']})" for f in frames if f["file_name"] in missing]
    if gone:
        yield f"lacks the files of frames {_listed(gone)}"


def _listed(items: Sequence[object], most: int = 5) -> str:
    return ", ".join(map(str, items[:most])) + ", ..." * (len(items) > most)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_rate(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value > 0


def _place(entry: Record) -> tuple[int, int]:
    return entry["video_id"], entry["frame_id"]


def _follows(one: Record, other: Record) -> bool:
    """Whether the other is the next frame."""
    return "video_id" in one and _place(one) == (
        other.get("video_id"),
        other.get("frame_id", 0) - 1,
    )


def _sequences(entries: Sequence[Record]) -> Iterator[tuple[int, Iterator[tuple[int, Record]]]]:
    """Runs of (index, entry) of one sequence each."""
    frames = [(index, entry) for index, entry in enumerate(entries) if "video_id" in entry]
    yield from groupby(frames, key=lambda pair: pair[1]["video_id"])
