import re
from itertools import islice

import numpy as np
import pytest

from codec_det.config import load_config
from codec_det.data.loader import TrainingBatches, build_test_loader, build_train_loader
from codec_det.data.register import register_datasets
from codec_det.data.shapes import generate
from codec_det.errors import ConfigError, DatasetError


def take(count, *args, **kwargs):
    return list(islice(TrainingBatches(*args, **kwargs), count))


def test_every_picture_once_an_epoch_in_changing_order():
    batches = take(6, [False] * 12, 4, seed=7)
    epochs = [[drawn.clip for b in batches[k : k + 3] for drawn in b] for k in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]
    assert take(6, [False] * 12, 4, seed=8) != batches


def test_start_continues_the_same_stream():
    portrait = [i % 3 == 0 for i in range(20)]
    whole = take(15, portrait, 4, seed=1)
    assert take(5, portrait, 4, seed=1, start=10) == whole[10:]


def test_processes_share_the_batches_of_one():
    portrait = [i % 2 == 0 for i in range(20)]
    whole = take(9, portrait, 4, seed=1)
    shares = [take(9, portrait, 4, seed=1, rank=r, world_size=2) for r in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(b) for b in whole]


def test_batches_do_not_mix_aspect_ratios():
    portrait = [i < 7 for i in range(20)]
    assert all(len({portrait[x.clip] for x in b}) == 1 for b in take(30, portrait, 4, seed=1))


def test_augmentation_follows_position_not_history(tiny_cfg, tiny_set):
    cfg = tiny_cfg(*tiny_set, "SOLVER.IMS_PER_BATCH", 4)
    register_datasets(cfg)
    whole = list(islice(build_train_loader(cfg), 12))
    np.random.seed(99)  # noqa: NPY002
    (resumed,) = islice(build_train_loader(cfg, start=3), 1)
    assert [x["file_name"] for x in resumed] == [x["file_name"] for x in whole[3]]
    assert all((a["image"] == b["image"]).all() for a, b in zip(resumed, whole[3], strict=True))
    name = whole[0][0]["file_name"]
    same = [x["image"] for batch in whole for x in batch if x["file_name"] == name]
    assert len(same) == 4
    assert any((image != same[0]).any() for image in same)


def test_indivisible_batch_is_refused(tiny_cfg, tiny_set, monkeypatch):
    cfg = tiny_cfg(*tiny_set, "SOLVER.IMS_PER_BATCH", 3)
    monkeypatch.setattr("codec_det.data.loader.comm.get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH is 3, which 2 processes"):
        build_train_loader(cfg)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("train", [True, False])
def test_picture_that_breaks_later_is_named_in_one_line(tiny_cfg, tmp_path, workers, train):
    file = generate(tmp_path / "set", 2, (64, 64), progress=False)
    name = f"breaks_{workers}_{train}"
    opts = ["DATASETS.COCO_FORMAT", str([[name, str(file), str(file.parent / "images")]])]
    cfg = tiny_cfg(*opts, "DATASETS.TRAIN", (name,), "DATALOADER.NUM_WORKERS", workers)
    register_datasets(cfg)
    loader = build_train_loader(cfg) if train else build_test_loader(cfg, name)
    for path in (file.parent / "images").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError) as caught:
        next(iter(loader))
    assert re.fullmatch(
        r"Cannot read the image .*00000[12]\.png: it is damaged .*", str(caught.value)
    )


def test_shipped_configs_load(tiny_cfg):
    assert load_config("configs/bccd/jft.yaml", []).DATASETS.TRAIN == ("bccd_train",)
