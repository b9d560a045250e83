"""Frozen entropy models: docs/bitstream.md's examples, their state, and what they refuse."""

import hashlib
import json
import re
import time
import tracemalloc

import numpy as np
import pytest

from codec_det.bitstream.ans import StreamWriter
from codec_det.bitstream.container import Header, pack, unpack
from codec_det.bitstream.entropy import EntropyModel
from codec_det.bitstream.fixed_point import FixedPointTransform
from codec_det.errors import BitstreamError, CodecDetError, WeightsError
from tests.conftest import CONFIGS
from tests.test_ans import ReferenceDecoder

PAGE = (CONFIGS.parent / "docs" / "bitstream.md").read_text()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


# In the order of the page.
MODELS = [json.loads(text) for text in blocks("json") if text.startswith("{")]
FIGURES = [json.loads(text) for text in blocks("json") if text.startswith("[")]
FILES = [bytes.fromhex(text) for text in blocks("hex")]
FACTORIZED, MEAN_SCALE = 0, 1


def parts_of(number):
    """Arrays and settings of one of the page's models, free to be changed."""
    model = json.loads(json.dumps(MODELS[number]))
    return {k: np.array(v, dtype) for k, (dtype, v) in model["arrays"].items()}, model["settings"]


def make_model(number):
    return EntropyModel.from_state(*parts_of(number))


def rewritten(data, **changes):
    """The file with another header and a checksum to match."""
    header, stream = unpack(data)
    stream = changes.pop("stream", stream)
    return pack(header._replace(**changes), stream)


# ---- The page ----


def test_the_page_has_its_examples():
    assert [len(x) for x in (MODELS, FILES, FIGURES)] == [2, 2, 6]


@pytest.mark.parametrize(("number", "figure"), [(FACTORIZED, 0), (MEAN_SCALE, 1)])
def test_files_of_the_page_decode_and_are_coded_as_they_stand(number, figure):
    model, data = make_model(number), FILES[number]
    latents = model.read(data)
    assert latents.y.tolist() == FIGURES[figure]
    assert (latents.height, latents.width) == ((20, 30), (50, 64))[number]
    z = latents.z if number == MEAN_SCALE else None
    assert model.write(latents.y, z, latents.height, latents.width) == data


def test_means_of_the_page_are_added_to_the_latents():
    assert make_model(FACTORIZED).read(FILES[FACTORIZED]).means.tolist() == [[[0.5]], [[-0.25]]]
    latents = make_model(MEAN_SCALE).read(FILES[MEAN_SCALE])
    assert (latents.means * 128).tolist() == FIGURES[4][1:]
    assert latents.z.tolist() == [[[1]]]


def test_hyper_synthesis_of_the_page():
    model = make_model(MEAN_SCALE)
    whole = model.hyperprior.transform
    x = np.array([[[11]]])
    for count, figure in ((1, 2), (2, 3), (3, 4)):
        first = FixedPointTransform(whole.layers[:count], whole.weight_bits, whole.activation_bits)
        assert first(x).tolist() == FIGURES[figure]
    indexes, _ = model.tables_and_means((4, 4), np.array([[[1]]]))
    assert indexes.reshape(4, 4).tolist() == FIGURES[5]


def test_states_of_the_page():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \| (\d+) \| `(\w+)` \|", PAGE, re.M)
    assert len(rows) == 10
    decoder = ReferenceDecoder(unpack(FILES[FACTORIZED])[1])
    assert f"the state is `{decoder.state:x}`" in PAGE
    for *hexadecimal, symbol, after in rows:
        q, start, frequency = (int(text, 16) for text in hexadecimal)
        assert decoder.state % 2**24 == q
        # A table in which all other symbols are one or two.
        cumulative = sorted({0, start, start + frequency, 2**24})
        assert cumulative[decoder.symbol(cumulative)] == start
        assert decoder.state == int(after, 16)
        assert int(symbol) < 3
    assert (decoder.state, decoder.words) == (2**24, [])


