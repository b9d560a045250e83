"""Models and files of version 1 of the format, as they were written then: tests/data/version_1."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from codec_det.bitstream.container import unpack
from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.deploy.model_files import load_decoder, load_encoder
from codec_det.errors import BitstreamError

FOLDER = Path(__file__).parent / "data" / "version_1"
NAMES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
FINGERPRINTS = dict(zip(NAMES, ("b37eb007", "efda1482", "46d6a715"), strict=True))
# Mean and standard deviation of the decoded pictures.
FIGURES = dict(zip(NAMES, ((0.0638, 0.1078), (0.0808, 0.1663), (0.0810, 0.1666)), strict=True))


def picture():
    """The one that was coded (40, 70, 3): slopes and edges."""
    rows, columns = np.mgrid[:40, :70]
    channels = [rows * 5 + columns, rows * columns // 12, (columns - rows) * 3 + 90]
    return np.stack(channels, 2).astype(np.uint8)


def flat(latents):
    return np.concatenate([latents.y.ravel(), latents.z.ravel()])


@pytest.mark.parametrize("name", NAMES)
def test_receivers_of_then_decode_files_of_then(name):
    decoder = load_decoder(FOLDER / name / "receiver.safetensors")
    data = (FOLDER / name / "picture.cdet").read_bytes()
    latents = decoder.entropy.read(data)
    assert np.array_equal(flat(latents), np.load(FOLDER / name / "latents.npy"))
    assert latents.version == decoder.entropy.version == 1
    assert unpack(data)[0].fingerprint.hex() == FINGERPRINTS[name] == decoder.entropy.sha256[:8]
    decoded = decoder.decode(data)
    assert decoded.shape == (3, 40, 70)
    assert (decoded.mean().item(), decoded.std().item()) == pytest.approx(FIGURES[name], abs=1e-3)
    with pytest.raises(BitstreamError, match="the checksum does not match"):
        decoder.decode(data[:-5] + b"\0" + data[-4:])


@pytest.mark.parametrize("name", NAMES)
def test_encoders_of_then_write_for_receivers_of_then(name):
    encoder = load_encoder(FOLDER / name / "encoder.safetensors")
    data = encoder.encode(picture())
    assert data.startswith(b"\x89CDT\1")
    expected = np.load(FOLDER / name / "latents.npy")
    latents = load_decoder(FOLDER / name / "receiver.safetensors").entropy.read(data)
    # Another machine may round a latent otherwise.
    assert (flat(latents) != expected).mean() < 0.01


def test_an_onnx_encoder_of_then_writes_for_receivers_of_then(tmp_path):
    folder = FOLDER / "mbt2018-mean"
    path = tmp_path / "encoder.onnx"
    path.write_bytes(gzip.decompress((folder / "encoder.onnx.gz").read_bytes()))
    data = load_encoder(path, threads=1).encode(picture())
    latents = load_decoder(folder / "receiver.safetensors").entropy.read(data)
    assert latents.version == 1
    assert (flat(latents) != np.load(folder / "latents.npy")).mean() < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_receivers_of_then_decode_what_an_encoder_exported_now_writes(name):
    """Of the same entropy model: one that was trained further with a fixed decoder."""
    receiver = load_decoder(FOLDER / name / "receiver.safetensors")
    then = receiver.entropy.of_version(2)
    now = type(then).from_state(*then.state())
    assert now.version == 2
    assert now.fingerprint(1).hex() == FINGERPRINTS[name]
    before = receiver.entropy.read((FOLDER / name / "picture.cdet").read_bytes())
    y, z = (
        x[:, : shape[1], : shape[2]]
        for x, shape in zip((before.y, before.z), now.shapes(before.picture, 2), strict=True)
    )
    data = now.write(y, z, before.picture)
    assert data.startswith(b"\xcd\xe2")
    assert np.array_equal(receiver.entropy.read(data).y, y)
    assert receiver.decode(data).shape == (3, 40, 70)


def test_a_model_frozen_now_decodes_files_of_then():
    torch.manual_seed(0)
    codec = LearnedCodec("mbt2018-mean", 1, n=8, m=12).eval()
    codec.refresh_tables()
    entropy = freeze_entropy_model(codec.name, codec.model)
    then = picture_encoder(codec.model, entropy.of_version(1)).encode(picture())
    now = picture_encoder(codec.model, entropy).encode(picture())
    latents = entropy.read(then)
    assert (latents.version, latents.y.shape) == (1, (12, 4, 8))
    assert (entropy.read(now).version, entropy.read(now).y.shape) == (2, (12, 3, 5))
    assert len(now) < len(then) - 8
