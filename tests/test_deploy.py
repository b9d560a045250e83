"""Deployed models: what is written, what is read back, and what is refused."""

import base64
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from safetensors import safe_open

from codec_det.bitstream.entropy import EntropyModel
from codec_det.bitstream.model_file import load_model, save_model
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.deploy.model_files import (
    codec_metadata,
    load_decoder,
    load_encoder,
    save_encoder,
    save_onnx_encoder,
    to_arrays,
)
from codec_det.errors import CodecDetError, WeightsError

NAMES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
SIZES = ((1, 1), (63, 65), (64, 64))


@dataclass
class Deployed:
    """A tiny codec and the files made of it."""

    codec: LearnedCodec
    entropy: EntropyModel
    folder: Path

    @property
    def encoder(self):
        return self.folder / "encoder.safetensors"

    @property
    def receiver(self):
        return self.folder / "receiver.safetensors"


def deploy(folder, name):
    torch.manual_seed(0)
    codec = LearnedCodec(name, 1, n=8, m=12).eval()
    with torch.no_grad():
        # Random weights make latents that are all zero, and grey pictures.
        for part, gain in {"g_a": 30, "h_a": 30, "g_s": 10}.items():
            if hasattr(codec.model, part):
                getattr(codec.model, part)[-1].weight.mul_(gain)
    codec.model.update()
    deployed = Deployed(codec, freeze_entropy_model(name, codec.model), folder)
    save_encoder(deployed.encoder, codec, deployed.entropy)
    parts = {"g_s": to_arrays(codec.model.g_s)}
    save_model(deployed.receiver, "receiver", deployed.entropy, parts, codec_metadata(codec))
    return deployed


@pytest.fixture(scope="module", params=NAMES)
def deployed(request, tmp_path_factory):
    return deploy(tmp_path_factory.mktemp("deployed"), request.param)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A hyperprior's files, where the kind of codec makes no difference."""
    return deploy(tmp_path_factory.mktemp("one"), "bmshj2018-hyperprior")


def picture(height, width):
    """Patches of random colours."""
    colours = np.random.default_rng(height).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(colours, np.ones((8, 8, 1), int)).astype(np.uint8)[:height, :width]


def edit(source, target, change):
    """A copy of a model file, with its arrays and metadata changed by ``change``."""
    with safe_open(source, framework="np") as file:
        metadata = json.loads(file.metadata()["codec_det"])
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(arrays, metadata)
    safetensors.numpy.save_file(arrays, target, {"codec_det": json.dumps(metadata)})
    return target


@pytest.mark.parametrize("size", SIZES)
def test_a_loaded_encoder_writes_the_same_bytes(deployed, size):
    expected = picture_encoder(deployed.codec.model, deployed.entropy).encode(picture(*size))
    assert load_encoder(deployed.encoder).encode(picture(*size)) == expected
    latents = deployed.entropy.read(expected)
    assert latents.picture.size == size
    assert np.abs(latents.y).max() >= (3 if min(size) > 1 else 1)


@pytest.mark.parametrize("size", SIZES)
def test_a_loaded_decoder_makes_the_picture_of_the_forward_pass(deployed, size):
    original = torch.from_numpy(picture(*size)).permute(2, 0, 1) / 255
    with torch.inference_mode():
        expected = deployed.codec([original]).reconstructions[0]
    data = load_encoder(deployed.encoder).encode(picture(*size))
    decoded = load_decoder(deployed.receiver).decode(data)
    assert decoded.shape == (3, *size)
    # The means of a mean-scale codec are fixed-point here.
    torch.testing.assert_close(decoded, expected, rtol=0, atol=0.5 / 255)
    if min(size) > 1:
        assert decoded.std() > 10 / 255


