"""Deployed transforms in bfloat16: what it changes, what it must not, and who chooses it."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import codec as benchmark
from benchmarks.settings import BenchmarkSettings
from codec_det.codec.learned import fast_transforms, precision
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.fast_transforms import set_inner_dtype
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.precision import BFLOAT16_NOTE, multiplies_bfloat16, transforms_dtype
from codec_det.codec.table import build_codec
from codec_det.config import load_config
from codec_det.data.scenes import render_scene
from codec_det.deploy.model_files import load_decoder, load_encoder
from codec_det.deploy.receiver import load_receiver
from codec_det.training.checkpoint import load_codec_weights
from tests.deployed import encode, export, make_run, random_picture
from tools import decode as decode_tool
from tools import encode as encode_tool

DTYPES = (torch.float32, torch.bfloat16)


def packaged(quality):
    """A trained codec that comes with the package, and its entropy model."""
    weights = f"codec_det://shapes_codec_{quality}.pth"
    opts = ["MODEL.CODEC.N", "32", "MODEL.CODEC.M", "48", "MODEL.CODEC.WEIGHTS", weights]
    cfg = load_config("", opts)
    codec = build_codec(cfg)
    load_codec_weights(codec, cfg)
    codec.model.update()
    codec.set_trainable(())
    return codec.eval(), freeze_entropy_model(codec.name, codec.model)


@pytest.mark.parametrize("quality", [1, 2, 3])
def test_it_costs_little(quality):
    codec, entropy = packaged(quality)
    rng = np.random.default_rng(1)
    pictures = np.stack([render_scene(rng, 200, 264)[0] for _ in range(4)])
    originals = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    encoder = picture_encoder(codec.model, entropy)
    decoder = PictureDecoder(codec.model.g_s, entropy)
    sizes, errors, decoded = [], [], []
    for dtype in DTYPES:
        set_inner_dtype(codec, dtype)
        files = [encoder.encode(picture) for picture in pictures]
        sizes.append(sum(map(len, files)))
        coded = torch.stack([decoder.decode(data) for data in files])
        errors.append((coded - originals).square().mean().item())
        decoded.append(decoder.decode(files[0]))
    set_inner_dtype(codec, torch.float32)
    difference = 255 * (decoder.decode(files[0]) - decoded[1])
    assert sizes[1] == pytest.approx(sizes[0], rel=2e-3)
    assert errors[1] == pytest.approx(errors[0], rel=2e-3)
    # In 8-bit levels, of the same file.
    assert 0 < difference.abs().max() < 1.5
    assert difference.square().mean() < 0.03


def test_files_hold_the_same_latents_wherever_they_are_read():
    codec, entropy = packaged(3)
    picture, _ = render_scene(np.random.default_rng(2), 200, 264)
    encoder = picture_encoder(codec.model, entropy)
    for dtype in DTYPES:
        set_inner_dtype(codec, dtype)
        y, z = encoder.analysis(encoder._prepare(picture)[None])
        data = encoder.encode(picture)
        # The entropy model of the other side has no part in either precision.
        latents = freeze_entropy_model(codec.name, codec.model).read(data)
        assert np.array_equal(latents.y, y[0])
        assert np.array_equal(latents.z, z[0])
        assert abs(latents.y).max() > 3


@pytest.mark.parametrize("count", [1, 2])
def test_rows_are_computed_as_if_together(count, monkeypatch):
    codec, _ = packaged(2)
    set_inner_dtype(codec, torch.bfloat16)
    x = torch.rand(count, 3, 144, 80).contiguous(memory_format=torch.channels_last)
    results = []
    for rows in (16, 144):
        monkeypatch.setattr(fast_transforms, "ROWS", rows)
        with torch.inference_mode():
            y = codec.model.g_a(x)
            results.append((y, codec.model.g_s(results[0][0].round() if results else y.round())))
    for parts, whole in zip(*results, strict=True):
        assert parts.shape == whole.shape
        assert parts.dtype == torch.float32
        # A sum in another order may end in the next bfloat16.
        assert (parts - whole).abs().max() < 0.02 * whole.std()


# ---- Who chooses it ----


@pytest.mark.parametrize(
    ("has", "limit", "chosen"),
    [(True, "AVX512", True), (False, "AVX512", False), (True, "AVX2", False)],
)
def test_it_is_for_processors_that_multiply_it(monkeypatch, has, limit, chosen):
    ask = lambda: {"avx512_bf16": has}  # noqa: E731
    monkeypatch.setattr(torch.cpu, "get_capabilities", ask, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: limit)
    assert multiplies_bfloat16() is chosen
    monkeypatch.setattr(precision, "multiplies_bfloat16", multiplies_bfloat16)
    assert transforms_dtype("cpu") == DTYPES[chosen]
    assert transforms_dtype("cuda") == torch.float32


def test_it_is_not_for_evaluation(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    codec, _ = packaged(1)
    assert codec.model.g_a.inner_dtype == codec.model.g_s.inner_dtype == torch.float32


def test_tools_choose_it_and_say_so(tmp_path, tiny_set, monkeypatch, capsys):
    deploy = export(make_run(tmp_path / "run", *tiny_set), tmp_path / "deploy")
    encode(deploy, tmp_path / "coded")
    Image.fromarray(random_picture(80, 96, 0)).save(tmp_path / "picture.png")
    found = {}
    for has in (False, True):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda has=has: has)
        output, model = tmp_path / str(has), str(deploy / "receiver.safetensors")
        arguments = [str(tmp_path / "coded"), "--model", model, "--output-dir", str(output)]
        assert decode_tool.main(arguments) == 0
        assert (BFLOAT16_NOTE in capsys.readouterr().out.splitlines()) is has
        model = str(deploy / "encoder.safetensors")
        arguments = [str(tmp_path / "picture.png"), "--model", model, "--output-dir", str(output)]
        assert encode_tool.main(arguments) == 0
        assert (BFLOAT16_NOTE in capsys.readouterr().out.splitlines()) is has
        found[has] = np.array(Image.open(output / "first.png")).astype(int)
    assert abs(found[True] - found[False]).max() <= 1
    assert found[True].std() > 1


def test_it_is_set_where_it_is_asked_for(tmp_path, tiny_set):
    deploy = export(make_run(tmp_path / "run", *tiny_set), tmp_path / "deploy")
    receiver = deploy / "receiver.safetensors"
    for options, dtype in (({}, torch.float32), ({"dtype": torch.bfloat16}, torch.bfloat16)):
        encoder = load_encoder(deploy / "encoder.safetensors", **options)
        assert encoder.analysis.analyse.args[0].g_a.inner_dtype == dtype
        assert load_decoder(receiver, **options).g_s.inner_dtype == dtype
        assert load_receiver(receiver, **options).decoder.g_s.inner_dtype == dtype


def test_the_benchmark_has_rows_of_both(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    name = "bmshj2018-factorized"
    settings = BenchmarkSettings("", codecs=(name,), codec_size=(64, 80), rounds=1)
    result = benchmark.measure(settings)
    stages = ("encode", "decode", "encode in bfloat16", "decode in bfloat16")
    assert [row.what for row in result.rows] == [f"{name}, {stage}" for stage in stages]
    notes = result.notes[name]
    # Its decoder runs in bfloat16, and the float32 one is still CompressAI's.
    assert notes["max_difference"] < 0.01 < notes["bfloat16_max_difference"] < 2