@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_fingerprint_is_of_the_bytes_that_the_page_says(number):
    arrays, settings = parts_of(number)
    text = json.dumps(settings, sort_keys=True, separators=(", ", ": "))
    types = {"float32": "<f4", "int32": "<i4", "int64": "<i8"}
    hashed = text.encode("ascii")
    for name in sorted(arrays):
        dtype = types[str(arrays[name].dtype)]
        shape = ", ".join(map(str, arrays[name].shape)) + ("," if arrays[name].ndim == 1 else "")
        hashed += f"{name} {dtype} ({shape})\n".encode("ascii")
        hashed += arrays[name].astype(dtype).tobytes("C")
    digest = hashlib.sha256(hashed).hexdigest()
    assert make_model(number).sha256 == digest
    assert FILES[number][6:10].hex() == digest[:8]
    if number == FACTORIZED:
        assert hashed[:118].endswith(bytes.fromhex("0000003f000080be") + b"tables.cdf")
        assert bytes.fromhex(digest[:8]).hex(" ") in PAGE


# ---- State ----


@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_state_comes_back(number):
    model = make_model(number)
    arrays, settings = model.state()
    assert {**parts_of(number)[0]}.keys() == arrays.keys()
    again = EntropyModel.from_state(arrays, json.loads(json.dumps(settings)))
    assert again.sha256 == model.sha256
    assert np.array_equal(again.read(FILES[number]).y, model.read(FILES[number]).y)


def changed_models(number):
    """Models that differ in one number each from the page's, where that makes a model."""
    names, settings = parts_of(number)
    for name in names:
        arrays, settings = parts_of(number)
        flat = arrays[name].reshape(-1)
        flat[1 if name.endswith("cdf") else 0] += 1
        if name.endswith("lengths"):
            continue
        yield name, arrays, settings
    arrays, settings = parts_of(number)
    if number == MEAN_SCALE:
        for key, value in (
            ("weight_bits", 5),
            ("activation_bits", 4),
            ("slope", [163, 164, 16384]),
        ):
            yield key, arrays, {**settings, key: value}
        yield "codec", arrays, {**settings, "codec": "bmshj2018-hyperprior"}
    else:
        yield "codec", arrays, {**settings, "codec": "bmshj2018-factorized-relu"}
        yield "stride", arrays, {**settings, "stride": 32}
        yield "strides", arrays, {**settings, "stride": 32, "latent_stride": 32}


@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_any_change_of_a_model_changes_its_fingerprint(number):
    seen = {make_model(number).sha256}
    count = 0
    for name, arrays, settings in changed_models(number):
        model = EntropyModel.from_state(arrays, settings)
        assert model.sha256 not in seen, name
        seen.add(model.sha256)
        with pytest.raises(BitstreamError, match=r"coded with .* decode it with"):
            model.read(FILES[number])
        count += 1
    assert count == (6 if number == FACTORIZED else 17)


SPOILED = [
    (FACTORIZED, {"channels": 3}, {}),
    (FACTORIZED, {"channels": 0}, {}),
    (FACTORIZED, {"channels": 2.0}, {}),
    (FACTORIZED, {"channels": "2"}, {}),
    (FACTORIZED, {"codec": "mbt2018"}, {}),
    (FACTORIZED, {"stride": 0}, {}),
    (FACTORIZED, {"stride": 24}, {}),
    (FACTORIZED, {"stride": 10**30}, {}),
    (FACTORIZED, {"latent_stride": 0}, {}),
    (FACTORIZED, {"latent_stride": None}, {}),
    (FACTORIZED, {}, {"medians": np.array([0.5, np.nan], np.float32)}),
    (FACTORIZED, {}, {"medians": np.zeros(3, np.float32)}),
    (MEAN_SCALE, {"has_means": False}, {}),
    (MEAN_SCALE, {"stride": 32}, {}),
    (MEAN_SCALE, {"upsampling": [2, 4, 1]}, {}),
    (MEAN_SCALE, {"upsampling": [2, 2]}, {}),
    (MEAN_SCALE, {"upsampling": [2, 2, 1, 1]}, {}),
    (MEAN_SCALE, {"upsampling": [0, 2, 1]}, {}),
    (MEAN_SCALE, {"weight_bits": 10**30}, {}),
    (MEAN_SCALE, {"activation_bits": -3}, {}),
    (MEAN_SCALE, {"slope": [2**40, 0, 0]}, {}),
    (MEAN_SCALE, {}, {"hyper.thresholds": np.array([82])}),
    (MEAN_SCALE, {}, {"hyper.thresholds": np.array([95, 82])}),
    (MEAN_SCALE, {}, {"hyper.thresholds": np.array([82.0, 95.0])}),
    (MEAN_SCALE, {}, {"hyper.medians": np.array([3, 3])}),
    (MEAN_SCALE, {}, {"hyper.medians": np.array([2**62])}),
    (MEAN_SCALE, {}, {"hyper.1.weight": np.zeros((1, 2, 3, 3), np.int32)}),
    (MEAN_SCALE, {}, {"hyper.0.weight": np.zeros((1, 1, 3, 3))}),
    (MEAN_SCALE, {}, {"hyper.tables.offsets": np.array([2**30])}),
]


