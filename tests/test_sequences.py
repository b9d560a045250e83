"""Sequences in COCO's format: faults, order, clips for training, shares for evaluation."""

import copy
import json
from collections import defaultdict
from itertools import islice

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from codec_det.config_checks import check_batch
from codec_det.data.coco_format import check_coco_format
from codec_det.data.loader import build_test_loader, build_train_loader
from codec_det.data.register import check_datasets, register_datasets
from codec_det.data.sequences import SequenceSampler, clips_of, sequence_faults
from codec_det.errors import ConfigError, DatasetError

SIZE = 48  # pixels a side
# Frames of videos 4 and 2, in no order; frames of 4 are numbered from 10.
FRAMES = [(4, 12), (2, 1), (4, 10), (2, 0), (4, 11), (2, 2), (4, 13)]


def coco_of(frames):
    """A set whose frame with id i is the i-th of (video, frame)."""
    images = [
        {"id": i, "file_name": f"{i}.png", "width": SIZE, "height": SIZE}
        | {"video_id": video, "frame_id": frame}
        for i, (video, frame) in enumerate(frames)
    ]
    box = {"category_id": 1, "bbox": [4, 8, 16, 12], "area": 192, "iscrowd": 0}
    # The last has nothing in it.
    annotations = [{"id": i + 1, "image_id": i, **box} for i in range(len(images) - 1)]
    return {
        "videos": [{"id": 2, "name": "two", "fps": 10}, {"id": 4, "name": "four"}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }


@pytest.fixture
def folder(tmp_path):
    """A set on disk: frames of a sequence are alike in the middle, and noise around it."""
    rng = np.random.default_rng(0)
    pixels = {video: rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for video in (2, 4)}
    for i, (video, _) in enumerate(FRAMES):
        Image.fromarray(pixels[video]).save(tmp_path / f"{i}.png")
    (tmp_path / "set.json").write_text(json.dumps(coco_of(FRAMES)))
    return tmp_path


@pytest.fixture
def cfg_of(folder, tiny_cfg):
    names = []

    def make(*opts):
        name = f"sequences_{len(names)}"
        names.append(name)
        entry = [name, str(folder / "set.json"), str(folder)]
        cfg = tiny_cfg(
            *("DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TRAIN", (name,)),
            *("DATASETS.TEST", (name,), "MODEL.ROI_HEADS.NUM_CLASSES", 1, *opts),
        )
        register_datasets(cfg)
        return cfg

    yield make
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def places(batch):
    return [(x["video_id"], x["frame_id"]) for x in batch]


def test_frames_come_in_order_of_time_with_their_rate(cfg_of):
    cfg = cfg_of()
    batches = list(build_test_loader(cfg, cfg.DATASETS.TEST[0]))
    frames = [entry for batch in batches for entry in batch]
    assert all(len(batch) == 1 for batch in batches)
    assert places(frames) == sorted(FRAMES)
    assert [entry.get("fps") for entry in frames] == [10.0] * 3 + [None] * 4
    assert [entry["image_id"] for entry in frames] == [3, 1, 5, 2, 4, 0, 6]


def test_clips_are_consecutive_frames_and_batches_are_flat(cfg_of):
    cfg = cfg_of("INPUT.CLIP_LENGTH", 3, "SOLVER.IMS_PER_BATCH", 6)
    seen = set()
    for batch in islice(build_train_loader(cfg), 12):
        assert len(batch) == 6
        for clip in (batch[:3], batch[3:]):
            video, first = places(clip)[0]
            assert places(clip) == [(video, first + k) for k in range(3)]
            seen.add((video, first))
    # Frame 13, which has no annotations, too.
    assert seen == {(2, 0), (4, 10), (4, 11)}


def test_every_other_batch_has_frames_before_its_clips(cfg_of):
    cfg = cfg_of("INPUT.CLIP_LENGTH", 2, "INPUT.BURN_IN", 2, "SOLVER.IMS_PER_BATCH", 4)
    batches = list(islice(build_train_loader(cfg), 40))
    seen = defaultdict(set)
    for number, batch in enumerate(batches):
        before = sum(entry.get("burn_in", False) for entry in batch) // 2
        assert (before == 0) == (number % 2 == 0)
        for clip in (batch[: before + 2], batch[before + 2 :]):
            assert [entry.get("burn_in", False) for entry in clip] == [True] * before + [False] * 2
            video, first = places(clip)[0]
            assert places(clip) == [(video, first + k) for k in range(before + 2)]
            seen[before].add((video, first))
    # Wherever a sequence has room for as many.
    assert seen == {
        0: {(4, 10), (4, 11), (4, 12)},
        1: {(4, 10), (4, 11)},
        2: {(4, 10)},
    }
    again = list(islice(build_train_loader(cfg, start=30), 10))
    assert [places(batch) for batch in again] == [places(batch) for batch in batches[30:]]


def test_a_clip_has_one_augmentation_and_clips_have_others(cfg_of):
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [24, 24])
    sizes = "INPUT.MIN_SIZE_TRAIN", tuple(range(40, 60))
    cfg = cfg_of("INPUT.CLIP_LENGTH", 2, "SOLVER.IMS_PER_BATCH", 2, *crop, *sizes)
    clips = list(islice(build_train_loader(cfg), 12))
    for one, other in clips:
        assert (one["image"] == other["image"]).all()
        assert one["detector_size"] == other["detector_size"]
    assert len({one["image"].numpy().tobytes() for one, _ in clips}) > 6
    assert len({one["detector_size"] for one, _ in clips}) > 3


