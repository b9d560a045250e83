"""Frames coded in groups, in the loader: who is in which, what each is charged, what is kept."""

import csv
import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from codec_det.codec.conventional import sequence_codec
from codec_det.config_checks import check_config
from codec_det.data import coded_sequences
from codec_det.data.coded_sequences import SequencePrecoder, groups_of
from codec_det.data.image_io import read_image
from codec_det.data.mapper import CodecDetectorMapper
from codec_det.data.moving_scenes import Motion
from codec_det.data.register import check_datasets, register_datasets
from codec_det.data.shapes import generate
from codec_det.errors import ConfigError, DatasetError
from codec_det.evaluation.metrics import figures_in_words, recorded
from codec_det.evaluation.rate import summarize
from tools import warm_cache

needs_ffmpeg = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed"
)
HEVC = ("MODEL.CODEC.NAME", "hevc", "MODEL.CODEC.QUALITY", 40, "MODEL.CODEC.KEY_INTERVAL", 3)
HEVC = (*HEVC, "MODEL.CODEC.SETTINGS", "[['preset', 'ultrafast']]")
SIDE, FRAMES = 64, 4


@pytest.fixture
def sequences(tmp_path):
    """Config keys that make two generated sequences of four frames the training and test set."""
    file = generate(tmp_path / "set", 2, (SIDE, SIDE), 3, False, Motion(frames=FRAMES))
    entry = ["two_sequences", str(file), str(file.parent / "images")]
    yield [
        *("DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TRAIN", "('two_sequences',)"),
        *("DATASETS.TEST", "('two_sequences',)", "MODEL.ROI_HEADS.NUM_CLASSES", "6"),
        *("MODEL.CODEC.CACHE", str(tmp_path / "cache")),
    ]
    if "two_sequences" in DatasetCatalog:
        DatasetCatalog.remove("two_sequences")
        MetadataCatalog.remove("two_sequences")


@pytest.fixture
def hevc_cfg(tiny_cfg, sequences):
    def make(*opts):
        cfg = tiny_cfg(*sequences, *HEVC, *opts)
        register_datasets(cfg)
        return cfg

    return make


def test_groups_begin_with_sequences_and_at_the_interval():
    places = [(1, 0), (1, 1), (1, 2), (2, 5), (2, 6)]
    entries = [{"file_name": f"{v}-{f}", "video_id": v, "frame_id": f} for v, f in places]
    assert groups_of(entries, 2) == [("1-0", "1-1"), ("1-2",), ("2-5", "2-6")]
    assert groups_of(entries, 9) == [("1-0", "1-1", "1-2"), ("2-5", "2-6")]
    assert groups_of([{"file_name": "a"}, {"file_name": "b"}], 9) == [("a",), ("b",)]


@needs_ffmpeg
def test_each_frame_is_charged_its_own_bits(hevc_cfg):
    cfg = hevc_cfg()
    mapper = CodecDetectorMapper(cfg, is_train=False)
    entries = DatasetCatalog.get("two_sequences")
    # In no order, and one twice.
    mapped = {i: mapper(entries[i]) for i in (6, 1, 0, 7, 2, 5, 6, 4, 3)}
    codec = sequence_codec(cfg)
    for group in (range(3), range(3, 4), range(4, 7), range(7, 8)):
        frames = np.stack([read_image(entries[i]["file_name"], "RGB") for i in group])
        data = codec.encode(frames)
        decoded = codec.decode(data, len(group))
        assert sum(mapped[i]["bits"] for i in group) == 8 * len(data)
        for i, one in zip(group, decoded, strict=True):
            assert mapped[i]["bits"] == 8 * one.size
            assert mapped[i]["measured"]["overhead_bits"] == 8 * one.overhead
            assert (
                mapped[i]["decoded"].numpy() == one.picture[:, :, ::-1].transpose(2, 0, 1)
            ).all()


@needs_ffmpeg
def test_groups_are_decoded_once_as_far_as_memory_goes(hevc_cfg, monkeypatch):
    cfg = hevc_cfg()
    mapper = CodecDetectorMapper(cfg, is_train=False)
    entries, decoded = DatasetCatalog.get("two_sequences"), []
    decode = SequencePrecoder._code
    monkeypatch.setattr(
        SequencePrecoder, "_code", lambda self, f: decoded.append(len(f)) or decode(self, f)
    )
    for i in (0, 5, 1, 4, 2, 6):
        mapper(entries[i])
    assert decoded == [3, 3]
    # Room for four frames in each loader: the group of the first three, and that of the fourth.
    loaders = max(cfg.DATALOADER.NUM_WORKERS, 1)
    monkeypatch.setattr(coded_sequences, "MEMORY", 4 * 3 * SIDE**2 * loaders)
    mapper = CodecDetectorMapper(cfg, is_train=False)
    decoded.clear()
    for i in (0, 3, 1, 2, 3):
        mapper(entries[i])
    assert decoded == [3, 1]
    # What was used last stays where there is room for it.
    for i in (4, 3, 5, 3, 0, 6, 3):
        mapper(entries[i])
    assert decoded == [3, 1, 3, 3, 3, 1]


