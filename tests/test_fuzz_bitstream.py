"""tools/fuzz_bitstream.py: nothing escapes it, and it notices what would; model files, lightly."""

import faulthandler
import json
import os
import random
import struct
import time
import zlib

import numpy as np
import pytest
import torch

from checks.fuzzing import ESCAPES, OUTCOMES, STREAMS, fuzz, same_latents
from checks.mutations import KINDS, mutation
from codec_det.bitstream.ans import StreamReader
from codec_det.bitstream.container import unpack
from codec_det.bitstream.entropy import EntropyModel
from codec_det.bitstream.model_file import save_model
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.deploy.model_files import (
    codec_metadata,
    load_decoder,
    load_encoder,
    save_encoder,
    to_arrays,
)
from codec_det.errors import BitstreamError, WeightsError
from tools import fuzz_bitstream as tool


@pytest.fixture(scope="module")
def targets():
    return [tool.make_target(name) for name in tool.CODECS]


# ---- The reader ----


def test_nothing_escapes(tmp_path, capsys):
    # Time counts what else runs on the machine.
    arguments = ["--mutations", "4000", "--seed", "5", "--workers", "2", "--time-limit", "60"]
    assert tool.main([*arguments, "--output-dir", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fuzz.json"]
    summary = json.loads((tmp_path / "fuzz.json").read_text())
    assert summary["mutations"] == sum(summary["outcomes"].values()) == 4000
    assert summary["escaped"] == sum(summary["outcomes"][name] for name in ESCAPES) == 0
    assert summary["codecs"] == list(tool.CODECS)
    for counts in summary["by_codec"].values():
        assert sum(counts.values()) > 1000
    for kind in KINDS:
        as_is, repaired = (summary["by_kind"][kind][half] for half in ("as is", "repaired"))
        assert sum(as_is.values()) == sum(repaired.values()) > 100
        assert kind == "crafted" or as_is["refused"] + as_is["unchanged"] == sum(as_is.values())
    # Crafted streams end where they should, unless a hyper-latent is outside its table.
    crafted = summary["by_kind"]["crafted"]["repaired"]
    assert crafted["other picture"] > crafted["refused"] > 0
    # An edit may put back what was there, or another size of as many latents.
    assert sum(half["unchanged"] for half in summary["by_kind"]["header"].values()) > 0
    assert summary["outcomes"]["other picture"] > crafted["other picture"]
    assert summary["peak_bytes"] < 2**28
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(tmp_path / "fuzz.json")
    assert printed[0].split() == ["unchanged", "refused", "other", "picture"]
    assert printed[-3].split()[-3:] == [
        str(summary["outcomes"][name]) for name in ("unchanged", "refused", "other picture")
    ]


def test_mutations_follow_from_their_seed(targets):
    for index in range(200):
        assert mutation(targets, 1, index) == mutation(targets, 1, index)
    one, other = ([mutation(targets, seed, i).data for i in range(200)] for seed in (1, 2))
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 20


def test_both_halves_of_a_mutation_are_of_one_kind_and_codec(targets):
    for index in range(0, 400, 2):
        as_is, repaired = (mutation(targets, 0, i) for i in (index, index + 1))
        assert as_is[:2] == repaired[:2]


def test_valid_files_are_unchanged(targets):
    for target in targets:
        for data in target.files:
            latents = target.entropy.read(data)
            assert same_latents(latents, target.entropy.read(data))
            other = latents.picture._replace(level=1)
            assert not same_latents(latents, latents._replace(picture=other))
            assert not same_latents(latents, latents._replace(y=latents.y + 1))


# ---- What would escape is noticed ----


class Faulty(EntropyModel):
    """Reads files of seven pixels' height, which no target has, in its own way."""

    fault = None

    def read(self, data, *limits):
        if Faulty.fault and is_seven_high(data):
            return Faulty.fault(lambda: EntropyModel.read(self, data, *limits))
        return super().read(data, *limits)


def is_seven_high(data):
    """Whether a file of either version says so."""
    if data[:2] == b"\xcd\xe2":
        return data[4:5] == b"\x3f" and data[5:6] == b"\7"
    return data[10:11] == b"\7"


def wrong_latents(read):
    latents = read()
    # No further from the tables, so that they can be coded.
    return latents._replace(y=latents.y // 2)


def crash(_):
    # pytest would have its handler print a report of it.
    faulthandler.disable()
    os.abort()


def hang(_):
    time.sleep(60)


def allocate(_):
    return np.ones(2**31)


def no_reason(_):
    raise BitstreamError


def raise_another(_):
    raise IndexError("index 5 is out of bounds")


FAULTS = {
    "exception": raise_another,
    "no reason": no_reason,
    "not canonical": wrong_latents,
    "crash": crash,
    "hang": hang,
    "out of memory": allocate,
}


def faulty_target(make=tool.make_target):
    """A target that has a fault where a height of seven is forged."""
    target = make("bmshj2018-factorized")
    entropy = Faulty.from_state(*target.entropy.state())
    return target._replace(entropy=entropy)


@pytest.mark.parametrize("outcome", FAULTS)
def test_escapes_are_counted_and_kept(outcome, monkeypatch):
    monkeypatch.setattr(Faulty, "fault", staticmethod(FAULTS[outcome]))
    report = fuzz([faulty_target()], 3000, seed=1, time_limit=1.5)
    found = dict(zip(OUTCOMES, report.counts.sum((0, 1, 2)).tolist(), strict=True))
    assert report.counts.sum() == 3000
    assert 1 <= found[outcome] <= 60
    assert {name for name in ESCAPES if found[name]} == {outcome}
    assert len(report.escapes) == found[outcome]
    for escape in report.escapes:
        assert escape.outcome == outcome
        assert escape.mutation == mutation([faulty_target()], 1, escape.number)
        assert is_seven_high(escape.mutation.data)


class Trusting1(EntropyModel):
    """Overlooks checksums of version 1."""

    def read(self, data, *limits):
        if data.startswith(b"\x89CDT"):
            data = data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))
        return super().read(data, *limits)


class Trusting2(EntropyModel):
    """Overlooks that of version 2, and so how a stream ends."""

    def read(self, data, *limits):
        header, stream = unpack(data)
        if header.version == 1:
            return super().read(data, *limits)
        picture = self.expected.picture(header)
        return self.read_symbols(StreamReader(stream), picture, 2)


@pytest.mark.parametrize("Trusting", [Trusting1, Trusting2])
def test_a_reader_that_overlooks_checksums_is_noticed(Trusting):
    target = tool.make_target("bmshj2018-factorized")
    entropy = Trusting.from_state(*target.entropy.state())
    report = fuzz([target._replace(entropy=entropy)], 1000)
    found = dict(zip(OUTCOMES, report.counts.sum((0, 1, 2)).tolist(), strict=True))
    assert found["not canonical"] > 0


def test_a_wrong_picture_is_noticed():
    target = tool.make_target("bmshj2018-factorized")
    spoiled = target._replace(synthesize=lambda latents: np.full((3, 1, 1), np.nan))
    report = fuzz([spoiled], 1000)
    found = dict(zip(OUTCOMES, report.counts.sum((0, 1, 2)).tolist(), strict=True))
    assert found["wrong picture"] > 0
    assert found["other picture"] == 0


def test_the_tool_saves_what_escaped_and_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Faulty, "fault", staticmethod(raise_another))
    monkeypatch.setattr(tool, "make_target", lambda name: faulty_target())
    arguments = ["--mutations", "3000", "--seed", "1", "--codecs", "bmshj2018-factorized"]
    assert tool.main([*arguments, "--output-dir", str(tmp_path), "--workers", "1"]) == 1
    summary = json.loads((tmp_path / "fuzz.json").read_text())
    saved = sorted(path for path in tmp_path.iterdir() if path.suffix == ".cdet")
    assert len(saved) == summary["escaped"] == summary["outcomes"]["exception"] > 0
    numbers = [int(path.stem.removeprefix("exception_")) for path in saved]
    for number, path in zip(numbers, saved, strict=True):
        assert path.read_bytes() == mutation([faulty_target()], 1, number).data
    printed = capsys.readouterr().out
    assert "exception" in printed.splitlines()[0]
    assert f"{len(saved)} escaped" in printed
    assert str(saved[0]) in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mutations", "0"], "0 is not positive"),
        (["--workers", "two"], "invalid whole number value: 'two'"),
        (["--codecs", "mbt2018"], "invalid choice: 'mbt2018'"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--output-dir", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = ["--mutations", "10", "--codecs", "bmshj2018-factorized", "--workers", "1"]
    assert tool.main([*arguments, "--output-dir", str(tmp_path / "file" / "fuzz")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: --output-dir '{tmp_path / 'file' / 'fuzz'}' is not writable")


# ---- Model files ----


@pytest.fixture(scope="module")
def model_files(tmp_path_factory):
    """Encoder and receiver of a mean-scale codec: path, loader, entropy model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    codec = LearnedCodec("mbt2018-mean", 1, n=8, m=12).eval()
    codec.refresh_tables()
    entropy = freeze_entropy_model(codec.name, codec.model)
    save_encoder(folder / "encoder.safetensors", codec, entropy)
    parts = {"g_s": to_arrays(codec.model.g_s)}
    save_model(folder / "r.safetensors", "receiver", entropy, parts, codec_metadata(codec))
    loaders = {"encoder.safetensors": load_encoder, "r.safetensors": load_decoder}
    return [(folder / name, load, entropy) for name, load in loaders.items()]


def split(data):
    """Header, as an object, and arrays of a safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header, arrays):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + arrays


def damage(rng, data):
    """A file with bits flipped in its header or its arrays, cut, extended, or garbage."""
    kind = rng.randrange(6)
    end = 8 + struct.unpack("<Q", data[:8])[0]
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        return data + rng.randbytes(rng.randrange(1, 20))
    if kind == 2:
        return rng.randbytes(rng.randrange(300))
    out = bytearray(data)
    start = {3: 0, 4: 8, 5: end}[kind]
    stop = {3: 8, 4: end, 5: len(out)}[kind]
    for _ in range(rng.choice((1, 3))):
        out[rng.randrange(start, stop)] ^= 1 << rng.randrange(8)
    return bytes(out)


VALUES = (
    None,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    [0],
    {},
    True,
    2**31,
    [2, 2, 2],
    [10**6, 10**6],
    [8, 2**62],
    float("nan"),
)


def edit(rng, data):
    """A file whose metadata or array descriptions have another value somewhere."""
    header, arrays = split(data)
    if rng.randrange(2):
        described = json.loads(header["__metadata__"]["codec_det"])
        place = described
        while isinstance(place, dict) and place:
            parent, key = place, rng.choice(list(place))
            place = place[key]
        parent[key] = rng.choice(VALUES)
        text = json.dumps(described)
        header["__metadata__"]["codec_det"] = rng.choice(
            (text, text[: len(text) // 2], "[" * 10**5)
        )
        return join(header, arrays)
    name = rng.choice([k for k in header if k != "__metadata__"])
    key = rng.choice(("dtype", "shape", "data_offsets", None))
    if key is None:
        del header[name]
    else:
        header[name][key] = rng.choice((*VALUES, "F64", "I8", [8], [1, 8, 1]))
    return join(header, arrays)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("mutate", [damage, edit])
def test_model_files_load_as_they_were_or_are_refused(model_files, mutate, number, tmp_path):
    path, load, entropy = model_files[number]
    data = path.read_bytes()
    rng = random.Random(number)
    changed = tmp_path / path.name
    refused = loads = 0
    for _ in range(200):
        changed.write_bytes(mutate(rng, data))
        try:
            loaded = load(changed)
        except WeightsError as error:
            reason = str(error)
            refused += str(changed) in reason
            continue
        # The weights of a transform carry no checksum; what shapes a stream does.
        assert loaded.entropy.sha256 == entropy.sha256
        loads += 1
    assert refused + loads == 200
    assert refused > 75


# ---- Streams ----


@pytest.fixture(scope="module")
def stream_targets():
    return [tool.make_stream_target(tool.CODECS_OF_SEQUENCES[0])]


def test_nothing_escapes_from_streams(stream_targets):
    report = fuzz(stream_targets, 300, method=STREAMS, seed=3, time_limit=60)
    assert report.counts.sum() == 300
    outcomes = dict(zip(OUTCOMES, report.counts.sum((0, 1, 2)), strict=True))
    assert sum(outcomes[name] for name in ESCAPES) == 0
    assert outcomes["refused"] > 200
    # Crafted frames, and those of other numbers.
    assert report.counts[0, :, 1, OUTCOMES.index("other picture")].sum() > 5
    assert report.counts[0, :, 0, OUTCOMES.index("other picture")].sum() == 0


def test_frames_that_should_not_be_shown_are_noticed(stream_targets):
    (target,) = stream_targets
    (_, data), known = target.files, STREAMS.prepare(target)
    assert STREAMS.judge(target, known, data) == "unchanged"
    assert STREAMS.judge(target, known, target.stream(target.clips[1][:-1])) == "refused"
    shown = target.read(data)
    for order in ([0, 1, 1, 2], [0, 2, 1]):

        class Faulty(type(target)):
            def read(self, _, order=order):
                return [shown[i] for i in order]

        assert STREAMS.judge(Faulty(*target), known, data) == "wrong picture"
    last = shown[-1].latents
    shown[-1] = shown[-1]._replace(latents=last._replace(y=last.y + 1))

    class Changed(type(target)):
        def read(self, _):
            return shown

    assert STREAMS.judge(Changed(*target), known, data) == "not canonical"


def test_codecs_that_do_not_go_with_streams_are_refused(tmp_path, capsys):
    arguments = ["--output-dir", str(tmp_path / "new"), "--codecs", "mbt2018-mean"]
    assert tool.main([*arguments, "--streams"]) == 2
    assert "--codecs mbt2018-mean: streams are of" in capsys.readouterr().err
    assert tool.main([*arguments, "mbt2018-mean-temporal"]) == 2
    assert "--codecs mbt2018-mean-temporal" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