@pytest.mark.parametrize(("number", "settings", "arrays"), SPOILED)
def test_parts_that_do_not_fit_are_refused(number, settings, arrays):
    own_arrays, own_settings = parts_of(number)
    with pytest.raises((ValueError, KeyError)):
        EntropyModel.from_state({**own_arrays, **arrays}, {**own_settings, **settings})


@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_no_array_or_setting_may_be_missing(number):
    arrays, settings = parts_of(number)
    for name in arrays:
        with pytest.raises(KeyError):
            EntropyModel.from_state({k: v for k, v in arrays.items() if k != name}, settings)
    for name in settings.keys() - {"weight_bits"}:
        with pytest.raises(KeyError):
            EntropyModel.from_state(arrays, {k: v for k, v in settings.items() if k != name})


def test_a_hyper_synthesis_that_is_not_exact_is_refused():
    arrays, settings = parts_of(MEAN_SCALE)
    arrays["hyper.0.bias"][0] = 2**53
    with pytest.raises(WeightsError, match=r"may reach 2\^55, where 2\^53 is the limit"):
        EntropyModel.from_state(arrays, settings)


# ---- Reading ----


def test_another_codec_or_model_is_named():
    factorized, mean_scale = make_model(FACTORIZED), make_model(MEAN_SCALE)
    with pytest.raises(BitstreamError, match="coded with mbt2018-mean, but the model is a bmshj"):
        factorized.read(FILES[MEAN_SCALE])
    with pytest.raises(BitstreamError, match="codec number 77, but the model is a mbt2018-mean"):
        mean_scale.read(rewritten(FILES[MEAN_SCALE], codec_id=77))
    with pytest.raises(
        BitstreamError, match="the entropy model 00000000, but the model has 2b20c00e: decode it"
    ):
        mean_scale.read(rewritten(FILES[MEAN_SCALE], fingerprint=bytes(4)))


@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_a_file_cut_anywhere_is_refused_with_a_checksum_too(number):
    model, data = make_model(number), FILES[number]
    _, stream = unpack(data)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            model.read(data[:length])
    for length in range(len(stream)):
        with pytest.raises(BitstreamError):
            model.read(rewritten(data, stream=stream[:length]))
    for more in (b"\0", b"\1", bytes(4)):
        with pytest.raises(BitstreamError):
            model.read(rewritten(data, stream=stream + more))


def test_hyper_latents_outside_their_table_are_refused():
    model = make_model(MEAN_SCALE)
    y = np.zeros((1, 4, 4), np.int32)
    for z in (-3, 2, 1000):
        assert model.hyperprior.out_of_range(np.array([[[z]]]))
        with pytest.raises(ValueError, match="limited to the range of its tables"):
            model.write(y, np.array([[[z]]]), 64, 64)
    for z in (-2, -1, 0, 1):
        again = model.read(model.write(y, np.array([[[z]]]), 64, 64))
        assert again.z.item() == z

    for z in (-3, 2, 1000):
        # What an encoder would write that does not look.
        writer = StreamWriter()
        model.hyperprior.tables.write(writer, np.array([z]), np.array([0]))
        indexes, _ = model.tables_and_means((4, 4), np.array([[[z]]]))
        model.tables.write(writer, y.ravel(), indexes)
        header, _ = unpack(FILES[MEAN_SCALE])
        with pytest.raises(BitstreamError, match="a hyper-latent is out of its range"):
            model.read(pack(header, writer.finish()))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**31, 1e30])
@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_latents_that_are_no_numbers_are_refused(number, bad):
    model = make_model(number)
    y = np.zeros((2, 2, 2) if number == FACTORIZED else (1, 4, 4), np.float32)
    z = None if number == FACTORIZED else np.zeros((1, 1, 1), np.float32)
    y[0, 1, 1] = bad
    with pytest.raises(CodecDetError, match="not finite: its weights have diverged"):
        model.write(y, z, 20, 30)
    if z is not None:
        with pytest.raises(CodecDetError, match="not finite"):
            model.write(np.zeros_like(y), z + np.float32(bad), 20, 30)