def test_clips_do_not_reach_into_other_sequences_or_over_gaps():
    entries = [{"video_id": v, "frame_id": f} for v, f in [(1, 0), (1, 1), (2, 2), (2, 4), (2, 5)]]
    assert clips_of(entries, 2) == [range(2), range(3, 5)]
    assert clips_of(entries, 3) == []
    pictures = [{}, {}]
    assert clips_of(pictures, 1) == [range(1), range(1, 2)]
    assert clips_of(pictures, 2) == []


def test_processes_get_whole_sequences(monkeypatch):
    lengths = {1: 2, 2: 4, 3: 1}
    entries = [{"video_id": v, "frame_id": f} for v, n in lengths.items() for f in range(n)]
    monkeypatch.setattr("codec_det.data.sequences.comm.get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("codec_det.data.sequences.comm.get_rank", lambda rank=rank: rank)
        sampler = SequenceSampler(entries)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
    assert shares == [[0, 1, 6], [2, 3, 4, 5]]


@pytest.mark.parametrize(("length", "batch"), [(3, 8), (4, 4)])
def test_a_batch_that_is_no_multiple_of_clips_is_refused(tiny_cfg, length, batch):
    cfg = tiny_cfg("INPUT.CLIP_LENGTH", length, "SOLVER.IMS_PER_BATCH", batch)
    with pytest.raises(ConfigError, match=rf"clips of INPUT.CLIP_LENGTH {length}.*{2 * length}"):
        check_batch(cfg, 2)


def test_clips_longer_than_sequences_are_refused(cfg_of, tiny_cfg, tiny_set):
    cfg = cfg_of("INPUT.CLIP_LENGTH", 5)
    with pytest.raises(DatasetError, match=r"longest sequence of sequences_0 has 4: set it to 4"):
        check_datasets(cfg, train=True)
    cfg = cfg_of("INPUT.CLIP_LENGTH", 2, "INPUT.BURN_IN", 3)
    with pytest.raises(DatasetError, match=r"BURN_IN is 3 frames before.* has 4: set it to 2"):
        check_datasets(cfg, train=True)
    cfg = tiny_cfg(*tiny_set, "INPUT.CLIP_LENGTH", 2)
    register_datasets(cfg)
    with pytest.raises(DatasetError, match=r"tiny has none: set it to 1"):
        check_datasets(cfg, train=True)


def altered(row, **values):
    coco = copy.deepcopy(coco_of(FRAMES))
    coco["images"][row] |= values
    return coco


@pytest.mark.parametrize(
    ("coco", "faults"),
    [
        (altered(2, frame_id=20), ["video 4 lacks frames 14 to 19"]),
        (altered(0, frame_id=10), ["video 4 has several frames 10", "video 4 lacks frames 12"]),
        (altered(1, width=50), ["video 2 has frames of several sizes (50x48 as 1, 48x48 as 2)"]),
        (altered(1, frame_id="1"), ["image 1 has no whole number as frame_id", "lacks frames 1"]),
        (altered(1, video_id=9), ["image 1 is of video 9, not in videos", "video 2 lacks frames"]),
        (coco_of(FRAMES) | {"videos": None}, ["there is no list of videos"]),
        (coco_of(FRAMES) | {"videos": [{"id": 2}, {"id": 2}]}, ["each of its own"]),
        (
            coco_of(FRAMES) | {"videos": [{"id": 2, "fps": 0}, {"id": 4}]},
            ["video 2 has an fps that is no number above 0"],
        ),
    ],
)
def test_faults_of_frames_are_named(coco, faults):
    found = sequence_faults(coco)
    assert len(found) == len(faults)
    assert all(part in fault for part, fault in zip(faults, found, strict=True))


def test_all_faults_and_missing_files_are_in_one_error(folder):
    (folder / "5.png").unlink()
    (folder / "set.json").write_text(json.dumps(altered(0, frame_id=10)))
    with pytest.raises(DatasetError) as caught:
        check_coco_format(folder / "set.json", folder)
    for part in ("3 fault(s)", "files of frames 2 (5.png)", "several frames 10", "lacks frames 12"):
        assert part in str(caught.value)


def test_sound_sequences_pass(folder):
    assert sequence_faults(coco_of(FRAMES)) == []
    assert check_coco_format(folder / "set.json", folder).images == 7
