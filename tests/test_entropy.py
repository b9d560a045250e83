"""Frozen entropy models: docs/bitstream.md's examples, their state, and what they refuse."""

import hashlib
import json
import re
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from codec_det.bitstream.ans import StreamWriter
from codec_det.bitstream.container import Header, pack, unpack
from codec_det.bitstream.entropy import EntropyModel
from codec_det.bitstream.expected import Expected, Picture
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
# Of version 1, then of version 2; there the page has settings alone, for the same arrays.
FACTORIZED_1, MEAN_SCALE_1, FACTORIZED, MEAN_SCALE = NUMBERS = range(4)
HYPERPRIORS = (MEAN_SCALE_1, MEAN_SCALE)


def parts_of(number):
    """Arrays and settings of one of the page's models, free to be changed."""
    model = json.loads(json.dumps(MODELS[number % 2]))
    settings = model["settings"] if number < 2 else json.loads(json.dumps(MODELS[number]))
    return {k: np.array(v, dtype) for k, (dtype, v) in model["arrays"].items()}, settings


def make_model(number):
    return EntropyModel.from_state(*parts_of(number))


def rewritten(data, **changes):
    """The file with another header and a checksum to match."""
    header, stream = unpack(data)
    stream = changes.pop("stream", stream)
    return pack(header._replace(**changes), stream)


def whole(height, width):
    """A picture that is coded at its own size."""
    return Picture((height, width), (height, width))


# ---- The page ----


def test_the_page_has_its_examples():
    assert [len(x) for x in (MODELS, FILES, FIGURES)] == [4, 4, 7]


PICTURES = (whole(20, 30), whole(50, 64), whole(20, 30), Picture((80, 128), (40, 64), 96))


@pytest.mark.parametrize(("number", "figure"), list(enumerate((0, 1, 0, 6))))
def test_files_of_the_page_decode_and_are_coded_as_they_stand(number, figure):
    model, data = make_model(number), FILES[number]
    latents = model.read(data)
    assert latents.y.tolist() == FIGURES[figure]
    assert latents.picture == PICTURES[number]
    assert latents.version == model.version == (1 if number < 2 else 2)
    z = latents.z if number in HYPERPRIORS else None
    assert model.write(latents.y, z, latents.picture) == data


@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_a_model_reads_files_of_both_versions(number):
    model, before = make_model(number), make_model(number - 2)
    latents = model.read(FILES[number - 2])
    assert latents.version == 1
    assert np.array_equal(latents.y, before.read(FILES[number - 2]).y)
    picture = latents.picture
    assert model.write(latents.y, latents.z, picture, 1) == FILES[number - 2]
    assert model.of_version(1).write(latents.y, latents.z, picture) == FILES[number - 2]
    assert model.fingerprint(1).hex() == before.sha256[:8]
    # A receiver of before knows the sizes that are expected by default, and no others.
    with pytest.raises(BitstreamError, match=r"coded with .* decode it with"):
        before.read(FILES[number])
    arrays, settings = parts_of(number)
    usual = EntropyModel.from_state(arrays, {**settings, **Expected().settings()})
    data = usual.write(latents.y, latents.z, latents.picture)
    assert before.read(data).version == 2
    assert np.array_equal(before.read(data).y, latents.y)


def test_means_of_the_page_are_added_to_the_latents():
    for number in (FACTORIZED_1, FACTORIZED):
        assert make_model(number).read(FILES[number]).means.tolist() == [[[0.5]], [[-0.25]]]
    for number, rows in ((MEAN_SCALE_1, 4), (MEAN_SCALE, 3)):
        latents = make_model(number).read(FILES[number])
        assert (latents.means[0] * 128).tolist() == FIGURES[4][1][:rows]
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
    decoder, later = (ReferenceDecoder(unpack(FILES[i])[1]) for i in (FACTORIZED_1, FACTORIZED))
    assert f"the state is `{decoder.state:x}`" in PAGE
    assert f"The state is `{later.state:x}`" in PAGE
    for *hexadecimal, symbol, after in rows:
        q, start, frequency = (int(text, 16) for text in hexadecimal)
        assert decoder.state % 2**24 == q
        # A table in which all other symbols are one or two.
        cumulative = sorted({0, start, start + frequency, 2**24})
        assert cumulative[decoder.symbol(cumulative)] == start
        assert cumulative[later.symbol(cumulative)] == start
        assert decoder.state == int(after, 16)
        assert int(symbol) < 3
    assert (decoder.state, decoder.words) == (2**24, [])
    assert later.words == []
    assert f"above, `{later.state:x}`" in PAGE


