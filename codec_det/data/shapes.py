"""Shapes: a small detection set, drawn by a program, that asks of a codec what COCO asks of it.

Six classes are three outlines {disc, square, triangle} times two textures {striped, barred}.
An outline survives almost any codec; a texture of a few pixels' period is the first thing that a
codec drops. So box AP falls with the rate, and a codec that learns what the detector needs can win
it back by spending its bits on the textures instead of on the grain and clutter around them.
"""

import json
import logging
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ..errors import DatasetError
from .moving_scenes import Motion, render_sequence
from .scenes import CLASS_NAMES, DEFAULT_STYLE, Annotation, render_scene
from .sequences import load_coco
from .written_set import Video, write_set

logger = logging.getLogger(__name__)

VERSION = 1
"""Raise it with every change of the pictures that a seed gives: never mix old and new."""


FPS = 25.0
"""Frames per second of sequences."""


def scenes(
    count: int, size: tuple[int, int], seed: int
) -> Iterator[tuple[np.ndarray, list[Annotation]]]:
    """The first `count` pictures of a seed, as of `render_scene`, of `size` (height, width) pixels.

    Picture i depends on the seed, the size and i alone: a larger set starts with the smaller one.
    """
    for index in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        yield render_scene(rng, *size)


def sequences(
    count: int, size: tuple[int, int], seed: int, motion: Motion
) -> Iterator[tuple[np.ndarray, list[Annotation]]]:
    """The frames of the first `count` sequences of a seed, one after the other: as `scenes`."""
    for index in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        yield from render_sequence(rng, *size, motion)


def generate(
    folder: str | Path,
    count: int,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    progress: bool = True,
    motion: Motion | None = None,
) -> Path:
    """Draw a data set: `folder/images/*.png` and `folder/annotations.json` in COCO's format.

    Frames of sequences are `folder/images/<sequence>/<frame>.png`, with boxes alone.

    All is drawn into a sibling folder that is renamed when complete, so `folder` never holds half a
    set, and of several processes that draw it at once the first wins and the others drop theirs.

    Args:
        folder: where to; must not exist, or be empty.
        count: pictures, or sequences; at least 1.
        size: (height, width) in pixels, both at least `MIN_SIDE`.
        seed: not negative; equal seeds give equal pictures (to the byte, with the same libraries).
        progress: show a progress bar on stderr.
        motion: what moves in sequences; None: draw single pictures.

    Returns:
        The path of `annotations.json`.

    Raises:
        ValueError: count, size or seed out of range.
        DatasetError: there is something in `folder` already.
    """
    if count < 1:
        raise ValueError(f"Count is {count}; draw at least 1 picture.")
    if seed < 0:
        raise ValueError(f"Seed is {seed}; seeds are not negative.")
    frames = motion.frames if motion else 0
    images = sequences(count, size, seed, motion) if motion else scenes(count, size, seed)
    total = count * (frames or 1)

    def drawn() -> Generator[tuple[np.ndarray, list[dict[str, Any]]]]:
        # No bar before the first is asked for: the folder may be refused.
        yield from tqdm(images, "shapes", total, unit="img", disable=not progress)

    # Closed, bar and all, before an error is told.
    with closing(drawn()) as pictures:
        return write_set(
            folder,
            pictures,
            categories=[{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES, start=1)],
            info={"description": "codec_det shapes", **_stamp(count, size, seed, motion)},
            videos=[Video(f"{i:06d}", frames, FPS) for i in range(1, count + 1)] if motion else (),
        )


def _stamp(
    count: int, size: tuple[int, int], seed: int, motion: Motion | None = None
) -> dict[str, Any]:
    """What the pictures depend on, as JSON gives it back (lists, no tuples)."""
    stamp = {"version": VERSION, "count": count, "size": size, "seed": seed}
    moving = {"motion": asdict(motion)} if motion else {}
    return json.loads(json.dumps({**stamp, **moving, "style": asdict(DEFAULT_STYLE)}))


@dataclass(frozen=True)
class _Split:
    """One of the registered sets."""

    folder: str
    count: int
    seed: int
    size: tuple[int, int] = (128, 128)
    motion: Motion | None = None


_FIXED, _MOVING = Motion(), Motion(camera="moving")
# Many scenes before long ones: of 400, networks learn each by heart. Long enough for frames that
# are predicted from predicted ones, many times over.
_FIXED_TO_TRAIN, _MOVING_TO_TRAIN = (replace(motion, frames=16) for motion in (_FIXED, _MOVING))
SPLITS = {
    "shapes_train": _Split("train", 1500, seed=0),
    "shapes_val": _Split("val", 300, seed=1),
    "shapes_video_train": _Split("video_train", 2000, seed=0, motion=_FIXED_TO_TRAIN),
    "shapes_video_val": _Split("video_val", 30, seed=1, motion=_FIXED),
    "shapes_video_test": _Split("video_test", 90, seed=4242, motion=_FIXED),
    "shapes_video_moving_train": _Split(
        "video_moving_train", 2000, seed=0, motion=_MOVING_TO_TRAIN
    ),
    "shapes_video_moving_val": _Split("video_moving_val", 30, seed=1, motion=_MOVING),
    "shapes_video_moving_test": _Split("video_moving_test", 90, seed=4242, motion=_MOVING),
}
"""Sequences have 30 frames, those to train on 16; those called moving are of a moving camera. 30 of
them have some 60 objects, each seen thirty times: too few to tell two codecs apart by, for which
there are the 90 of test sets."""


def ensure_shapes(name: str) -> Path:
    """Draw a registered set (one of `SPLITS`) unless it is there: its JSON's path.

    Loading the set does this by itself; a program that reads the JSON first calls it.

    Raises:
        DatasetError: the pictures there were drawn by another version of this module.
    """
    split = SPLITS[name]
    json_file = Path(MetadataCatalog.get(name).json_file)
    folder = json_file.parent
    if not json_file.exists():
        kind = "sequences" if split.motion else "pictures"
        logger.info("Drawing %d %s of %s into %s", split.count, kind, name, folder.absolute())
        generate(folder, split.count, split.size, split.seed, motion=split.motion)
    stamp = _stamp(split.count, split.size, split.seed, split.motion)
    info = json.loads(json_file.read_text()).get("info", {})
    stale = [key for key, value in stamp.items() if info.get(key) != value]
    if stale:
        raise DatasetError(
            f"{folder} holds other pictures than {name} has now ({', '.join(stale)} differ). "
            "Remove that folder and they are drawn anew; results of old and new do not compare."
        )
    return json_file


def register_shapes() -> None:
    """Register the sets of `SPLITS` with detectron2; each is drawn when first loaded.

    They go to `$DETECTRON2_DATASETS/shapes` (`datasets/shapes` without that variable), where about
    65 MB of pictures, and 1.1 GB of sequences of each camera, are written. Registering twice does
    nothing.
    """
    # The environment variable and its default are those of detectron2's own builtin data sets.
    root = Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser() / "shapes"
    for name, split in SPLITS.items():
        if name in DatasetCatalog:
            continue
        DatasetCatalog.register(name, partial(_load, name))
        folder = root / split.folder
        MetadataCatalog.get(name).set(
            json_file=str(folder / "annotations.json"),
            image_root=str(folder / "images"),
            evaluator_type="coco",
            thing_classes=list(CLASS_NAMES),
            thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(CLASS_NAMES))},
        )


def _load(name: str) -> list[dict[str, Any]]:
    """detectron2's standard dictionaries of a registered set."""
    json_file = ensure_shapes(name)
    return load_coco(json_file, json_file.parent / "images", name)
