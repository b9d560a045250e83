"""tools/info.py, as called from a shell."""

import json
import math

import pytest

from codec_det.bitstream.model_file import load_model, save_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from tests.deployed import SIZES, encode, export, make_run
from tools import info as tool


@pytest.fixture(scope="module")
def deploy(tmp_path_factory, tiny_set):
    folder = tmp_path_factory.mktemp("runs")
    return export(make_run(folder / "run", *tiny_set), folder / "deploy")


@pytest.fixture
def coded(deploy, tmp_path):
    encode(deploy, tmp_path / "coded")
    return tmp_path / "coded"


def as_json(capsys, *arguments, status=0):
    capsys.readouterr()
    assert tool.main([*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_coded_files_say_what_they_are(deploy, coded, capsys):
    entropy = load_model(deploy / "encoder.safetensors", "encoder").entropy
    shown = as_json(capsys, coded)
    assert shown["models"] == shown["failures"] == []
    assert len(shown["files"]) == 3
    for facts, name in zip(shown["files"], sorted(SIZES), strict=True):
        path = coded / f"{name}.cdet"
        size = path.stat().st_size
        known = name == "third"
        assert facts == {
            "file": str(path),
            "version": 2,
            "codec": None,
            "fingerprint": entropy.sha256[:4],
            # A size that the model expects is known to the model.
            "height": None if known else SIZES[name][0],
            "width": None if known else SIZES[name][1],
            "bytes": size,
            "bpp": None if known else 8 * size / (SIZES[name][0] * SIZES[name][1]),
            # Magic, fingerprint, size, two sides of one byte.
            "header_bytes": 5 + (0 if known else 2),
            "stream_bytes": size - 5 - (0 if known else 2),
        }


@pytest.mark.parametrize("model", ["encoder.safetensors", "receiver.safetensors"])
def test_with_the_model_bits_are_divided(deploy, coded, capsys, model):
    for facts in as_json(capsys, coded, "--model", deploy / model)["files"]:
        bits = facts["bits"]
        assert bits.keys() == {"latents", "hyper-latents", "header"}
        assert bits["header"] == 8 * facts["header_bytes"]
        assert min(bits.values()) > 0
        # What a stream costs beyond its information: up to the state that its coder starts with.
        assert 0 <= 8 * facts["bytes"] - sum(bits.values()) <= 64


def test_the_table_has_a_line_per_file_and_one_for_all(deploy, coded, capsys):
    assert tool.main([str(coded), "--model", str(deploy / "encoder.safetensors")]) == 0
    heading, *rows, total, note = capsys.readouterr().out.splitlines()
    assert heading.split()[:5] == ["file", "codec", "model", "version", "size"]
    facts = as_json(capsys, coded, "--model", deploy / "encoder.safetensors")["files"]
    for row, own in zip(rows, facts, strict=True):
        cells = row.split()
        assert cells[0] == own["file"]
        assert cells[4] == f"{own['width']}x{own['height']}"
        assert cells[5:9] == [
            *(str(own["bytes"]), f"{own['bpp']:.4f}"),
            *(str(own["header_bytes"]), str(own["stream_bytes"])),
        ]
        whole = sum(own["bits"].values())
        assert cells[9] == f"{own['bits']['latents']:.0f}"
        assert cells[10] == f"({own['bits']['latents'] / whole:.1%})"
    pixels = sum(height * width for height, width in SIZES.values())
    size = sum(own["bytes"] for own in facts)
    expected = ["3", "files", str(pixels), "px", str(size), f"{8 * size / pixels:.4f}"]
    assert total.split()[:6] == expected
    assert "by information content" in note
    assert len({len(line) for line in (heading, *rows, total)}) == 1


def test_models_say_what_they_are(deploy, capsys):
    shown = as_json(capsys, deploy)
    assert shown["files"] == shown["failures"] == []
    for facts, kind in zip(shown["models"], ("encoder", "receiver"), strict=True):
        file = load_model(deploy / f"{kind}.safetensors", kind)
        entropy = file.entropy
        assert facts["kind"] == kind
        assert facts["codec"] == "bmshj2018-hyperprior"
        assert facts["widths"] == [8, 12]
        assert facts["sha256"] == entropy.sha256
        assert facts["fingerprint"] == entropy.sha256[:4]
        assert facts["version"] == 2
        assert facts["scale"] == 1
        assert len(facts["sizes"]) == len(entropy.expected.sizes)
        assert {"640x480", "480x640", "3840x2160"} <= {*facts["sizes"]}
        assert facts["bytes"] == file.path.stat().st_size
        assert facts["made"] == file.metadata["made"]
        assert facts["weight_bits"] == entropy.hyperprior.transform.weight_bits
        assert facts["activation_bits"] == entropy.hyperprior.transform.activation_bits
        assert facts["partial_sums_log2"] == math.log2(max(entropy.partial_sums))
    assert "classes" not in shown["models"][0]
    assert shown["models"][1]["classes"][0] == "striped disc"
    assert tool.main([str(deploy / "receiver.safetensors")]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{deploy / 'receiver.safetensors'}: receiver, ")
    assert f"fingerprint   {entropy.sha256[:4]} (SHA-256 {entropy.sha256})" in text
    assert "detects       striped disc, barred disc" in text
    assert "exact below 2^53" in text
    (line,) = (line for line in text.splitlines() if "costs" in line)
    for model in shown["models"]:
        costs = model["kmac_per_pixel"]
        assert [*costs] == (["g_a", "h_a", "h_s"] if model["kind"] == "encoder" else ["h_s", "g_s"])
        # N=8, M=12: products of each layer's kernel and channels, by its pixels.
        layers = 3 * 8 * 25 / 4 + 8 * 8 * 25 * (1 / 16 + 1 / 64) + 8 * 12 * 25 / 256
        layers += 8 * 8 * (1 / 4 + 1 / 16 + 1 / 64)
        assert costs.get("g_a", costs.get("g_s")) == pytest.approx(layers / 1000)
    assert f"{sum(costs.values()):.1f} kMAC per pixel (h_s " in line
    model = LearnedCodec("bmshj2018-hyperprior", 1, n=8, m=12).model
    parameters = sum(p.numel() for part in (model.g_s, model.h_s) for p in part.parameters())
    assert shown["models"][1]["parameters"] == parameters


@pytest.mark.slow  # starts processes that import PyTorch
def test_the_memory_of_models_is_measured(deploy, capsys):
    small, large = (
        {
            model["kind"]: model["memory"]
            for model in as_json(capsys, deploy, "--memory", size)["models"]
        }
        for size in ("64x48", "1600x1200")
    )
    for kind in ("encoder", "receiver"):
        assert (large[kind]["width"], large[kind]["height"]) == (1600, 1200)
        # A process with PyTorch; the picture alone has 6 MB, and its first maps have 15.
        assert 5e7 < small[kind]["loaded"] <= small[kind]["peak"]
        assert large[kind]["peak"] > small[kind]["peak"] + 1e7


def test_memory_that_cannot_be_measured_is_named(deploy, capsys, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    shown = as_json(capsys, deploy, "--memory", "64x48", status=1)
    assert "peak memory of" in shown["failures"][0]["reason"]


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_an_onnx_encoder_is_one_more_model(tiny_set, tmp_path, coded, capsys):
    factorized = ["MODEL.CODEC.NAME", "bmshj2018-factorized"]
    deploy = export(make_run(tmp_path / "run", *tiny_set, *factorized), tmp_path / "d", "--onnx")
    models = as_json(capsys, deploy)["models"]
    assert [model["kind"] for model in models] == ["encoder", "encoder", "receiver"]
    assert len({model["sha256"] for model in models}) == 1
    assert "partial_sums_log2" not in models[0]
    assert tool.main([str(deploy / "encoder.onnx")]) == 0
    assert "exact: tables alone" in capsys.readouterr().out
    shown = as_json(capsys, coded, "--model", deploy / "encoder.onnx", status=1)
    assert len(shown["failures"]) == 3
    assert "coded with the entropy model" in shown["failures"][0]["reason"]


def test_damaged_files_are_listed_as_such(deploy, coded, tmp_path, capsys):
    (coded / "first.cdet").write_bytes((coded / "first.cdet").read_bytes()[:-1])
    whole = (deploy / "encoder.safetensors").read_bytes()
    (coded / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (coded / "no.onnx").write_bytes(b"no graph")
    entropy = load_model(deploy / "encoder.safetensors", "encoder").entropy
    save_model(coded / "odd.safetensors", "receiver", entropy, {}, {"codec": 3})
    (tmp_path / "notes.txt").write_text("no picture")
    inputs = [coded, tmp_path / "notes.txt", "--model", deploy / "encoder.safetensors"]
    shown = as_json(capsys, *inputs, status=1)
    assert [facts["width"] for facts in shown["files"]] == [33, 64]
    reasons = {failure["file"]: failure["reason"] for failure in shown["failures"]}
    assert "damaged" in reasons.pop(str(coded / "first.cdet"))
    assert "damaged" in reasons.pop(str(coded / "cut.safetensors"))
    assert "damaged or no ONNX model" in reasons.pop(str(coded / "no.onnx"))
    assert "other metadata than" in reasons.pop(str(coded / "odd.safetensors"))
    assert "not a codec_det file" in reasons.pop(str(tmp_path / "notes.txt"))
    assert reasons == {}
    assert tool.main([str(tmp_path / "notes.txt")]) == 1
    assert capsys.readouterr().out == ""
    assert tool.main(list(map(str, inputs))) == 1
    captured = capsys.readouterr()
    assert "2 files" in captured.out
    assert "error: 5 of 7 files failed:" in captured.err


def test_sizes_that_the_model_expects_are_unknown_without_it(deploy, coded, capsys):
    rows = {}
    for model in ([], ["--model", str(deploy / "encoder.safetensors")]):
        assert tool.main([str(coded), *model]) == 0
        _, *rows[len(model)], note = capsys.readouterr().out.splitlines()
        assert ("known to the model alone" in note) == (not model)
    without, known = ([row.split() for row in rows[i]] for i in (0, 2))
    assert [row[4] for row in without[:3]] == ["64x48", "33x70", "?"]
    assert [row[4] for row in known[:3]] == ["64x48", "33x70", "64x64"]
    assert [row[1] for row in without[:3]] == ["?"] * 3
    assert [row[1] for row in known[:3]] == ["bmshj2018-hyperprior"] * 3
    assert without[2][6] == "?"
    assert without[3][:3] == ["3", "files", "?"]


def test_sizes_are_limited_only_where_streams_are_read(deploy, coded, capsys):
    model = ["--model", deploy / "encoder.safetensors"]
    assert as_json(capsys, coded, "--max-pixels", "100")["failures"] == []
    shown = as_json(capsys, coded, "--max-pixels", "100", *model, status=1)
    assert len(shown["failures"]) == 3
    assert "limit of 100" in shown["failures"][0]["reason"]


def test_what_cannot_work_is_refused(coded, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "none"], "'{}/none' does not exist"),
        ([tmp_path / "empty"], "'{}/empty' has no coded files or models"),
        ([coded, "--model", tmp_path / "none.onnx"], "'{}/none.onnx' does not exist"),
    ):
        assert tool.main(list(map(str, arguments))) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"error: {message.format(tmp_path)}")