def test_checksum_of_the_page():
    model = make_model(FACTORIZED)
    parts = [bytes.fromhex(model.sha256), struct.pack("<5i", 20, 30, 20, 30, 0)]
    parts.append(struct.pack("<8i", *np.ravel(FIGURES[0])))
    assert model.sha256 in PAGE
    for end in (1, 2, 3):
        assert f"`{zlib.crc32(b''.join(parts[:end])):08x}` after" in PAGE
    checksum = zlib.crc32(b"".join(parts)) % 2**24
    assert f"above, `{2**24 + checksum:x}`" in PAGE


@pytest.mark.parametrize("number", NUMBERS)
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
    assert FILES[number][slice(6, 10) if number < 2 else slice(2, 4)].hex() in (
        digest[:8],
        digest[:4],
    )
    if number == FACTORIZED_1:
        assert hashed[:118].endswith(bytes.fromhex("0000003f000080be") + b"tables.cdf")
        assert bytes.fromhex(digest[:8]).hex(" ") in PAGE


# ---- State ----


@pytest.mark.parametrize("number", NUMBERS)
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
    if number >= 2:
        yield "sizes", arrays, {**settings, "sizes": [*settings["sizes"][::-1], [1, 1]]}
        yield "scale", arrays, {**settings, "scale": [2, 3]}
        yield "levels", arrays, {**settings, "levels": 4}
    if number in HYPERPRIORS:
        for key, value in (
            ("weight_bits", 5),
            ("activation_bits", 4),
            ("slope", [163, 164, 16384]),
        ):
            yield key, arrays, {**settings, key: value}
        yield "codec", arrays, {**settings, "codec": "bmshj2018-hyperprior"}
    else:
        yield "codec", arrays, {**settings, "codec": "bmshj2018-factorized-relu"}
        strides = {"stride": 32} if number < 2 else {}
        yield "strides", arrays, {**settings, **strides, "latent_stride": 32}


@pytest.mark.parametrize("number", NUMBERS)
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
    assert count == (5, 17, 8, 20)[number]