def test_bits_of_a_file_are_told_apart():
    for number in (FACTORIZED, MEAN_SCALE):
        model = make_model(number)
        bits = model.bits(model.read(FILES[number]))
        assert bits["header"] == 8 * 16
        assert (bits["hyper-latents"] > 0) == (number == MEAN_SCALE)
        stream = 8 * len(FILES[number]) - bits["header"]
        assert 23 <= stream - bits["latents"] - bits["hyper-latents"] <= 33
    hyper = model.bits(model.read(FILES[MEAN_SCALE]))["hyper-latents"]
    assert hyper == pytest.approx(-np.log2(10000 / 65536))


# ---- What a header may cost ----


@pytest.fixture(scope="module")
def wide():
    """A mean-scale model with as many channels as the zoo's."""
    arrays, settings = parts_of(MEAN_SCALE)
    channels, hyper = 192, 128
    rng = np.random.default_rng(0)
    for i, (outputs, inputs, taps) in enumerate([(192, 128, 5), (288, 192, 5), (384, 288, 3)]):
        weight = rng.integers(-3, 4, (outputs, inputs, taps, taps)).astype(np.int32)
        arrays |= {f"hyper.{i}.weight": weight, f"hyper.{i}.bias": np.zeros(outputs, np.int64)}
    arrays["hyper.tables.cdf"] = np.tile(arrays["hyper.tables.cdf"], hyper)
    for key in ("hyper.tables.lengths", "hyper.tables.offsets", "hyper.medians"):
        arrays[key] = np.tile(arrays[key], hyper)
    arrays["medians"] = np.zeros(channels, np.float32)
    return EntropyModel.from_state(arrays, {**settings, "channels": channels})


def cost_of_refusing(model, data, message):
    """Seconds and bytes that it takes to refuse ``data``."""
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(BitstreamError, match=message):
        model.read(data)
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


@pytest.mark.parametrize("length", [0, 4, 100, 10_000])
def test_a_short_file_of_a_large_picture_is_refused_at_once(wide, length):
    header = Header(4, bytes.fromhex(wide.sha256)[:4], 4096, 4096)
    data = pack(header, bytes(length)[:-1] + b"\1" if length else b"")
    seconds, peak = cost_of_refusing(wide, data, "cannot hold 4096x4096 pixels")
    assert seconds < 0.1
    assert peak < 2**17


def test_a_used_up_stream_is_refused_before_the_latents_are_made(wide):
    header = Header(4, bytes.fromhex(wide.sha256)[:4], 4096, 4096)
    rng = np.random.default_rng(0)
    # Enough for the bound, and a third of what hyper-latents of this model take.
    stream = rng.bytes(2**12 * 128 * 2 // 3 // 8) + bytes(2**16) + b"\1"
    data = pack(header, stream)
    _, peak = cost_of_refusing(wide, data, "ends before its picture does")
    # Latents are 12.6 million, hyper-latents 0.5 million.
    assert peak < 16 * 2**20


@pytest.mark.parametrize(("height", "width"), [(1, 2**24), (2**24, 1), (3, 2**22)])
def test_thin_pictures_are_limited_as_they_are_padded(wide, height, width):
    header = Header(4, bytes.fromhex(wide.sha256)[:4], height, width)
    data = pack(header, b"\1" * 1000)
    seconds, peak = cost_of_refusing(wide, data, "padded to multiples of 64, are more than twice")
    assert seconds < 0.1
    assert peak < 2**17


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 65), (64, 1000), (500, 70), (1, 100)])
def test_the_limit_refuses_no_picture_that_is_within_it_and_not_thin(height, width):
    model = make_model(MEAN_SCALE)
    rows, columns = -(-height // 64), -(-width // 64)
    y = np.zeros((1, 4 * rows, 4 * columns), np.int32)
    data = model.write(y, np.zeros((1, rows, columns), np.int32), height, width)
    assert model.read(data, max_pixels=height * width).y.shape == y.shape
    with pytest.raises(BitstreamError, match=r"raise it \(--max-pixels\)"):
        model.read(data, max_pixels=height * width - 1)


def test_the_cheapest_picture_is_not_taken_for_one_that_is_too_short():
    arrays, settings = parts_of(FACTORIZED)
    arrays["tables.cdf"] = np.array([0, 1, 65535, 65536, 0, 65535, 65536], np.int32)
    arrays["tables.lengths"] = np.array([4, 3], np.int32)
    model = EntropyModel.from_state(arrays, settings)
    y = np.zeros((2, 64, 64), np.int32)
    data = model.write(y, None, 1024, 1024)
    assert len(data) < 30
    assert np.array_equal(model.read(data).y, y)
