"""Training batches that follow from the seed and the iteration alone.

Whatever the number of processes and workers, and wherever training was interrupted, iteration i
sees the same pictures with the same augmentation. detectron2's own loader starts a new order after
every resume, and groups pictures by aspect ratio per process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ConfigError
from .mapper import CodecDetectorMapper


class TrainingBatches(Sampler[list[tuple[int, int]]]):
    """Endless batches of (position in the stream, index in the data set).

    Pictures come in a new order each epoch, and landscape and portrait ones go into separate
    batches, so that little is padded.

    Args:
        portrait: (n,) whether each picture is higher than wide.
        batch_size: pictures in a batch of all processes together.
        rank, world_size: this process takes every ``world_size``-th picture of a batch.
        start: batches to pass over.
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
    ) -> None:
        self._portrait = portrait
        self._batch_size = batch_size
        self._seed = seed
        self._share = slice(rank, None, world_size)
        self._start = start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        buckets: tuple[list, list] = ([], [])
        done = 0
        for position, index in enumerate(self._stream()):
            bucket = buckets[self._portrait[index]]
            bucket.append((position, index))
            if len(bucket) == self._batch_size:
                done += 1
                if done > self._start:
                    yield bucket[self._share]
                bucket.clear()

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            rng = np.random.default_rng((self._seed, epoch))
            yield from rng.permutation(len(self._portrait)).tolist()
            epoch += 1


class TrainingPictures(Dataset):
    """Maps (position, index) to model input; augmentation is drawn from the seed and position."""

    def __init__(self, entries: Sequence[dict], mapper: CodecDetectorMapper, seed: int) -> None:
        self._entries = DatasetFromList(entries, copy=False)
        self._mapper = mapper
        self._seed = seed

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        position, index = key
        state = np.random.SeedSequence((self._seed, position)).generate_state(2)
        # detectron2's augmentations draw from the global generators.
        np.random.seed(state)  # noqa: NPY002
        random.seed(int(state[0]))
        return self._mapper(self._entries[index])


def training_entries(cfg: CfgNode) -> list[dict[str, Any]]:
    """Entries of ``DATASETS.TRAIN``; without those that have no annotations, unless configured."""
    return get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
        if cfg.MODEL.KEYPOINT_ON
        else 0,
    )


def build_train_loader(cfg: CfgNode, *, start: int = 0) -> DataLoader:
    """Endless loader of this process's share of ``DATASETS.TRAIN``, from iteration ``start`` on.

    Raises:
        ConfigError: if the batch cannot be shared evenly by the processes.
    """
    world_size = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {world_size} processes "
            "cannot share evenly: make it a multiple"
        )
    entries = training_entries(cfg)
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    batches = TrainingBatches(
        [grouped and entry["height"] > entry["width"] for entry in entries],
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.SEED,
        rank=comm.get_rank(),
        world_size=world_size,
        start=start,
    )
    return DataLoader(
        TrainingPictures(entries, CodecDetectorMapper(cfg, is_train=True), cfg.SEED),
        batch_sampler=batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        # Else starting the loader draws from torch's global generator, and a resumed run differs.
        generator=torch.Generator(),
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """detectron2's test loader, without its resize."""
    return build_detection_test_loader(
        cfg, dataset_name, mapper=CodecDetectorMapper(cfg, is_train=False)
    )
