"""tools/export_model.py, as called from a shell."""

import json
import sys

import numpy as np
import pytest
import torch

from codec_det.bitstream.container import unpack
from codec_det.bitstream.model_file import load_model
from codec_det.deploy.model_files import load_decoder, load_encoder
from codec_det.deploy.receiver import load_receiver
from codec_det.errors import BitstreamError
from tests.deployed import encode, export, make_run, random_picture
from tests.test_train_net import command
from tools import export_model, train_net

PICTURE = random_picture(48, 64, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_set):
    return make_run(tmp_path_factory.mktemp("runs") / "start", *tiny_set)


@pytest.fixture(scope="module")
def deploy(run):
    return export(run, run.parent / "deploy")


def test_it_says_what_was_proven_and_written(run, tmp_path, capsys):
    assert export_model.main([str(run), "--output-dir", str(tmp_path / "new" / "deploy")]) == 0
    folder = tmp_path / "new" / "deploy"
    names = ["encoder.safetensors", "receiver.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    lines = capsys.readouterr().out.splitlines()
    entropy = load_model(folder / names[0], "encoder").entropy
    (proof,) = (line for line in lines if line.startswith("proven exact"))
    exponent = float(proof.split("2^")[1].split(",")[0])
    assert 2 ** (exponent - 0.1) < max(entropy.partial_sums) <= 2**exponent < 2**53
    transform = entropy.hyperprior.transform
    assert (
        f"precision: {transform.weight_bits} fractional bits of weights, "
        f"{transform.activation_bits} of activations"
    ) in lines
    header, _ = unpack(load_encoder(folder / names[0]).encode(PICTURE))
    assert f"fingerprint: {header.fingerprint.hex()}" in lines
    assert lines[0] == "bmshj2018-hyperprior, widths 8, 12; GeneralizedRCNN"
    for line, name in zip(lines[-2:], names, strict=True):
        size = (folder / name).stat().st_size
        assert line == f"{folder / name}: {size / 1e6:.2f} MB"


def test_files_are_json_and_numbers(deploy):
    for name in ("encoder.safetensors", "receiver.safetensors"):
        data = (deploy / name).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        assert json.loads(header.pop("__metadata__")["codec_det"])["version"] == 2
        assert {entry["dtype"] for entry in header.values()} <= {"F32", "F64", "I32", "I64"}
        ends = sorted(tuple(entry["data_offsets"]) for entry in header.values())
        # Without gaps: there is no room for anything else.
        assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])]
        assert 8 + length + ends[-1][1] == len(data)


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_the_onnx_encoder_writes_for_the_same_receiver(run, tmp_path):
    folder = export(run, tmp_path, "--onnx")
    decoder = load_decoder(folder / "receiver.safetensors")
    latents = [
        decoder.entropy.read(load_encoder(folder / name).encode(PICTURE))
        for name in ("encoder.onnx", "encoder.safetensors")
    ]
    assert latents[0].y.any()
    # Another implementation of float transforms: a latent may round the other way.
    assert np.abs(latents[0].y - latents[1].y).max() <= 1
    assert (latents[0].y != latents[1].y).mean() < 0.01


