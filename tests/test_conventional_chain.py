"""Conventional codecs in the chain: coded by the loader, charged by their files, cached."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from codec_det.codec.conventional import ConventionalCodec, Precoder, build_precoder
from codec_det.codec.table import build_codec
from codec_det.config_checks import check_config
from codec_det.conventional import CodedCache, build_picture_codec
from codec_det.data.image_io import read_image
from codec_det.data.mapper import CodecDetectorMapper
from codec_det.errors import CodecDetError, ConfigError
from tools import train_net

WEBP = ["MODEL.CODEC.NAME", "webp", "MODEL.CODEC.QUALITY", 20]


@pytest.fixture
def webp_cfg(tiny_cfg, tiny_set, tmp_path):
    def make(*opts):
        return tiny_cfg(*tiny_set, *WEBP, "MODEL.CODEC.CACHE", str(tmp_path / "cache"), *opts)

    return make


@pytest.fixture
def entry(tiny_set, webp_cfg):
    from detectron2.data import DatasetCatalog

    from codec_det.data.register import register_datasets

    register_datasets(webp_cfg())
    return DatasetCatalog.get("tiny")[0]


def test_precoder_charges_the_file_and_codes_once(tmp_path):
    codec = build_picture_codec("webp", 20)
    precoder = Precoder(codec, CodedCache(tmp_path, 2**20))
    picture = np.random.default_rng(0).integers(0, 256, (33, 40, 3), dtype=np.uint8)
    first, second = precoder(picture), precoder(picture)
    data = codec.encode(picture)
    assert first.bits == second.bits == 8 * len(data)
    assert np.array_equal(first.picture, codec.decode(data))
    assert first.measured["encode_seconds"] > 0
    assert np.isnan(second.measured["encode_seconds"])
    assert first.measured["overhead_bits"] == 8 * codec.container_overhead(data)


def test_the_mapper_codes_the_whole_picture_and_then_augments(entry, webp_cfg):
    mapper = CodecDetectorMapper(webp_cfg(), is_train=True)
    mapper.augmentations = T.AugmentationList([T.RandomFlip(prob=1.0)])
    mapped = mapper(entry)
    picture = read_image(entry["file_name"], "RGB")
    codec = build_picture_codec("webp", 20)
    decoded = codec.decode(codec.encode(picture))
    assert mapped["bits"] == 8 * len(codec.encode(picture))
    # The tensor is BGR and flipped, as "image" is.
    assert np.array_equal(mapped["decoded"].numpy(), decoded[:, ::-1, ::-1].transpose(2, 0, 1))
    assert np.array_equal(mapped["image"].numpy(), picture[:, ::-1, ::-1].transpose(2, 0, 1))
    mapper.augmentations = T.AugmentationList([T.RandomCrop("relative", (0.5, 0.5))])
    crop = mapper(entry)
    shares = [crop[key].numel() / mapped[key].numel() for key in ("image", "decoded")]
    assert 0.2 < shares[0] == shares[1] < 0.3
    assert crop["bits"] == pytest.approx(shares[0] * mapped["bits"])


def test_pictures_that_cannot_be_coded_are_named(webp_cfg, tmp_path):
    path = tmp_path / "long.png"
    Image.new("RGB", (16384, 1)).save(path)
    mapper = CodecDetectorMapper(webp_cfg(), is_train=False)
    with pytest.raises(CodecDetError, match=f"'{path}': the codec 'webp' codes 1 to 16383 pixels"):
        mapper({"file_name": str(path)})


def test_evaluation_charges_files_and_a_second_one_encodes_nothing(webp_cfg):
    cfg = webp_cfg("MODEL.WEIGHTS", "")
    check_config(cfg)
    from codec_det.training.trainer import Trainer

    model = Trainer.build_model(cfg)
    first, second = (Trainer.test(cfg, model)["rate"] for _ in range(2))
    assert first["encoded"] == 12
    assert second["encoded"] == 0
    assert np.isnan(second["encode_ms"])
    assert first["bpp"] == second["bpp"]
    assert first["psnr"] == second["psnr"]
    codec = build_picture_codec("webp", 20)
    from detectron2.data import DatasetCatalog

    pictures = [read_image(x["file_name"], "RGB") for x in DatasetCatalog.get("tiny")]
    assert first["bpp"] == sum(8 * len(codec.encode(p)) for p in pictures) / (12 * 64 * 64)


def test_the_record_says_how_to_repeat_it(webp_cfg, tmp_path):
    from codec_det.evaluation.results import build_record
    from codec_det.training.trainer import Trainer

    cfg = webp_cfg()
    record = build_record(cfg, Trainer.build_model(cfg), "tiny", {})
    assert record["rate_is"].startswith("real")
    assert record["codec"]["settings"]["quality"] == 20
    assert record["codec"]["version"] == build_picture_codec("webp", 20).version()
    assert record["codec"]["command"]
    json.dumps(record)
    cfg = webp_cfg("MODEL.CODEC.SETTINGS", [["quality", 33.5]])
    record = build_record(cfg, Trainer.build_model(cfg), "tiny", {})
    assert record["codec"]["quality"] == 33.5


def test_detector_trains_on_decoded_pictures(webp_cfg, tmp_path):
    from codec_det.training.trainer import Trainer

    cfg = webp_cfg(
        *("MODEL.DETECTOR.TRAINABLE", True, "MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", 2),
        *("SOLVER.IMS_PER_BATCH", 2, "DATASETS.TEST", ()),
    )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    before = {k: v.clone() for k, v in trainer.chain.detector.state_dict().items()}
    trainer.train()
    after = trainer.chain.detector.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    # Decoded pictures reached the chain: an undamaged one would have no PSNR.
    assert 5 < trainer.storage.latest()["psnr"][0] < 60


def test_the_chain_codes_what_no_loader_has(webp_cfg):
    codec = build_codec(webp_cfg())
    assert isinstance(codec, ConventionalCodec)
    image = torch.rand(3, 20, 31)
    coded = codec([image])
    picture = (image * 255).round().byte().permute(1, 2, 0).numpy()
    data = codec.codec.encode(picture)
    assert coded.bits.tolist() == [8.0 * len(data)]
    assert torch.equal(
        (coded.reconstructions[0] * 255).round().byte().permute(1, 2, 0),
        torch.from_numpy(codec.codec.decode(data)),
    )


def test_only_conventional_codecs_are_precoded(tiny_cfg):
    assert build_precoder(tiny_cfg()) is None


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.CODEC.QUALITY", 101], "QUALITY"),
        (["MODEL.CODEC.SETTINGS", [["presett", 1]]], "presett"),
        (["MODEL.CODEC.SETTINGS", ["preset"]], "list of"),
        (["MODEL.CODEC.SETTINGS", [[1, 2]]], "list of"),
        (["MODEL.CODEC.SETTINGS", [["method", 1], ["method", 2]]], "each name once"),
        (["MODEL.CODEC.CACHE_GB", 0.0], "CACHE_GB"),
        (["MODEL.CODEC.TRAINABLE", ["encoder"]], "no encoder or decoder"),
    ],
)
def test_bad_values_are_named(webp_cfg, opts, message):
    with pytest.raises(ConfigError, match=message):
        check_config(webp_cfg(*opts))


def test_settings_are_refused_for_learned_codecs(tiny_cfg):
    with pytest.raises(ConfigError, match="conventional codecs"):
        check_config(tiny_cfg("MODEL.CODEC.SETTINGS", [["preset", "fast"]]))


def test_unwritable_cache_is_found_before_work(capsys, tmp_path, tiny_set):
    (tmp_path / "file").touch()
    opts = ["MODEL.CODEC.NAME", "jpeg", "MODEL.CODEC.QUALITY", "20"]
    opts += ["MODEL.CODEC.CACHE", str(tmp_path / "file" / "cache"), "OUTPUT_DIR", str(tmp_path)]
    assert train_net.main(["--eval-only", *opts, *tiny_set]) == 2
    assert "cache" in capsys.readouterr().err
