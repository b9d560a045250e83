"""Files on disk outlive versions: checkpoints as they were written once still load."""

from pathlib import Path

import pytest

from codec_det.data.shapes import generate
from codec_det.evaluation.results import read_records
from tests.conftest import CONFIGS
from tools import train_net

DATA = Path(__file__).parent / "data"


def test_checkpoint_of_version_0_1_0_gives_the_figures_it_gave(tmp_path):
    # A codec of 4 and 6 channels, trained for three iterations on the four pictures.
    generate(tmp_path / "set", 4, (64, 64), seed=3, progress=False)
    sets = [["four", str(tmp_path / "set/annotations.json"), str(tmp_path / "set/images")]]
    opts = {
        "MODEL.DEVICE": "cpu",
        "MODEL.DETECTOR.META_ARCHITECTURE": "NoDetector",
        "MODEL.CODEC.N": 4,
        "MODEL.CODEC.M": 6,
        "MODEL.WEIGHTS": DATA / "checkpoint_0.1.0.pth",
        "DATASETS.COCO_FORMAT": sets,
        "DATASETS.TRAIN": ("four",),
        "DATASETS.TEST": ("four",),
        "DATALOADER.NUM_WORKERS": 0,
        "OUTPUT_DIR": tmp_path / "run",
    }
    words = [str(x) for item in opts.items() for x in item]
    config = str(CONFIGS / "Base_thin.yaml")
    assert train_net.main(["--config-file", config, "--eval-only", *words]) == 0
    (record,) = read_records(tmp_path / "run" / "results.jsonl")
    rate = record["results"]["rate"]
    assert rate["bpp"] == pytest.approx(0.005239679012447596, rel=1e-5)
    assert rate["psnr"] == pytest.approx(6.385285019874573, rel=1e-6)
