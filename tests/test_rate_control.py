"""Levels in deployed models and files, and pictures that are made to fit."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.bitstream import rate_control
from codec_det.bitstream.container import unpack
from codec_det.bitstream.expected import Expected
from codec_det.bitstream.rate_control import best_within, highest_within, mean_size
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.data.shapes import scenes
from codec_det.deploy.model_files import load_encoder, save_encoder, save_onnx_encoder
from codec_det.errors import CodecDetError
from tests.test_levels import make
from tools.encode import main

LEVELS = 3


def trained(name):
    """A codec whose latents spread over several symbols, and more so from level to level."""
    torch.manual_seed(0)
    codec = make(name, LEVELS)
    for transform in (codec.model.g_a, getattr(codec.model, "h_a", None)):
        if transform is not None:
            *_, last = (x for x in transform.modules() if isinstance(x, torch.nn.Conv2d))
            last.weight.data *= 20
    codec.set_trainable(())
    codec.refresh_tables()
    return codec


class Deployed:
    def __init__(self, name):
        self.codec = trained(name)
        self.entropy = freeze_entropy_model(name, self.codec.model, Expected(levels=LEVELS))
        self.encoder = picture_encoder(self.codec.model, self.entropy, self.codec.gains)


@pytest.fixture(scope="module", params=["bmshj2018-hyperprior", "mbt2018-mean"])
def deployed(request):
    return Deployed(request.param)


def picture(size=(70, 100), seed=0):
    return next(scenes(1, size, seed))[0]


@pytest.mark.parametrize("limit", [90.0, 100.0, 150.5, 500.0, 2000.0, 1e9])
@pytest.mark.parametrize("bend", [0.0, 0.4, 3.0])
def test_the_highest_step_that_fits_is_found_in_few_tries(limit, bend):
    tried = []

    def size(step):
        tried.append(step)
        return 100 * math.exp(2.5 * (step / 128) ** (1 + bend))

    step = highest_within(size, 128, limit)
    fits = [k for k in range(129) if size(k) <= limit]
    tries, best = len(set(tried[:-129])), max(fits, default=0)
    # A step is 2 % of the size where it rises evenly.
    assert size(step) <= 1.03 * max(limit, size(0))
    assert size(step) >= {0.0: 0.97, 0.4: 0.9, 3.0: 0.65}[bend] * size(best)
    assert tries <= 3


def test_sizes_that_do_not_rise_end_the_search_all_the_same():
    rng = np.random.default_rng(0)
    sizes = 100 + 30 * rng.random(129)
    assert 0 <= highest_within(sizes.__getitem__, 128, 115) <= 128


def test_the_best_file_fits_and_the_transforms_run_once(deployed):
    calls = []
    hook = deployed.codec.model.g_a.register_forward_hook(lambda *_: calls.append(1))
    source = picture()
    lengths = [len(deployed.encoder.encode(source, level)) for level in range(LEVELS)]
    assert lengths[0] < lengths[1] < lengths[2]
    for limit in (lengths[0], (lengths[0] + lengths[1]) // 2, lengths[2] - 1, lengths[2] + 9):
        calls.clear()
        data = best_within(deployed.encoder.at_levels(source), limit)
        assert len(calls) == 1
        assert 0.97 * min(limit, lengths[2]) - 1 <= len(data) <= limit
        level = deployed.entropy.read(data).picture.level / 64
        assert data == deployed.encoder.encode(source, level)
    hook.remove()
    with pytest.raises(CodecDetError, match=f"at level 0 it takes {lengths[0]}, the least"):
        best_within(deployed.encoder.at_levels(source), lengths[0] - 1)


def test_estimates_are_near_the_files(deployed):
    ready = deployed.encoder.at_levels(picture((128, 128)))
    for step in (0, 37, 64, 128):
        assert ready.estimate(step) == pytest.approx(len(ready.write(step)), rel=0.01, abs=2)


def test_mean_size_lies_between_those_of_the_grid():
    sizes = [np.array([100.0, 200.0, 400.0]), np.array([10.0, 10.0, 10.0])]
    grid = rate_control.GRID
    assert mean_size(sizes, 0) == pytest.approx(55)
    assert mean_size(sizes, 2 * grid) == pytest.approx(205)
    assert mean_size(sizes, grid // 2) == pytest.approx((100 * math.sqrt(2) + 10) / 2)


def test_receivers_undo_the_gain_of_the_level_in_the_file(deployed, tmp_path):
    model = deployed.codec.model
    source = picture()
    right = PictureDecoder(model.g_s, deployed.entropy, inverse_gains=deployed.codec.inverse_gains)
    for level in (0.0, 0.5, 2.0):
        data = deployed.encoder.encode(source, level)
        x = torch.from_numpy(source.copy()).permute(2, 0, 1) / 255
        with torch.no_grad():
            (wanted,) = deployed.codec([x], levels=[level]).reconstructions
        torch.testing.assert_close(right.decode(data), wanted, rtol=0, atol=1e-2)
    without = PictureDecoder(model.g_s, deployed.entropy).decode(data)
    assert (without - right.decode(data)).abs().max() > 0.1


def test_exported_encoders_write_the_same_files_in_pytorch_and_onnx(deployed, tmp_path):
    pytest.importorskip("onnxruntime")
    plain, onnx = tmp_path / "encoder.safetensors", tmp_path / "encoder.onnx"
    save_encoder(plain, deployed.codec, deployed.entropy)
    save_onnx_encoder(onnx, deployed.codec, deployed.entropy)
    source = picture()
    for path in (plain, onnx):
        encoder = load_encoder(path)
        assert encoder.levels == LEVELS
        for level in (0.0, 1.5, None):
            data = encoder.encode(source, level)
            latents = deployed.entropy.read(data)
            wanted = deployed.entropy.read(deployed.encoder.encode(source, level))
            assert latents.picture == wanted.picture
            # Rounding may differ where runtimes do.
            assert (latents.y != wanted.y).mean() < 0.002
        limit = len(encoder.encode(source, 1.0)) + 3
        assert len(best_within(encoder.at_levels(source), limit)) <= limit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and pictures of different content."""
    root = tmp_path_factory.mktemp("rate")
    deployed = Deployed("bmshj2018-hyperprior")
    save_encoder(root / "encoder.safetensors", deployed.codec, deployed.entropy)
    fixed = make("bmshj2018-hyperprior", 1)
    fixed.refresh_tables()
    entropy = freeze_entropy_model("bmshj2018-hyperprior", fixed.model)
    save_encoder(root / "fixed.safetensors", fixed, entropy)
    (root / "pictures").mkdir()
    for number in range(4):
        pixels = picture(seed=number) // (number + 1)
        Image.fromarray(pixels).save(root / f"pictures/{number}.png")
    return root