def test_missing_onnx_libraries_are_named_before_long_work(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    arguments = [str(run), "--output-dir", str(tmp_path / "deploy"), "--onnx"]
    assert export_model.main(arguments) == 2
    assert "needs onnxscript: pip install 'codec_det[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize("key", ["MODEL.WEIGHTS", "MODEL.CODEC.WEIGHTS"])
@pytest.mark.parametrize("name", ["receiver.safetensors", "encoder.safetensors"])
def test_exported_halves_are_not_evaluated_as_weights(
    deploy, tiny_set, tmp_path, capsys, key, name
):
    opts = ["MODEL.CODEC.TRAINABLE", "[]", "MODEL.DETECTOR.TRAINABLE", "False"]
    opts += [key, str(deploy / name)]
    assert train_net.main(["--eval-only", *command(tmp_path, *tiny_set, *opts)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"weights '{deploy / name}' are an exported {name.split('.')[0]}" in error
    assert not (tmp_path / "results.jsonl").exists()


def fine_tune(run, tiny_set, folder, parts):
    """Two iterations from a run's checkpoint; what is then exported."""
    opts = ["MODEL.WEIGHTS", str(run / "model_final.pth"), "MODEL.CODEC.TRAINABLE", str(parts)]
    opts += ["MODEL.DETECTOR.TRAINABLE", "False", "SOLVER.MAX_ITER", "2", "SOLVER.CODEC_LR", "0.01"]
    assert train_net.main(command(folder, *tiny_set, *opts)) == 0
    return export(folder, folder / "deploy")


def test_receivers_decode_what_an_encoder_tuned_later_writes(run, deploy, tiny_set, tmp_path):
    before = load_receiver(deploy / "receiver.safetensors")
    tuned = fine_tune(run, tiny_set, tmp_path / "eft", ["encoder"])
    files = [load_model(folder / "encoder.safetensors", "encoder") for folder in (deploy, tuned)]
    assert files[0].entropy.sha256 == files[1].entropy.sha256
    data = load_encoder(tuned / "encoder.safetensors").encode(PICTURE)
    assert data != load_encoder(deploy / "encoder.safetensors").encode(PICTURE)
    after = load_receiver(tuned / "receiver.safetensors")
    assert torch.equal(before.decoder.decode(data), after.decoder.decode(data))

    other = fine_tune(run, tiny_set, tmp_path / "cft", ["encoder", "decoder"])
    data = load_encoder(other / "encoder.safetensors").encode(PICTURE)
    with pytest.raises(BitstreamError, match="entropy model"):
        before.decoder.decode(data)
    assert load_decoder(other / "receiver.safetensors").decode(data).shape == (3, 48, 64)


def test_the_tables_of_the_checkpoint_are_kept(run, tiny_set, tmp_path):
    def exported(change):
        folder = make_run(tmp_path / change.__name__, *tiny_set)
        checkpoint = torch.load(folder / "model_final.pth")
        change(checkpoint["model"])
        torch.save(checkpoint, folder / "model_final.pth")
        return load_model(export(folder, folder) / "encoder.safetensors", "encoder").entropy

    def widen_densities(model):
        for key in model:
            if key.endswith("entropy_bottleneck.matrices.0"):
                model[key] += 1

    def drop_tables(model):
        for key, value in model.items():
            if key.endswith(("_quantized_cdf", "_cdf_length", "_offset")):
                model[key] = value.new_empty(0)

    def widen_and_drop(model):
        widen_densities(model)
        drop_tables(model)

    original, kept, filled, other = map(
        exported, (lambda model: None, widen_densities, drop_tables, widen_and_drop)
    )
    tables = [entropy.hyperprior.tables for entropy in (original, kept, filled, other)]
    assert np.array_equal(tables[1].cdf, tables[0].cdf)
    assert np.array_equal(tables[2].cdf, tables[0].cdf)
    assert not np.array_equal(tables[3].cdf, tables[0].cdf)


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        (["MODEL.CODEC.NAME", "identity"], "identity, which cannot be deployed (it codes nothing)"),
        (["MODEL.CODEC.NAME", "mbt2018"], "autoregressive"),
        (["MODEL.CODEC.NAME", "jpeg", "MODEL.CODEC.CACHE", ""], "jpeg, which cannot be deployed"),
    ],
)
def test_codecs_without_files_are_refused(tmp_path, tiny_cfg, capsys, codec, reason):
    cfg = tiny_cfg(*codec)
    run = tmp_path / "output"
    run.mkdir()
    (run / "config.yaml").write_text(cfg.dump())
    (run / "results.jsonl").touch()
    assert export_model.main([str(run), "--output-dir", str(tmp_path / "deploy")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: '{run}'")
    assert reason in error
    assert "bmshj2018-hyperprior" in error
    assert not (tmp_path / "deploy").exists()


def test_weights_that_cannot_be_exact_are_refused(tiny_set, tmp_path, capsys):
    run = make_run(tmp_path / "run", *tiny_set)
    checkpoint = torch.load(run / "model_final.pth")
    for key in checkpoint["model"]:
        if ".h_s." in key:
            checkpoint["model"][key] *= 1e6
    torch.save(checkpoint, run / "model_final.pth")
    assert export_model.main([str(run), "--output-dir", str(tmp_path / "deploy")]) == 2
    assert "SOLVER.WEIGHT_DECAY" in capsys.readouterr().err
    assert not (tmp_path / "deploy").exists()


def test_no_run_is_refused(tmp_path, capsys):
    assert export_model.main([str(tmp_path), "--output-dir", str(tmp_path / "deploy")]) == 2
    assert f"'{tmp_path}' has no config.yaml" in capsys.readouterr().err


def test_a_codec_without_hyperprior_has_nothing_to_prove(tiny_set, tmp_path, capsys):
    none = ["MODEL.DETECTOR.META_ARCHITECTURE", "NoDetector"]
    run = make_run(tmp_path / "run", *tiny_set, *none, "MODEL.CODEC.NAME", "bmshj2018-factorized")
    folder = export(run, tmp_path / "deploy")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bmshj2018-factorized, widths 8, 12; no detector"
    assert lines[1].startswith("exact: one table per channel")
    coded = encode(folder, tmp_path / "coded", {"only": (40, 24)})
    decoder = load_decoder(folder / "receiver.safetensors")
    assert decoder.decode(coded["only"]).shape == (3, 40, 24)
