"""Codecs that are evaluated by the files they make, alone and in the chain."""

import csv
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from codec_det.bitstream.ans import STREAM_BITS
from codec_det.bitstream.expected import Picture
from codec_det.bitstream.ids import CODEC_IDS
from codec_det.codec.learned.bitstream_codec import BitstreamCodec, PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.config_checks import check_config
from codec_det.data.register import register_datasets
from codec_det.data.shapes import scenes
from codec_det.errors import BitstreamError, ConfigError, WeightsError
from codec_det.pixels import to_uint8
from codec_det.training.trainer import Trainer, load_chain
from tests.test_train_net import command, equal, weights
from tools.train_net import main

SIZES = [(1, 1), (63, 65), (64, 64), (17, 130)]
MEAN_SCALE = "mbt2018-mean"


def make(name):
    """A narrow codec whose latents are as large as its entropy model expects."""
    torch.manual_seed(1)
    codec = LearnedCodec(name, 1, n=8, m=12).eval()
    model = codec.model
    (sample,) = pictures([(128, 128)])
    with torch.no_grad():
        y = model.g_a(sample[None])
        model.g_a[-1].weight *= 3 / y.std()
        model.g_a[-1].bias *= 0
        y = model.g_a(sample[None])
        model.g_s[-1].weight *= 0.2 / model.g_s(y).std()
        model.g_s[-1].bias += 0.5 - model.g_s(y).mean()
        if hasattr(model, "h_s"):
            last = model.h_s[-2 if name == "bmshj2018-hyperprior" else -1]
            last.weight *= 5
            last.bias[:12] += 3
    codec.refresh_tables()
    return codec