SPOILED = [
    (FACTORIZED, {"channels": 3}, {}),
    (FACTORIZED, {"channels": 0}, {}),
    (FACTORIZED, {"channels": 2.0}, {}),
    (FACTORIZED, {"channels": "2"}, {}),
    (FACTORIZED_1, {"codec": "mbt2018"}, {}),
    (FACTORIZED, {"codec": ""}, {}),
    (FACTORIZED, {"codec": 1}, {}),
    (FACTORIZED_1, {"stride": 0}, {}),
    (FACTORIZED_1, {"stride": 32}, {}),
    (FACTORIZED_1, {"stride": 10**30}, {}),
    (FACTORIZED, {"sizes": 3}, {}),
    (FACTORIZED, {"sizes": [3]}, {}),
    (FACTORIZED, {"sizes": [[3, 0]]}, {}),
    (FACTORIZED, {"sizes": [[3, 3.0]]}, {}),
    (FACTORIZED, {"sizes": [[3, 2**28]]}, {}),
    (FACTORIZED, {"sizes": [[3, 4], [4, 3], [3, 4]]}, {}),
    (FACTORIZED, {"sizes": [[3, i] for i in range(1, 64)]}, {}),
    (FACTORIZED, {"scale": 1}, {}),
    (FACTORIZED, {"scale": [0, 1]}, {}),
    (FACTORIZED, {"scale": [1, 0]}, {}),
    (FACTORIZED, {"scale": [3, 2]}, {}),
    (FACTORIZED, {"scale": [1.0, 2]}, {}),
    (FACTORIZED, {"levels": 0}, {}),
    (FACTORIZED, {"levels": 1.5}, {}),
    (FACTORIZED, {"latent_stride": 0}, {}),
    (FACTORIZED, {"latent_stride": None}, {}),
    (FACTORIZED, {}, {"medians": np.array([0.5, np.nan], np.float32)}),
    (FACTORIZED, {}, {"medians": np.zeros(3, np.float32)}),
    (MEAN_SCALE, {"has_means": False}, {}),
    (MEAN_SCALE_1, {"stride": 32}, {}),
    (MEAN_SCALE_1, {"upsampling": [2, 4, 1]}, {}),
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
    with pytest.raises((ValueError, KeyError, TypeError)):
        EntropyModel.from_state({**own_arrays, **arrays}, {**own_settings, **settings})


@pytest.mark.parametrize("number", NUMBERS)
def test_no_array_or_setting_may_be_missing(number):
    arrays, settings = parts_of(number)
    for name in arrays:
        with pytest.raises(KeyError):
            EntropyModel.from_state({k: v for k, v in arrays.items() if k != name}, settings)
    # Without a stride, it is of version 2, and lacks all that this has.
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
    data = FILES[MEAN_SCALE_1]
    with pytest.raises(BitstreamError, match="coded with mbt2018-mean, but the model is a bmshj"):
        factorized.read(data)
    with pytest.raises(BitstreamError, match="codec number 77, but the model is a mbt2018-mean"):
        mean_scale.read(rewritten(data, codec_id=77))
    with pytest.raises(
        BitstreamError, match="the entropy model 00000000, but the model has 2b20c00e: decode it"
    ):
        mean_scale.read(rewritten(data, fingerprint=bytes(4)))
    with pytest.raises(
        BitstreamError, match="the entropy model a9fb, but the model has cc8e: decode it"
    ):
        factorized.read(FILES[MEAN_SCALE])


def test_models_that_share_two_bytes_are_told_apart_by_the_checksum():
    model = make_model(FACTORIZED)
    other = make_model(FACTORIZED)
    other.tables.cdf[1] += 1
    other = EntropyModel.from_state(*other.state())
    assert model.sha256 != other.sha256
    y = np.array(FIGURES[0])
    header, stream = unpack(other.write(y, None, whole(20, 30)))
    with pytest.raises(BitstreamError, match="or not with its checksum"):
        model.read(pack(header._replace(fingerprint=model.fingerprint(2)), stream))


REDUNDANT = [
    ({"size": (20, 30)}, "a size is written out that the model expects"),
    ({"coded_size": (20, 30)}, "a size is written out that the model expects"),
    ({"size": 2}, "of size number 2, where the model has 2"),
    ({"size": 61}, "of size number 61, where the model has 2"),
    ({"coded_size": (21, 30)}, "coded with 30x21 pixels, more than it has"),
    ({"coded_size": (1, 31)}, "coded with 31x1 pixels, more than it has"),
    ({"level": 1}, "of level 0.015625, where the model has 1"),
    # As many latents, and another checksum.
    ({"size": (20, 31)}, "does not end where its picture ends, or not with its checksum"),
    ({"coded_size": (19, 30)}, "does not end where its picture ends, or not with its checksum"),
    ({"size": 0}, "cannot hold 640x480 pixels"),
]


@pytest.mark.parametrize(("change", "message"), REDUNDANT)
def test_a_header_has_one_spelling_and_is_in_the_checksum(change, message):
    with pytest.raises(BitstreamError, match=message):
        make_model(FACTORIZED).read(rewritten(FILES[FACTORIZED], **change))


def test_what_no_file_can_say_is_not_written():
    model, y = make_model(FACTORIZED), np.array(FIGURES[0])
    for picture, message in (
        (Picture((20, 30), (20, 31)), "more than it has"),
        (Picture((20, 30), (20, 30), 64), "of level 1, where the model has 1"),
        (whole(33, 30), r"has latents \(2, 3, 2\) and .* not \(2, 2, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.write(y, None, picture)
    with pytest.raises(ValueError, match="version 1 of the format has neither"):
        model.write(y, None, Picture((40, 60), (20, 30)), 1)


@pytest.mark.parametrize("size", [(1, 1), (480, 640), (481, 641), (20, 30), (33, 16)])
@pytest.mark.parametrize("number", [FACTORIZED, MEAN_SCALE])
def test_pictures_of_every_kind_come_back(number, size):
    arrays, settings = parts_of(number)
    model = EntropyModel.from_state(arrays, {**settings, "scale": [2, 3], "levels": 3})
    rng = np.random.default_rng(0)
    seen = set()
    usual = tuple(-(-2 * side // 3) for side in size)
    for coded_size in {usual, size, (1, 1)}:
        for level in (0, 1, 64, 128):
            picture = Picture(size, coded_size, level)
            shape, hyper_shape = model.shapes(picture, 2)
            y, z = rng.integers(-2, 3, shape), rng.integers(-2, 2, hyper_shape)
            data = model.write(y, z, picture)
            seen.add(data)
            latents = model.read(data)
            assert latents.picture == picture
            assert np.array_equal(latents.y, y)
            assert np.array_equal(latents.z, z)
            known = size in model.expected.sizes
            assert model.overhead_bytes(latents) == 5 + sum(
                1 + (value > 127)
                for value in (
                    *(() if known else size),
                    *(() if coded_size == usual else coded_size),
                    *((level,) if level else ()),
                )
            )
    assert len(seen) == 4 * len({usual, size, (1, 1)})


@pytest.mark.parametrize("number", NUMBERS)
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
    picture = whole(64, 64)
    for z in (-3, 2, 1000):
        assert model.hyperprior.out_of_range(np.array([[[z]]]))
        with pytest.raises(ValueError, match="limited to the range of its tables"):
            model.write(y, np.array([[[z]]]), picture)
    for z in (-2, -1, 0, 1):
        again = model.read(model.write(y, np.array([[[z]]]), picture))
        assert again.z.item() == z

    for z in (-3, 2, 1000):
        # What an encoder would write that does not look.
        writer = StreamWriter()
        model.hyperprior.tables.write(writer, np.array([z]), np.array([0]))
        indexes, _ = model.tables_and_means((4, 4), np.array([[[z]]]))
        model.tables.write(writer, y.ravel(), indexes)
        checksum = model.checksum(2, picture, np.array([[[z]]]), y)
        header = Header(2, model.fingerprint(2), *model.expected.fields(picture))
        with pytest.raises(BitstreamError, match="a hyper-latent is out of its range"):
            model.read(pack(header, writer.finish(checksum)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**31, 1e30])
@pytest.mark.parametrize("number", NUMBERS)
def test_latents_that_are_no_numbers_are_refused(number, bad):
    model = make_model(number)
    shape, hyper_shape = model.shapes(whole(20, 30), model.version)
    y, z = np.zeros(shape, np.float32), np.zeros(hyper_shape, np.float32)
    y[0, 1, 1] = bad
    with pytest.raises(CodecDetError, match="not finite: its weights have diverged"):
        model.write(y, z, whole(20, 30))
    if number in HYPERPRIORS:
        with pytest.raises(CodecDetError, match="not finite"):
            model.write(np.zeros_like(y), z + np.float32(bad), whole(20, 30))


def test_bits_of_a_file_are_told_apart():
    for number in NUMBERS:
        model = make_model(number)
        bits = model.bits(model.read(FILES[number]))
        assert bits["header"] == 8 * (16, 16, 5, 11)[number]
        assert (bits["hyper-latents"] > 0) == (number in HYPERPRIORS)
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


@pytest.mark.parametrize("length", [4, 100, 10_000])
def test_a_short_file_of_a_large_picture_is_refused_at_once(wide, length):
    header = Header(2, wide.fingerprint(2), (4096, 4096))
    data = pack(header, bytes(length)[:-1] + b"\1" if length else b"")
    seconds, peak = cost_of_refusing(wide, data, "cannot hold 4096x4096 pixels")
    assert seconds < 0.1
    assert peak < 2**17


def test_a_used_up_stream_is_refused_before_the_latents_are_made(wide):
    header = Header(2, wide.fingerprint(2), (4096, 4096))
    rng = np.random.default_rng(0)
    # Enough for the bound, and a third of what hyper-latents of this model take.
    stream = rng.bytes(2**12 * 128 * 2 // 3 // 8) + bytes(2**16) + b"\1"
    data = pack(header, stream)
    _, peak = cost_of_refusing(wide, data, "ends before its picture does")
    # Latents are 12.6 million, hyper-latents 0.5 million.
    assert peak < 16 * 2**20


@pytest.mark.parametrize(("height", "width"), [(1, 2**24), (2**24, 1), (3, 2**22)])
def test_thin_pictures_are_limited_as_they_are_padded(wide, height, width):
    for header, stride in (
        (Header(1, wide.fingerprint(1), (height, width), codec_id=4), 64),
        (Header(2, wide.fingerprint(2), (height, width)), 16),
    ):
        data = pack(header, b"\1" * 1000)
        message = f"padded to multiples of {stride}, are more than twice"
        seconds, peak = cost_of_refusing(wide, data, message)
        assert seconds < 0.1
        assert peak < 2**17


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 65), (64, 1000), (500, 70), (1, 100)])
def test_the_limit_refuses_no_picture_that_is_within_it_and_not_thin(height, width):
    model = make_model(MEAN_SCALE)
    for version in (1, 2):
        y, z = (np.zeros(s, np.int32) for s in model.shapes(whole(height, width), version))
        data = model.write(y, z, whole(height, width), version)
        assert model.read(data, max_pixels=height * width).y.shape == y.shape
        with pytest.raises(BitstreamError, match=r"raise it \(--max-pixels\)"):
            model.read(data, max_pixels=height * width - 1)


def test_the_limit_holds_for_pictures_of_expected_sizes():
    model = make_model(FACTORIZED)
    data = model.write(np.zeros((2, 30, 40)), None, whole(480, 640))
    assert model.read(data, max_pixels=480 * 640).y.shape == (2, 30, 40)
    with pytest.raises(BitstreamError, match=r"640x480 pixels .* raise it \(--max-pixels\)"):
        model.read(data, max_pixels=480 * 640 - 1)


def test_the_cheapest_picture_is_not_taken_for_one_that_is_too_short():
    arrays, settings = parts_of(FACTORIZED)
    arrays["tables.cdf"] = np.array([0, 1, 65535, 65536, 0, 65535, 65536], np.int32)
    arrays["tables.lengths"] = np.array([4, 3], np.int32)
    model = EntropyModel.from_state(arrays, settings)
    y = np.zeros((2, 64, 64), np.int32)
    data = model.write(y, None, whole(1024, 1024))
    assert len(data) < 30
    assert np.array_equal(model.read(data).y, y)
