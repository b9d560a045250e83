"""A run at half its pictures' size, deployed: files, what is decoded of them, and what is found."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from codec_det.bitstream import PictureEncoder
from codec_det.bitstream.container import unpack
from codec_det.bitstream.onnx_encoder import load_onnx_encoder
from codec_det.codec.learned import precision
from codec_det.coding_scale import shrink
from codec_det.data.image_io import read_image
from codec_det.deploy.model_files import load_decoder, load_encoder
from codec_det.pixels import enlarge, to_uint8
from tests.deployed import export, make_run
from tools import decode, detect, encode, info, rate_distortion, train_net
from tools import visualize as visualizer

BITSTREAM = ("MODEL.CODEC.BITSTREAM", "True")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_set):
    """Of a codec whose latents and detections are not all alike, evaluated by files."""
    folder = tmp_path_factory.mktemp("runs") / "half"
    many = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.RPN.POST_NMS_TOPK_TEST", "8")
    made = make_run(folder, *tiny_set, "MODEL.CODEC.SCALE", "0.5", *many, *BITSTREAM)
    assert train_net.main(["--eval-only", "OUTPUT_DIR", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def deploy(run):
    return export(run, run.parent / "deploy")


@pytest.fixture(scope="module")
def pictures(tiny_set):
    """Folder and annotations of the pictures that the run was evaluated with, 64x64."""
    ((_, annotations, folder),) = json.loads(tiny_set[1].replace("'", '"'))
    return folder, annotations


@pytest.fixture(scope="module")
def coded(deploy, pictures):
    folder = deploy.parent / "coded"
    model = str(deploy / "encoder.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        # As in the evaluation: a latent could round otherwise.
        patch.setattr(precision, "multiplies_bfloat16", lambda: False)
        assert encode.main([pictures[0], "--model", model, "--output-dir", str(folder)]) == 0
    return folder


def evaluated(run):
    """Bits by name of picture, as evaluation charged them."""
    with (run / "inference" / "tiny" / "per_image.csv").open(newline="") as file:
        return {row["file_name"]: float(row["bits"]) for row in csv.DictReader(file)}


def test_evaluation_charges_the_bytes_that_encode_writes(run, coded):
    bits = {name.rsplit("/")[-1]: spent for name, spent in evaluated(run).items()}
    assert len(bits) == 12
    for name, spent in bits.items():
        assert spent == 8 * (coded / name).with_suffix(".cdet").stat().st_size > 0
    assert len({*bits.values()}) > 1


def test_files_say_what_size_pictures_were_taken_at(deploy, coded, pictures, capsys):
    decoder = load_decoder(deploy / "receiver.safetensors")
    path = min(coded.glob("*.cdet"))
    # A size that is expected, at a scale that is: one byte says both.
    header, _ = unpack(path.read_bytes())
    assert (type(header.size), header.coded_size) == (int, None)
    latents = decoder.entropy.read(path.read_bytes())
    assert latents.picture == ((64, 64), (32, 32), 0)
    odd = np.ascontiguousarray(read_image(f"{pictures[0]}/{path.stem}.png", "RGB")[:47, :61])
    encoder = load_encoder(deploy / "encoder.safetensors")
    assert decoder.entropy.read(encoder.encode(odd)).picture == ((47, 61), (24, 31), 0)
    for name in ("encoder", "receiver"):
        capsys.readouterr()
        model = deploy / f"{name}.safetensors"
        assert info.main([str(path), str(model), "--model", str(model)]) == 0
        text = capsys.readouterr().out
        assert "64x64 as 32x32" in text
        assert "coding scale  0.5\n" in text
        assert f"{8 * path.stat().st_size / 64**2:.4f}" in text


def test_what_is_coded_is_the_picture_shrunk(deploy, pictures):
    seen = []
    encoder = load_encoder(deploy / "encoder.safetensors")

    def analysis(batch):
        seen.append(batch)
        return encoder.analysis(batch)

    picture = read_image(f"{pictures[0]}/000001.png", "RGB")
    batch = [picture, picture[:63, :62]]
    files = PictureEncoder(analysis, encoder.entropy).encode_batch(batch)
    assert files == [encoder.encode(each) for each in batch]
    assert seen[0].shape == (2, 3, 32, 32)
    small = seen[0].transpose(0, 2, 3, 1)
    assert np.array_equal(small[0], shrink(picture, 0.5))
    assert np.array_equal(small[1, :32, :31], shrink(batch[1], 0.5))


def test_pictures_are_decoded_at_the_size_they_were_taken_at(run, deploy, coded, tmp_path):
    model = str(deploy / "receiver.safetensors")
    assert decode.main([str(coded), "--model", model, "--output-dir", str(tmp_path)]) == 0
    decoder = load_decoder(deploy / "receiver.safetensors")
    for path in coded.glob("*.cdet"):
        small = decoder.decode(path.read_bytes())
        assert small.shape == (3, 32, 32)
        expected = to_uint8(enlarge(small, (64, 64))).permute(1, 2, 0).numpy()
        written = np.array(Image.open(tmp_path / f"{path.stem}.png"))
        assert np.array_equal(written, expected)


def test_detections_are_those_of_the_evaluation(run, deploy, coded, pictures, tmp_path):
    arguments = [coded, "--model", deploy / "receiver.safetensors", "--output-dir", tmp_path]
    arguments += ["--annotations", pictures[1], "--draw", "--score-threshold", 0]
    assert detect.main(list(map(str, arguments))) == 0
    found = json.loads((tmp_path / "detections.json").read_text())
    results = run / "inference" / "tiny" / "coco_instances_results.json"
    expected = json.loads(results.read_text())
    keys = ("image_id", "category_id", "score", "bbox")
    assert [[x[k] for k in keys] for x in found] == [[x[k] for k in keys] for x in expected]
    assert len({x["image_id"] for x in found}) == 12
    # Coordinates are of 64x64, twice what was decoded.
    assert max(x["bbox"][0] + x["bbox"][2] for x in found) > 33
    drawn = Image.open(tmp_path / "000001.png")
    assert min(drawn.size) >= 64


def test_rates_without_a_detector_are_those_of_files(run, coded, pictures, tmp_path):
    weights = torch.load(run / "model_final.pth")["model"]
    codec = {k: v for k, v in weights.items() if k.startswith("codec.")}
    torch.save({"model": codec}, tmp_path / "codec.pth")
    arguments = [pictures[0], "--codec", "bmshj2018-hyperprior", "--quality", 1, "--scale", 0.5]
    arguments += ["--channels", 8, 12, "--weights", tmp_path / "codec.pth"]
    assert rate_distortion.main([*map(str, arguments), "--output-dir", str(tmp_path)]) == 0
    with (tmp_path / "bmshj2018-hyperprior_scale_0.5.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        size = (coded / row["file_name"]).with_suffix(".cdet").stat().st_size
        assert float(row["bits"]) == 8 * size
        assert float(row["bpp"]) == 8 * size / 64**2


def test_the_visualizer_shows_it(run, tmp_path):
    arguments = [str(run), "--output-dir", str(tmp_path), "--show", "pictures", "bits"]
    assert visualizer.main([*arguments, "--count", "1"]) == 0
    assert list(tmp_path.glob("*.png"))


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_the_onnx_encoder_shrinks_as_well(run, pictures, tmp_path):
    folder = export(run, tmp_path, "--onnx")
    decoder = load_decoder(folder / "receiver.safetensors")
    picture = read_image(f"{pictures[0]}/000001.png", "RGB")[:50]
    encoders = (
        load_onnx_encoder(folder / "encoder.onnx"),
        load_encoder(folder / "encoder.safetensors"),
    )
    ours, reference = (decoder.entropy.read(encoder.encode(picture)) for encoder in encoders)
    assert ours.picture == reference.picture == ((50, 64), (25, 32), 0)
    assert reference.y.any()
    # Another implementation of float transforms: a latent may round the other way.
    assert (ours.y != reference.y).mean() < 0.01