def pictures(sizes=SIZES):
    """Of 8-bit levels, (3, h, w) in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = [torch.rand(1, 3, h // 8 + 2, w // 8 + 2, generator=generator) for h, w in sizes]
    resized = [
        torch.nn.functional.interpolate(x, size, mode="bilinear")[0]
        for x, size in zip(coarse, sizes, strict=True)
    ]
    return [(255 * x).round() / 255 for x in resized]


@pytest.fixture(scope="module", params=CODEC_IDS)
def coded(request):
    """A codec, and what it and its files make of pictures of several sizes."""
    codec = make(request.param)
    with torch.no_grad():
        return codec, codec(pictures()), BitstreamCodec(codec)(pictures())


# ---- Pictures ----


def test_files_give_the_pictures_of_the_forward_pass(coded):
    _, forward, real = coded
    for ours, theirs, size in zip(
        real.reconstructions, forward.reconstructions, SIZES, strict=True
    ):
        assert ours.shape == theirs.shape == (3, *size)
        assert ours.dtype == torch.float32
        assert abs(to_uint8(ours).int() - to_uint8(theirs).int()).max() <= 1
    assert len(to_uint8(real.reconstructions[2]).unique()) > 20


def test_bits_are_those_of_the_files(coded):
    codec, _, real = coded
    entropy = freeze_entropy_model(codec.name, codec.model)
    encoder = picture_encoder(codec.model, entropy)
    for picture, bits, figures in zip(pictures(), real.bits, real.measured, strict=True):
        data = encoder.encode(to_uint8(picture).permute(1, 2, 0).numpy())
        assert bits.item() == 8 * len(data)
        written = {64: 0, 130: 3}.get(picture.shape[-1], 2)
        assert figures["overhead_bits"] == 8 * (5 + written) + STREAM_BITS
        assert figures["encode_seconds"] > 0
        assert figures["decode_seconds"] > 0
        both = figures["encode_seconds"] + figures["decode_seconds"]
        assert figures["codec_seconds"] == pytest.approx(both)
    assert torch.equal(real.bits, real.rounded_bits)


def test_estimated_bits_are_those_of_the_forward_pass(coded):
    _, forward, real = coded
    estimated = [figures["estimated_bits"] for figures in real.measured]
    assert estimated == pytest.approx(forward.bits.tolist(), rel=1e-3)
    for bits, figures in zip(real.bits.tolist(), real.measured, strict=True):
        without = bits - figures["overhead_bits"]
        assert abs(without - figures["estimated_bits"]) < 8 + 0.01 * figures["estimated_bits"]
    assert estimated[2] > 200


def test_latents_take_more_than_the_middle_of_their_tables(coded):
    codec, _, _ = coded
    entropy = freeze_entropy_model(codec.name, codec.model)
    encoder = picture_encoder(codec.model, entropy)
    latents = entropy.read(encoder.encode(np.array(pictures()[2].permute(1, 2, 0) * 255, np.uint8)))
    assert len(np.unique(latents.y)) > 5
    assert entropy.hyperprior is None or latents.z.shape == (8, 1, 1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array):
    codec = make("bmshj2018-factorized")
    entropy = freeze_entropy_model(codec.name, codec.model)
    with pytest.raises(ValueError, match=r"pictures are \(H, W, 3\) uint8, not"):
        picture_encoder(codec.model, entropy).encode(array)


def test_pictures_coded_together_are_coded_as_alone():
    codec = make(MEAN_SCALE)
    entropy = freeze_entropy_model(codec.name, codec.model)
    encoder = picture_encoder(codec.model, entropy)
    batch = [
        np.ascontiguousarray(p[:50, : 40 + i]) for i, (p, _) in enumerate(scenes(3, (64, 64), 5))
    ]
    together = encoder.encode_batch(batch)
    assert len({*together}) == 3
    for picture, data in zip(batch, together, strict=True):
        latents = entropy.read(data)
        assert latents.picture.size == latents.picture.coded_size == picture.shape[:2]
        alone = entropy.read(encoder.encode(picture))
        # Float transforms may round a latent otherwise in a batch.
        assert (latents.y != alone.y).mean() < 0.01


def test_hyper_latents_are_limited_to_their_tables():
    codec = make(MEAN_SCALE)
    codec.model.h_a[-1].weight.data *= 1e4
    entropy = freeze_entropy_model(codec.name, codec.model)
    data = picture_encoder(codec.model, entropy).encode(next(scenes(1, (64, 64), 0))[0])
    z = entropy.read(data).z
    tables = entropy.hyperprior.tables
    assert not entropy.hyperprior.out_of_range(z)
    ends = (z.ravel() == tables.lowest) | (z.ravel() == tables.highest)
    assert ends.mean() > 0.5


# ---- Refused ----


def test_pictures_above_the_limit_are_refused():
    codec = make("bmshj2018-factorized")
    entropy = freeze_entropy_model(codec.name, codec.model)
    data = picture_encoder(codec.model, entropy).encode(np.zeros((30, 40, 3), np.uint8))
    assert PictureDecoder(codec.model.g_s, entropy, max_pixels=1200).decode(data).shape == (
        3,
        30,
        40,
    )
    with pytest.raises(BitstreamError, match="raise it"):
        PictureDecoder(codec.model.g_s, entropy, max_pixels=1199).decode(data)


def test_latents_that_decode_to_no_numbers_are_refused():
    codec = make("bmshj2018-factorized")
    entropy = freeze_entropy_model(codec.name, codec.model)
    for layer in codec.model.g_s[::2]:
        layer.weight.data *= 1e4
    y = np.random.default_rng(0).choice((-30000, 30000), (12, 4, 4))
    data = entropy.write(y, None, Picture((64, 64), (64, 64)))
    with pytest.raises(BitstreamError, match="values that are no numbers"):
        PictureDecoder(codec.model.g_s, entropy).decode(data)


def test_diverged_analysis_is_reported():
    codec = make(MEAN_SCALE)
    entropy = freeze_entropy_model(codec.name, codec.model)
    encoder = picture_encoder(codec.model, entropy)
    codec.model.g_a[0].weight.data[:] = math.nan
    with pytest.raises(ValueError, match="latents are not finite: its weights have diverged"):
        encoder.encode(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(WeightsError, match="weights that are not finite"):
        BitstreamCodec(codec)


@pytest.mark.parametrize("name", ["identity", "mbt2018", "cheng2020-anchor", "cheng2020-attn"])
def test_config_refuses_codecs_without_a_file_format(tiny_cfg, name):
    opts = ["MODEL.CODEC.NAME", name, "MODEL.CODEC.BITSTREAM", True, "MODEL.CODEC.WEIGHTS", ""]
    cfg = tiny_cfg(*opts, "MODEL.CODEC.N", 0, "MODEL.CODEC.M", 0)
    with pytest.raises(
        ConfigError, match=f"BITSTREAM is set, but {name} cannot be written .*set it"
    ):
        check_config(cfg)


@pytest.mark.parametrize("name", CODEC_IDS)
def test_config_takes_the_others(tiny_cfg, name):
    opts = ["MODEL.CODEC.NAME", name, "MODEL.CODEC.BITSTREAM", True, "MODEL.CODEC.WEIGHTS", ""]
    check_config(tiny_cfg(*opts))


# ---- Evaluation ----


def codec_file(path, codec):
    torch.save(codec.model.state_dict(), path)
    return str(path)


def evaluate_files(tiny_cfg, tiny_set, path, *opts):
    cfg = tiny_cfg(*tiny_set, "MODEL.CODEC.BITSTREAM", True, "MODEL.CODEC.WEIGHTS", path, *opts)
    register_datasets(cfg)
    return cfg, Trainer.test(cfg, load_chain(cfg))["rate"]


def test_evaluation_reports_real_and_estimated_bits(tiny_cfg, tiny_set, tmp_path, caplog):
    codec = make(MEAN_SCALE)
    # Where what likelihoods of random weights over- and underestimate is about the same.
    codec.model.g_a[-1].weight.data *= 1.3
    path = codec_file(tmp_path / "codec.pth", codec)
    name = ("MODEL.CODEC.NAME", MEAN_SCALE)
    with caplog.at_level(logging.WARNING):
        cfg, rate = evaluate_files(tiny_cfg, tiny_set, path, *name)
    assert "off the estimate" not in caplog.text
    pixels = 12 * 64 * 64
    with Path(cfg.OUTPUT_DIR, "inference", "tiny", "per_image.csv").open() as file:
        rows = [
            {k: float(v) for k, v in r.items() if k != "file_name"} for r in csv.DictReader(file)
        ]
    assert len(rows) == 12
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    assert rate["bpp"] == pytest.approx(total["bits"] / pixels)
    assert all(row["bits"] % 8 == 0 for row in rows)
    assert rate["bpp_estimated"] == pytest.approx(total["estimated_bits"] / pixels)
    assert rate["bpp_overhead"] == pytest.approx((8 * 5 + STREAM_BITS) * 12 / pixels)
    gap = (total["bits"] - total["overhead_bits"]) / total["estimated_bits"] - 1
    assert rate["gap_percent"] == pytest.approx(100 * gap)
    assert abs(rate["gap_percent"]) < 1
    for stage in ("encode", "decode"):
        mean = 1000 * total[f"{stage}_seconds"] / 12
        assert rate[f"{stage}_ms"] == pytest.approx(mean)
        assert rate[f"{stage}_ms"] > 0

    output = ("OUTPUT_DIR", str(tmp_path / "2"))
    cfg_2 = tiny_cfg(*tiny_set, "MODEL.CODEC.WEIGHTS", path, *name, *output)
    estimated = Trainer.test(cfg_2, load_chain(cfg_2))
    assert estimated["rate"]["bpp"] == pytest.approx(rate["bpp_estimated"], rel=1e-3)
    assert estimated["rate"]["psnr"] == pytest.approx(rate["psnr"], abs=0.05)
    assert "bpp_estimated" not in estimated["rate"]
    record = json.loads(Path(cfg.OUTPUT_DIR, "results.jsonl").read_text())
    assert record["results"]["rate"]["bpp"] == rate["bpp"]


def test_tables_that_do_not_fit_are_warned_of(tiny_cfg, tiny_set, tmp_path, caplog):
    codec = make("bmshj2018-factorized")
    # The prior of the weights becomes another than the one of the tables.
    for parameter in codec.model.entropy_bottleneck.parameters():
        if parameter is not codec.model.entropy_bottleneck.quantiles:
            parameter.data += 0.1
    path = codec_file(tmp_path / "codec.pth", codec)
    with caplog.at_level(logging.WARNING):
        _, rate = evaluate_files(
            tiny_cfg, tiny_set, path, "MODEL.CODEC.NAME", "bmshj2018-factorized"
        )
    assert abs(rate["gap_percent"]) > 1
    assert f"Real bits are {rate['gap_percent']:+.2f} % off the estimate" in caplog.text


def test_evaluation_by_files_changes_nothing_in_training(tiny_set, tmp_path):
    plain, evaluated = tmp_path / "plain", tmp_path / "evaluated"
    assert main(command(plain, *tiny_set)) == 0
    opts = ("TEST.EVAL_PERIOD", "2", "MODEL.CODEC.BITSTREAM", "True")
    assert main(command(evaluated, *tiny_set, *opts)) == 0
    assert equal(weights(plain), weights(evaluated))
    records = [json.loads(line) for line in (evaluated / "results.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == [2, 4]
    for record in records:
        assert record["results"]["rate"].keys() >= {"bpp_estimated", "gap_percent", "decode_ms"}
        # Tables are made anew of the weights as they are then.
        assert abs(record["results"]["rate"]["gap_percent"]) < 5
    (record,) = map(json.loads, (plain / "results.jsonl").read_text().splitlines())
    assert "bpp_estimated" not in record["results"]["rate"]
    assert record["results"]["rate"]["bpp"] == pytest.approx(
        records[-1]["results"]["rate"]["bpp_estimated"], rel=0.01
    )