def encode(folder, out, *options, model="encoder.safetensors"):
    words = [folder / "pictures", "--model", folder / model, "--output-dir", out, "--workers", 1]
    return main([str(x) for x in (*words, *options)])


def lengths(out):
    return [path.stat().st_size for path in sorted(out.glob("*.cdet"))]


def test_pictures_are_coded_at_a_level(folder, tmp_path, capsys):
    assert encode(folder, tmp_path, "--level", "1.3") == 0
    assert capsys.readouterr().out.count("level 1.296875") == 4
    (level,) = {unpack(path.read_bytes())[0].level for path in tmp_path.glob("*.cdet")}
    assert level == 83
    assert encode(folder, tmp_path) == 0
    assert capsys.readouterr().out.count("level 2\n") == 4


def test_every_picture_fits_or_says_why_not(folder, tmp_path, capsys):
    assert encode(folder, tmp_path / "least", "--level", "0") == 0
    least = lengths(tmp_path / "least")
    limit = sorted(least)[-2] + 5
    assert encode(folder, tmp_path / "out", "--max-bytes", limit) == 1
    assert max(lengths(tmp_path / "out")) <= limit
    said = capsys.readouterr().err
    assert f"with {limit} bytes: at level 0 it takes {max(least)}, the least" in said
    assert len(lengths(tmp_path / "out")) == 3


def test_files_have_the_mean_size_that_is_wanted(folder, tmp_path, capsys):
    assert encode(folder, tmp_path / "level", "--level", "1") == 0
    wanted = sum(lengths(tmp_path / "level")) // 4 + 2
    assert encode(folder, tmp_path / "mean", "--mean-bytes", wanted) == 0
    mean = sum(lengths(tmp_path / "mean")) / 4
    assert 0.97 * wanted < mean <= wanted
    assert len({unpack(p.read_bytes())[0].level for p in tmp_path.glob("mean/*.cdet")}) == 1
    capsys.readouterr()
    assert encode(folder, tmp_path / "none", "--mean-bytes", "10") == 2
    assert "--mean-bytes 10: at level 0, the least" in capsys.readouterr().err
    assert lengths(tmp_path / "none") == []


def test_what_was_coded_at_another_level_is_coded_again(folder, tmp_path, capsys):
    assert encode(folder, tmp_path, "--level", "0", "--skip-existing") == 0
    low = lengths(tmp_path)
    assert encode(folder, tmp_path, "--level", "0", "--skip-existing") == 0
    assert "4 of 4 pictures were coded before" in capsys.readouterr().out
    assert encode(folder, tmp_path, "--level", "2", "--skip-existing") == 0
    assert all(a < b for a, b in zip(low, lengths(tmp_path), strict=True))


@pytest.mark.parametrize("option", ["--level", "--max-bytes", "--mean-bytes"])
def test_models_of_a_fixed_rate_refuse_by_name(folder, tmp_path, capsys, option):
    assert encode(folder, tmp_path / "out", option, "1", model="fixed.safetensors") == 2
    said = capsys.readouterr().err
    assert f"{option} is for models of variable rate" in said
    assert "fixed.safetensors" in said
    assert not (tmp_path / "out").exists()


def test_levels_that_the_model_has_not_are_refused(folder, tmp_path, capsys):
    assert encode(folder, tmp_path, "--level", "2.5") == 2
    assert "--level 2.5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        encode(folder, tmp_path, "--level", "1", "--max-bytes", "9")
    assert "not allowed with" in capsys.readouterr().err