@needs_ffmpeg
def test_after_warming_the_cache_an_evaluation_encodes_nothing(hevc_cfg, sequences, capsys):
    from codec_det.evaluation.results import RESULTS_FILE
    from codec_det.training.trainer import Trainer

    for counts in ("coded 8, found 0, failed 0", "coded 0, found 8, failed 0"):
        assert warm_cache.main([str(x) for x in (*HEVC, *sequences)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith(counts)
        assert "8 of 8 pictures, hevc at 40" in lines[-2]
    cfg = hevc_cfg("MODEL.WEIGHTS", "")
    rate = Trainer.test(cfg, Trainer.build_model(cfg))["rate"]
    assert (rate["images"], rate["encoded"]) == (8, 0)
    assert f"{rate['bpp']:.4f} bpp" in lines[-1]
    # At the 25 frames per second of the set.
    assert rate["kbps"] == pytest.approx(rate["bpp"] * SIDE**2 * 25 / 1000)
    folder = Path(cfg.OUTPUT_DIR)
    table = (folder / "inference/two_sequences/per_image.csv").read_text()
    rows = csv.DictReader(table.splitlines())
    assert [(r["video_id"], r["frame_id"]) for r in rows] == [
        (str(v), str(f)) for v in (1, 2) for f in range(FRAMES)
    ]
    record = json.loads((folder / RESULTS_FILE).read_text())
    assert record["codec"]["settings"]["key_interval"] == 3
    assert "keyint=3" in record["codec"]["command"]


@needs_ffmpeg
def test_the_detector_trains_on_predicted_frames(hevc_cfg):
    from codec_det.training.trainer import Trainer

    cfg = hevc_cfg(
        *("MODEL.DETECTOR.TRAINABLE", True, "MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", 2),
        *("SOLVER.IMS_PER_BATCH", 2, "INPUT.CLIP_LENGTH", 2, "DATASETS.TEST", ()),
    )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert 10 < trainer.storage.latest()["psnr"][0] < 60


@needs_ffmpeg
def test_a_frame_that_is_gone_is_named(hevc_cfg, sequences, capsys):
    entries = DatasetCatalog.get("two_sequences") if hevc_cfg() else []
    broken = entries[5]["file_name"]
    Path(broken).write_bytes(b"\x89PNG")
    mapper = CodecDetectorMapper(hevc_cfg(), is_train=False)
    with pytest.raises(DatasetError, match=re.escape(broken)):
        mapper(entries[4])


@needs_ffmpeg
def test_what_cannot_predict_frames_is_refused(hevc_cfg, tiny_cfg, tiny_set):
    with pytest.raises(ConfigError, match=r"KEY_INTERVAL is 3: .*'jpeg' codes every picture by it"):
        check_config(hevc_cfg("MODEL.CODEC.NAME", "jpeg", "MODEL.CODEC.SETTINGS", "[]"))
    with pytest.raises(ConfigError, match=r"KEY_INTERVAL is 3, but bmshj2018-hyperprior codes ev"):
        check_config(tiny_cfg("MODEL.CODEC.KEY_INTERVAL", 3))
    cfg = tiny_cfg(*tiny_set, *HEVC)
    register_datasets(cfg)
    with pytest.raises(DatasetError, match=r"KEY_INTERVAL is 3 frames, but data set 'tiny' has no"):
        check_datasets(cfg, train=False)


def test_rate_in_time_is_of_frames_alone():
    row = dict.fromkeys(("height", "width", "bits", "bpp"), 10.0)
    row |= dict.fromkeys(("psnr", "ms_ssim", "codec_seconds", "detector_seconds"), 1.0)
    slow, fast = {**row, "fps": 5.0}, {**row, "fps": 20.0, "bits": 40.0}
    # 50 bits in 0.2 and 0.05 seconds.
    assert summarize([slow, fast])["kbps"] == pytest.approx(50 / 0.25 / 1000)
    assert "kbps" not in summarize([slow, row])
    results = {"rate": {"bpp": 0.1, "kbps": 12.345, "psnr": math.nan}}
    assert figures_in_words(results) == "0.1000 bits per pixel, 12.35 kbit/s"
    assert recorded([results]) == []