def test_pictures_of_a_batch_are_coded_as_if_alone(deployed):
    encoder = load_encoder(deployed.encoder)
    stride = deployed.entropy.stride
    pictures = [picture(stride - 1, 65), picture(stride // 2 + 1, 66), picture(stride, 80)]
    assert encoder.encode_batch(pictures) == [encoder.encode(each) for each in pictures]


def test_an_onnx_encoder_writes_files_that_decode(deployed):
    path = deployed.folder / "encoder.onnx"
    save_onnx_encoder(path, deployed.codec, deployed.entropy)
    encoder, reference = load_encoder(path, threads=1), load_encoder(deployed.encoder)
    assert encoder.entropy.sha256 == deployed.entropy.sha256
    decoder = PictureDecoder(deployed.codec.model.g_s, deployed.entropy)
    for size in (*SIZES, (130, 40)):
        data = encoder.encode(picture(*size))
        assert decoder.decode(data).shape == (3, *size)
        own, theirs = (deployed.entropy.read(x).y for x in (data, reference.encode(picture(*size))))
        # Floating-point transforms may round a latent otherwise.
        assert (own == theirs).mean() > 0.999
    pair = [picture(deployed.entropy.stride - 3, 60), picture(deployed.entropy.stride, 64)]
    assert encoder.encode_batch(pair) == [encoder.encode(each) for each in pair]


def test_an_encoder_file_has_what_a_camera_needs_and_no_more(deployed):
    with safe_open(deployed.encoder, framework="np") as file:
        parts = {".".join(key.split(".")[:2]) for key in file.keys()}  # noqa: SIM118
    analysis = {part for part in parts if part.startswith("analysis.")}
    assert {part.split(".")[0] for part in parts} == {"analysis", "entropy"}
    expected = {"analysis.g_a", "analysis.medians"}
    if deployed.codec.name != "bmshj2018-factorized":
        expected |= {"analysis.h_a", "analysis.low", "analysis.high"}
    if deployed.codec.name == "mbt2018-mean":
        expected |= {"analysis.h_s"}
    assert analysis == expected


def test_files_say_who_made_them(one):
    metadata = load_model(one.encoder, "encoder").metadata
    assert metadata["codec"] == {"name": "bmshj2018-hyperprior", "widths": [8, 12]}
    assert metadata["entropy"]["sha256"] == one.entropy.sha256
    assert set(metadata["made"]) >= {"time", "codec_det", "torch", "constriction"}


def test_files_can_be_read_by_whom_the_umask_lets(one, tmp_path):
    mask = os.umask(0o022)
    try:
        save_encoder(tmp_path / "encoder.safetensors", one.codec, one.entropy)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "encoder.safetensors").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.safetensors"]


def test_any_change_to_the_entropy_model_is_noticed(one, tmp_path):
    with safe_open(one.encoder, framework="np") as file:
        names = [key for key in file.keys() if key.startswith("entropy.")]  # noqa: SIM118
    assert len(names) > 10
    for name in names:

        def change(arrays, _, name=name):
            array = arrays[name].copy()
            array.flat[array.size // 2] += 1
            arrays[name] = array

        path = edit(one.encoder, tmp_path / "changed.safetensors", change)
        with pytest.raises(WeightsError, match="entropy model"):
            load_encoder(path)


@pytest.mark.parametrize(
    "setting", ["latent_stride", "sizes", "channels", "weight_bits", "slope", "codec"]
)
def test_changed_settings_of_the_entropy_model_are_noticed(one, tmp_path, setting):
    values = {"latent_stride": 32, "channels": 8, "weight_bits": 12, "codec": NAMES[2]}
    values |= {"slope": [1, 1, 1], "sizes": [[480, 640]]}

    def change(_, metadata):
        assert metadata["entropy"][setting] != values[setting]
        metadata["entropy"][setting] = values[setting]

    path = edit(one.encoder, tmp_path / "changed.safetensors", change)
    with pytest.raises(WeightsError, match="entropy model that was changed"):
        load_encoder(path)


def without(key):
    def change(arrays, _):
        del arrays[key]

    return change


def described(**entries):
    def change(_, metadata):
        metadata.update(entries)

    return change


def names_codec(name, *widths):
    return described(codec={"name": name, "widths": list(widths)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("entropy.tables.cdf"), "entropy model that was changed"),
        (without("entropy.hyper.0.bias"), "entropy model that was changed"),
        (without("analysis.g_a.0.weight"), "do not fit the architecture.*\n.*g_a.0.weight"),
        (without("analysis.low"), "do not fit the architecture.*\n.*low"),
        (described(entropy={}), "damaged entropy model"),
        (described(entropy=None), "damaged entropy model"),
        (described(kind="receiver"), "is a model of kind 'receiver': give the encoder"),
        (described(version=3), "is for version 3 of the format, and this program knows 1 and 2"),
        (described(version=[1]), "is for version .* of the format, and this program knows"),
        (described(codec=None), "names no codec"),
        (names_codec("bmshj2018-hyperprior", 16, 12), "do not fit the architecture"),
        (names_codec("bmshj2018-hyperprior", 0, 0), "do not fit the architecture"),
        (names_codec("bmshj2018-hyperprior", -8, 12), "names no codec"),
        (names_codec("bmshj2018-hyperprior", "8", "12"), "names no codec"),
        (names_codec("bmshj2018-hyperprior", 8), "names no codec"),
        (names_codec("jpeg", 8, 12), "names no codec"),
        (names_codec("mbt2018-mean", 8, 12), "its entropy model is of a bmshj2018-hyperprior"),
    ],
)
def test_files_that_were_tampered_with_are_refused(one, tmp_path, change, message):
    path = edit(one.encoder, tmp_path / "changed.safetensors", change)
    with pytest.raises(WeightsError, match=message) as refused:
        load_encoder(path)
    assert str(path) in str(refused.value)


def test_weights_of_the_transforms_are_no_part_of_the_entropy_model(one, tmp_path):
    """An encoder that is fine-tuned later writes for the same receiver."""

    def change(arrays, _):
        arrays["analysis.g_a.6.weight"] = arrays["analysis.g_a.6.weight"] / 2

    path = edit(one.encoder, tmp_path / "tuned.safetensors", change)
    data = load_encoder(path).encode(picture(64, 64))
    assert data != load_encoder(one.encoder).encode(picture(64, 64))
    assert load_decoder(one.receiver).decode(data).shape == (3, 64, 64)


def test_a_receiver_is_no_encoder_and_an_encoder_no_receiver(one):
    with pytest.raises(WeightsError, match="kind 'receiver': give the encoder"):
        load_encoder(one.receiver)
    with pytest.raises(WeightsError, match="kind 'encoder': give the receiver"):
        load_decoder(one.encoder)


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 1000])
def test_other_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"encoder.{suffix}"
    with pytest.raises(WeightsError, match=r"does not exist: make it with tools/export_model\.py"):
        load_encoder(path)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged or no"):
        load_encoder(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_files_cut_short_are_refused(one, tmp_path, share):
    data = one.encoder.read_bytes()
    path = tmp_path / "short.safetensors"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match="is damaged or no model"):
        load_encoder(path)


