"""Fixtures that several test modules share: a chain small enough to build in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from codec_det.codec.learned import precision
from codec_det.config import load_config
from codec_det.data import pictures_check
from codec_det.data.shapes import generate

CONFIGS = Path(__file__).parent.parent / "configs"

# A Faster R-CNN R50-FPN of 0.1 million parameters behind a hyperprior codec, all weights random.
TINY: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.CODEC.N": 8,
    "MODEL.CODEC.M": 12,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TRAIN": 128,
    "INPUT.MAX_SIZE_TEST": 128,
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_bfloat16(monkeypatch) -> None:
    """What tools write does not depend on the processor, unless a test wants it to."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)


@pytest.fixture(autouse=True)
def _own_cache_of_pictures(monkeypatch, tmp_path_factory) -> None:
    """No test finds what another, or the user, has checked."""
    monkeypatch.setattr(pictures_check, "CACHE", str(tmp_path_factory.mktemp("checked")))


@pytest.fixture
def tiny_cfg(tmp_path) -> Callable[..., CfgNode]:
    """``make("KEY", value, ...)``: the frozen config of a tiny chain that writes to tmp_path."""

    def make(*opts: Any) -> CfgNode:
        own = [x for item in TINY.items() for x in item]
        output = ["OUTPUT_DIR", str(tmp_path / "output")]
        return load_config(str(CONFIGS / "Base_thin.yaml"), [*own, *output, *opts])

    return make


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory) -> list[str]:
    """Config keys that make 12 generated pictures of 64x64 the training and test set."""
    folder = tmp_path_factory.mktemp("set") / "pictures"
    generate(folder, 12, (64, 64), seed=3, progress=False)
    return [
        "DATASETS.COCO_FORMAT",
        str([["tiny", str(folder / "annotations.json"), str(folder / "images")]]),
        "DATASETS.TRAIN",
        "('tiny',)",
        "DATASETS.TEST",
        "('tiny',)",
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "6",
    ]
