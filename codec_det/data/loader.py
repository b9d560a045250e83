"""Training batches that follow from the seed and the iteration alone.

Whatever the number of processes and workers, and wherever training was interrupted, iteration i
sees the same pictures with the same augmentation. detectron2's own loader starts a new order after
every resume, and groups pictures by aspect ratio per process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..config_checks import check_batch
from ..errors import CodecDetError
from ..evaluation.tasks import needs_truth
from .mapper import CodecDetectorMapper
from .sequences import SequenceSampler, clips_of, has_sequences


class Drawn(NamedTuple):
    """A clip of a batch.

    Attributes:
        position: in the stream of clips.
        clip: index of it.
        burn_in: frames that are coded, but not learnt from, before the others.
    """

    position: int
    clip: int
    burn_in: int


class TrainingBatches(Sampler[list[Drawn]]):
    """Endless batches of clips.

    Clips, which may be of a single picture, come in a new order each epoch, and landscape and
    portrait ones go into separate batches, so that little is padded.

    Args:
        portrait: (n,) whether each clip is higher than wide.
        batch_size: clips in a batch of all processes together.
        rank, world_size: this process takes every ``world_size``-th clip of a batch.
        start: batches to pass over.
        burn_in: most frames of a clip that are not learnt from. Every other batch has none; the
            others have from one to so many.
    """

    def __init__(
        self,
        portrait: Sequence[bool],
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        burn_in: int = 0,
    ) -> None:
        self._portrait = portrait
        self._batch_size = batch_size
        self._seed = seed
        self._share = slice(rank, None, world_size)
        self._start = start
        self._burn_in = burn_in

    def __iter__(self) -> Iterator[list[Drawn]]:
        buckets: tuple[list[tuple[int, int]], ...] = ([], [])
        done = 0
        for position, index in enumerate(self._stream()):
            bucket = buckets[self._portrait[index]]
            bucket.append((position, index))
            if len(bucket) == self._batch_size:
                done += 1
                if done > self._start:
                    burn_in = self._burn_in_of(done)
                    yield [Drawn(*clip, burn_in) for clip in bucket[self._share]]
                bucket.clear()

    def _burn_in_of(self, batch: int) -> int:
        if not self._burn_in or batch % 2:
            return 0
        rng = np.random.default_rng((self._seed, batch, self._burn_in))
        return int(rng.integers(1, self._burn_in, endpoint=True))

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            rng = np.random.default_rng((self._seed, epoch))
            yield from rng.permutation(len(self._portrait)).tolist()
            epoch += 1


class _Caught:
    """A mapper whose errors are what it returns.

    Raised in a worker, they would come with its traceback for a message.
    """

    def __init__(self, mapper: CodecDetectorMapper) -> None:
        self._mapper = mapper

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any] | CodecDetError:
        try:
            return self._mapper(entry)
        except CodecDetError as error:
            return error


class TrainingClips(Dataset):
    """Maps what was drawn to model input of a clip's pictures.

    Augmentation is drawn from the seed and position: the same for all pictures of the clip. Those
    that are not learnt from have "burn_in", True.

    Args:
        clips: indices of ``entries``.
        length: how many of a clip's frames are learnt from; where it has more than those and the
            ones before them, which of them is drawn, too.
    """

    def __init__(
        self,
        entries: Sequence[dict],
        clips: Sequence[range],
        length: int,
        mapper: _Caught,
        seed: int,
    ) -> None:
        self._entries = DatasetFromList(entries, copy=False)
        self._clips = clips
        self._length = length
        self._mapper = mapper
        self._seed = seed

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, drawn: Drawn) -> list[dict[str, Any] | CodecDetError]:
        clip = self._clips[drawn.clip]
        spare = len(clip) - drawn.burn_in - self._length
        start = 0
        if spare:
            rng = np.random.default_rng((self._seed, drawn.position, len(clip)))
            start = int(rng.integers(spare, endpoint=True))
        first = clip[start]
        frames = range(first, first + drawn.burn_in + self._length)
        mapped = [self._map(drawn.position, frame) for frame in frames]
        for entry in mapped[: drawn.burn_in]:
            if isinstance(entry, dict):
                entry["burn_in"] = True
        return mapped

    def _map(self, position: int, index: int) -> dict[str, Any] | CodecDetError:
        state = np.random.SeedSequence((self._seed, position)).generate_state(2)
        # detectron2's augmentations draw from the global generators.
        np.random.seed(state)  # noqa: NPY002
        random.seed(int(state[0]))
        return self._mapper(self._entries[index])


def _flatten(clips: Sequence[list]) -> list:
    return list(chain.from_iterable(clips))


class PictureLoader:
    """Batches of a loader of :class:`_Caught` entries; raises the errors among them."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self._loader:
            for entry in batch:
                if isinstance(entry, CodecDetError):
                    raise entry
            yield batch


def training_entries(cfg: CfgNode) -> list[dict[str, Any]]:
    """Entries of ``DATASETS.TRAIN``.

    Without those that have no annotations, unless none are needed, they are frames of clips, which
    must not have gaps, or the config says otherwise.
    """
    needed = needs_truth(cfg) and cfg.INPUT.CLIP_LENGTH == 1
    least = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    return get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=needed and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=least if needed and cfg.MODEL.KEYPOINT_ON else 0,
    )


def build_train_loader(cfg: CfgNode, *, start: int = 0) -> PictureLoader:
    """Endless loader of this process's share of ``DATASETS.TRAIN``, from iteration ``start`` on.

    Batches are flat: the frames of the first clip in order of time, then those of the next. All
    clips of a batch have as many that are not learnt from, which come first.

    Raises:
        ConfigError: if the batch cannot be shared evenly by the processes.
    """
    world_size = comm.get_world_size()
    check_batch(cfg, world_size)
    entries = training_entries(cfg)
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    length, burn_in = cfg.INPUT.CLIP_LENGTH, cfg.INPUT.BURN_IN
    clips = clips_of(entries, length + burn_in)
    first = [entries[clip[0]] for clip in clips]
    batches = TrainingBatches(
        [grouped and entry["height"] > entry["width"] for entry in first],
        cfg.SOLVER.IMS_PER_BATCH // length,
        cfg.SEED,
        rank=comm.get_rank(),
        world_size=world_size,
        start=start,
        burn_in=burn_in,
    )
    mapper = _Caught(CodecDetectorMapper(cfg, is_train=True))
    loader = DataLoader(
        TrainingClips(entries, clips, length, mapper, cfg.SEED),
        batch_sampler=batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_flatten,
        # Else starting the loader draws from torch's global generator, and a resumed run differs.
        generator=torch.Generator(),
    )
    return PictureLoader(loader)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> PictureLoader:
    """detectron2's test loader, without its resize; frames in order of time.

    Sequences are whole in one process.
    """
    mapper = _Caught(CodecDetectorMapper(cfg, is_train=False))
    entries = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return PictureLoader(
        build_detection_test_loader(
            entries,
            mapper=mapper,
            sampler=SequenceSampler(entries) if has_sequences(entries) else None,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
    )