def test_safetensors_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(WeightsError, match="it has no codec_det metadata"):
        load_encoder(path)


def change_properties(source, target, **changes):
    """A copy of an ONNX file with other metadata; None: without it."""
    model = onnx.load(source)
    properties = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    kept = {key: value for key, value in properties.items() if value is not None}
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, target)
    return target


def test_onnx_files_that_were_tampered_with_are_refused(one, tmp_path):
    source, target = tmp_path / "encoder.onnx", tmp_path / "changed.onnx"
    save_onnx_encoder(source, one.codec, one.entropy)
    data = source.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="is damaged or no ONNX model"):
        load_encoder(target)

    properties = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    described = json.loads(properties["codec_det"])
    state = safetensors.numpy.load(base64.b64decode(properties["entropy"]))
    state["hyper.medians"] = state["hyper.medians"] + 1
    changed = base64.b64encode(safetensors.numpy.save(state)).decode()
    for changes, message in (
        ({"codec_det": None}, "it has no codec_det metadata"),
        ({"codec_det": json.dumps(described | {"kind": "receiver"})}, "kind 'receiver'"),
        ({"codec_det": json.dumps(described | {"version": 3})}, "version 3 of the format"),
        ({"entropy": None}, "damaged entropy model"),
        ({"entropy": "?"}, "damaged entropy model"),
        ({"entropy": properties["entropy"][:-400]}, "damaged entropy model"),
        ({"entropy": changed}, "entropy model that was changed"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_encoder(change_properties(source, target, **changes))
    # It is the changes that were refused, not the copying.
    copy = load_encoder(change_properties(source, target), threads=1)
    assert copy.encode(picture(9, 9)) == load_encoder(source, threads=1).encode(picture(9, 9))


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_devices_that_are_not_there_are_refused(one, device):
    for load, path in ((load_encoder, one.encoder), (load_decoder, one.receiver)):
        with pytest.raises(CodecDetError, match=f"the device '{device}' cannot be used"):
            load(path, device)


def test_diverged_weights_are_noticed_when_a_picture_is_coded(one, tmp_path):
    def change(arrays, _):
        arrays["analysis.g_a.6.bias"] = np.full_like(arrays["analysis.g_a.6.bias"], np.nan)

    path = edit(one.encoder, tmp_path / "diverged.safetensors", change)
    with pytest.raises(CodecDetError, match="latents are not finite"):
        load_encoder(path).encode(picture(8, 8))
