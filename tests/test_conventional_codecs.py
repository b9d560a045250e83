"""Conventional codecs: colours, sizes, damage, and what they say about themselves."""

import importlib.util
import io
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from codec_det.conventional import build_picture_codec, picture_codecs
from codec_det.conventional.base import MAX_PIXELS
from codec_det.conventional.color import planes_to_rgb, rgb_to_planes
from codec_det.conventional.containers import AVC, VVC, av1_overhead, nal_overhead
from codec_det.conventional.framing import frame, pad, unframe
from codec_det.conventional.rawvideo import planes_from_bytes, planes_from_y4m, planes_to_bytes
from codec_det.errors import BitstreamError, CodecDetError, ConfigError

needs_ffmpeg = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed"
)


def smooth(height, width):
    """A picture of slow waves in all colours, the same for every size but for its crop."""
    y, x = np.mgrid[:height, :width] / 64
    waves = (127 + 120 * np.sin(5 * x + 3 * y), 127 + 100 * np.cos(4 * y - 2 * x), 60 + 190 * x * y)
    return np.stack(waves, axis=-1).clip(0, 255).round().astype(np.uint8)


def psnr(first, second):
    mse = np.mean((first.astype(float) - second) ** 2)
    return np.inf if mse == 0 else 10 * np.log10(255**2 / mse)


LOSSLESS = [
    pytest.param("jpeg2000", 24, {"lossless": True}, id="jpeg2000"),
    pytest.param("webp", 100, {"lossless": True}, id="webp"),
    pytest.param("jpegxl", 0, {}, id="jpegxl", marks=needs_ffmpeg),
]
# The bounds are 1.5 dB below what was measured, on the smooth picture of 64x48. A matrix, range or
# rounding that is wrong costs far more.
BEST = [
    pytest.param("jpeg", 100, {"chroma": "4:4:4"}, 49.0, id="jpeg-444"),
    pytest.param("jpeg", 100, {}, 47.0, id="jpeg-420"),
    pytest.param("jpeg2000", 24, {}, 54.0, id="jpeg2000"),
    pytest.param("webp", 100, {}, 43.0, id="webp"),
    pytest.param("avif", 100, {"speed": 8}, 46.5, id="avif-444"),
    pytest.param("avif", 100, {"speed": 8, "chroma": "4:2:0"}, 45.5, id="avif-420"),
    pytest.param("jpegxl", 0.1, {}, 45.5, id="jpegxl", marks=needs_ffmpeg),
    pytest.param("avc", 0, {}, 57.0, id="avc-444-10", marks=needs_ffmpeg),
    pytest.param("avc", 0, {"bit_depth": 8}, 51.5, id="avc-444-8", marks=needs_ffmpeg),
    pytest.param("avc", 0, {"chroma": "4:2:0"}, 50.5, id="avc-420-10", marks=needs_ffmpeg),
    pytest.param("hevc", 0, {}, 54.5, id="hevc-444-10", marks=needs_ffmpeg),
    pytest.param("hevc", 0, {"bit_depth": 8}, 51.0, id="hevc-444-8", marks=needs_ffmpeg),
    pytest.param("hevc", 0, {"chroma": "4:2:0"}, 50.0, id="hevc-420-10", marks=needs_ffmpeg),
    pytest.param("vvc", 0, {}, 50.5, id="vvc-420-10", marks=needs_ffmpeg),
    pytest.param("av1", 1, {"speed": 8}, 45.0, id="av1-444-10", marks=needs_ffmpeg),
]
MIDDLING = [
    pytest.param("jpeg", 50, {}, id="jpeg"),
    pytest.param("jpeg2000", 2, {}, id="jpeg2000"),
    pytest.param("webp", 50, {}, id="webp"),
    pytest.param("avif", 50, {"speed": 8}, id="avif"),
    pytest.param("jpegxl", 2, {}, id="jpegxl", marks=needs_ffmpeg),
    pytest.param("avc", 30, {}, id="avc", marks=needs_ffmpeg),
    pytest.param("hevc", 30, {}, id="hevc", marks=needs_ffmpeg),
    pytest.param("vvc", 32, {}, id="vvc", marks=needs_ffmpeg),
    pytest.param("av1", 40, {"speed": 8}, id="av1", marks=needs_ffmpeg),
]


@pytest.mark.parametrize(("name", "quality", "settings"), LOSSLESS)
def test_lossless_is_exact(name, quality, settings):
    codec = build_picture_codec(name, quality, **settings)
    for picture in (smooth(48, 64), smooth(17, 33)):
        np.testing.assert_array_equal(codec.decode(codec.encode(picture)), picture)


@pytest.mark.parametrize(("name", "quality", "settings", "bound"), BEST)
def test_the_best_quality_is_nearly_lossless(name, quality, settings, bound):
    codec, picture = build_picture_codec(name, quality, **settings), smooth(48, 64)
    decoded = codec.decode(codec.encode(picture))
    assert psnr(decoded, picture) > bound
    # A bias is a rounding or a range that is wrong, even where PSNR is high.
    # libavif's own fast conversion is a little off; ours must not be.
    bound = 1 if name == "avif" else 0.5
    assert np.abs(np.mean(decoded.astype(float) - picture, axis=(0, 1))).max() < bound


@pytest.mark.parametrize(("name", "quality", "settings"), MIDDLING)
def test_sizes_and_layout(name, quality, settings):
    codec = build_picture_codec(name, quality, **settings)
    for height, width in ((17, 33), (1, 1), (130, 20)):
        picture = smooth(height, width)
        decoded = codec.decode(codec.encode(picture))
        assert decoded.shape == picture.shape
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable
        assert psnr(decoded, picture) > 25


@pytest.mark.parametrize(("name", "quality", "settings"), MIDDLING)
def test_the_same_picture_gives_the_same_bytes(name, quality, settings):
    codec, picture = build_picture_codec(name, quality, **settings), smooth(48, 64)
    upside_down = np.flipud(np.flipud(picture))  # equal pixels, other strides
    assert pickle.loads(pickle.dumps(codec)).encode(upside_down) == codec.encode(picture)


@pytest.mark.parametrize(("name", "quality", "settings"), MIDDLING)
def test_quality_orders_bits_and_psnr(name, quality, settings):
    picture = smooth(48, 64)
    step = 0.5 if name == "jpegxl" else 1 if name == "jpeg2000" else 10
    best, worst = (build_picture_codec(name, quality + sign * step, **settings) for sign in (1, -1))
    if not best.quality_range.higher_is_better:
        best, worst = worst, best
    more, fewer = best.encode(picture), worst.encode(picture)
    assert len(more) > len(fewer)
    assert psnr(best.decode(more), picture) > psnr(worst.decode(fewer), picture)


@pytest.mark.parametrize(("name", "quality", "settings"), MIDDLING)
def test_what_is_cut_short_is_refused(name, quality, settings):
    codec = build_picture_codec(name, quality, **settings)
    data = codec.encode(smooth(48, 64))
    for length in (0, 1, 3, len(data) // 2):
        with pytest.raises(BitstreamError):
            codec.decode(data[:length])


@pytest.mark.parametrize(("name", "quality", "settings"), MIDDLING)
def test_damage_gives_a_picture_or_the_one_error(name, quality, settings):
    # Image files have no checksums, so damage among the pixels often goes unnoticed there.
    codec = build_picture_codec(name, quality, **settings)
    data = codec.encode(smooth(48, 64))
    runs_program = hasattr(codec, "time_limit")
    pictures = 0
    for at in range(0, len(data), max(1, len(data) // (8 if runs_program else 100))):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        try:
            picture = codec.decode(bytes(damaged))
        except BitstreamError:
            continue
        pictures += 1
        assert picture.dtype == np.uint8
        assert picture.shape[2:] == (3,)
    if name in ("avc", "hevc", "vvc"):
        assert pictures == 0
    with pytest.raises(BitstreamError):
        codec.decode(np.random.default_rng(0).bytes(300))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["avc", "hevc", "vvc"])
def test_a_checksum_that_happens_to_fit_is_not_trusted(name):
    codec = build_picture_codec(name, 30)
    other = build_picture_codec({"avc": "hevc", "hevc": "vvc", "vvc": "avc"}[name], 30)
    data = codec.encode(smooth(48, 64))
    _, _, stream = unframe(data, name)
    for wrong in (
        frame(64, 48, b"junk"),
        frame(60, 48, stream),
        frame(64, 48, stream[: len(stream) // 8]),
        other.encode(smooth(48, 64)),
    ):
        with pytest.raises(BitstreamError):
            codec.decode(wrong)


@needs_ffmpeg
def test_a_stream_of_other_settings_is_refused():
    data = build_picture_codec("hevc", 30, chroma="4:2:0").encode(smooth(48, 64))
    with pytest.raises(BitstreamError, match=r"hold 64x48 in 4:2:0 .* instead of .* 4:4:4"):
        build_picture_codec("hevc", 30).decode(data)


@needs_ffmpeg
def test_a_decoder_that_hangs_is_given_up():
    codec = build_picture_codec("jpegxl", 2, time_limit=1.5)
    with pytest.raises(BitstreamError, match=r"killed after its time limit of 1\.5 s"):
        codec.decode(codec.encode(smooth(48, 64)) + b"\0")


@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [94, 100])
def test_jpeg_of_noise_fits_in_pillows_buffer(quality, chroma):
    noise = np.random.default_rng(0).integers(2, size=(400, 300, 3), dtype=np.uint8) * 255
    usual = ImageFile.MAXBLOCK
    codec = build_picture_codec("jpeg", quality, chroma=chroma)
    assert codec.decode(codec.encode(noise)).shape == noise.shape
    assert usual == ImageFile.MAXBLOCK


def with_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize(
    ("name", "quality", "settings", "bound"),
    [
        # Other upsampling of chroma and other rounding; a swap of channels would give 10 dB.
        ("jpeg", 90, {}, 45),
        ("jpeg", 90, {"chroma": "4:4:4"}, 45),
        ("jpeg2000", 4, {}, 50),
        ("webp", 90, {}, 40),
        ("webp", 100, {"lossless": True}, np.inf),
    ],
)
def test_opencv_decodes_the_same(name, quality, settings, bound):
    codec = build_picture_codec(name, quality, **settings)
    data = codec.encode(smooth(48, 64))
    assert psnr(with_opencv(data), codec.decode(data)) >= bound


def with_ffmpeg(data, format, tmp_path):
    """What ffmpeg makes of a stream by its own conversion to RGB, relying on what the VUI says."""
    import imageio_ffmpeg

    source, output = tmp_path / "stream", tmp_path / "decoded.png"
    source.write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", format, "-i", source]
    scaler = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp"
    subprocess.run([*command, "-vf", scaler, "-pix_fmt", "rgb24", output], check=True)
    return np.asarray(Image.open(output))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "quality", "settings", "format"),
    [
        ("avif", 95, {"speed": 8}, "mov"),
        ("avc", 10, {}, "h264"),
        ("hevc", 10, {}, "hevc"),
        ("hevc", 10, {"chroma": "4:2:0", "bit_depth": 8}, "hevc"),
        ("vvc", 10, {}, "vvc"),
    ],
)
def test_the_stream_says_its_own_colours(name, quality, settings, format, tmp_path):
    codec, picture = build_picture_codec(name, quality, **settings), smooth(48, 64)
    data = codec.encode(picture)
    stream = unframe(data, name)[2] if format != "mov" else data
    # A range taken wrongly gives 30 dB, a matrix taken wrongly 25.
    assert psnr(with_ffmpeg(stream, format, tmp_path), picture) > 40


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
def test_planes(chroma, bit_depth):
    picture = smooth(48, 64)
    planes = rgb_to_planes(picture, chroma, bit_depth)
    raw = planes_to_bytes(planes)
    size = {"width": 64, "height": 48, "chroma": chroma, "bit_depth": bit_depth}
    back = planes_from_bytes(raw, **size)
    for plane, same in zip(planes, back, strict=True):
        np.testing.assert_array_equal(plane, same)
    bound = {("4:4:4", 8): 52.5, ("4:4:4", 10): np.inf, ("4:2:0", 8): 49, ("4:2:0", 10): 51}
    assert psnr(planes_to_rgb(back, bit_depth), picture) >= bound[chroma, bit_depth]
    with pytest.raises(BitstreamError, match="instead of"):
        planes_from_bytes(raw[:-1], **size)


def test_known_colours():
    # H.273: Y' = 255 (KR R + KG G + KB B), Cb = 128 + 255 (B - Y) / 1.8556, and Cr alike.
    colours = np.uint8([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]])
    y, cb, cr = rgb_to_planes(colours, "4:4:4", 8)
    assert y.tolist() == [[0, 255, 54, 18]]
    assert cb.tolist() == [[128, 128, 99, 255]]
    assert cr.tolist() == [[128, 128, 255, 116]]
    assert rgb_to_planes(colours, "4:4:4", 10).y.tolist() == [[0, 1023, 217, 74]]


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_chroma_filters_keep_constants_and_place(bit_depth):
    flat = np.full((20, 30, 3), (200, 30, 90), np.uint8)
    back = planes_to_rgb(rgb_to_planes(flat, "4:2:0", bit_depth), bit_depth)
    assert np.abs(back.astype(int) - flat).max() <= (1 if bit_depth == 8 else 0)
    # A ramp of colour comes back where it was: a phase of a quarter sample would shift it.
    ramp = np.stack([np.tile(4 * np.arange(48), (40, 1))] * 3, axis=-1).astype(np.uint8)
    ramp[..., 1] = 100
    for picture in (ramp, ramp.swapaxes(0, 1)):
        back = planes_to_rgb(rgb_to_planes(picture, "4:2:0", bit_depth), bit_depth)
        inner = np.s_[8:-8, 8:-8]
        assert np.abs(back[inner].astype(int) - picture[inner]).max() <= 1


def test_y4m_of_another_kind_is_refused():
    size = {"width": 4, "height": 2, "chroma": "4:4:4", "bit_depth": 8}
    y4m = b"YUV4MPEG2 W4 H2 F1:1 C444 XCOLORRANGE=FULL\nFRAME\n" + bytes(range(24))
    assert planes_from_y4m(y4m, **size)[0].cr.tolist() == [[16, 17, 18, 19], [20, 21, 22, 23]]
    for wrong in (b"W6", b"W4 C420jpeg", b"W4 C444p10", b"W4 C422"):
        other = y4m.replace(b" C444", b"").replace(b"W4", wrong)
        with pytest.raises(BitstreamError):
            planes_from_y4m(other, **size)
    for cut in (b"", y4m[:20], y4m[:-1], y4m + b"\0"):
        with pytest.raises(BitstreamError):
            planes_from_y4m(cut, **size)


def test_frame():
    for width, height in ((1, 1), (127, 128), (640, 480), (16384, 300)):
        assert unframe(frame(width, height, b"stream"), "hevc") == (width, height, b"stream")
    framed = frame(640, 480, b"stream")
    assert len(framed) == 4 + 2 + len(b"stream")
    for length in range(len(framed)):
        with pytest.raises(BitstreamError):
            unframe(framed[:length], "hevc")
    for damaged in (b"\x80" * 9, frame(0, 1, b"x"), frame(10, 10, b""), framed[:-1] + b"n"):
        with pytest.raises(BitstreamError):
            unframe(damaged, "hevc")
    with pytest.raises(BitstreamError, match="claim a picture of 16384x16384"):
        unframe(frame(16384, 16384, b"x"), "hevc")


def test_padding():
    assert pad(smooth(17, 33)).shape == (18, 34, 3)
    padded = pad(smooth(1, 5))
    assert padded.shape == (16, 16, 3)
    assert (padded[:, 5:] == smooth(1, 5)[0, 4]).all()


def test_a_file_that_claims_too_many_pixels_is_refused():
    png = io.BytesIO()
    side = 1 + int(MAX_PIXELS**0.5)
    Image.new("1", (side, side)).save(png, format="PNG")
    copies = {"encode_command": "cp {input} {output}", "decode_command": "cp {input} {output}"}
    with pytest.raises(BitstreamError, match=f"claim a picture of {side}x{side}"):
        build_picture_codec("external", 1, **copies).decode(png.getvalue())


def test_container_overheads():
    picture = smooth(48, 64)
    raw = build_picture_codec("jpeg2000", 2)
    assert raw.container_overhead(raw.encode(picture)) == 0
    webp = build_picture_codec("webp", 50)
    assert webp.container_overhead(webp.encode(picture)) == 20  # RIFF, WEBP, VP8 and two lengths
    avif = build_picture_codec("avif", 50, speed=8)
    data = avif.encode(picture)
    payload = data[data.index(b"mdat") + 4 :]
    assert avif.container_overhead(data) == len(data) - len(payload) > 100


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_overhead_does_not_depend_on_the_pixels(progressive):
    codec = build_picture_codec("jpeg", 90, progressive=progressive)
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    data = codec.encode(noise)
    # Quantization tables of 64 entries each, headers, and Huffman tables of at most 162 each.
    assert 2 * 64 < codec.container_overhead(data) < 1600
    assert len(data) - codec.container_overhead(data) > 3000
    with pytest.raises(BitstreamError, match="no JPEG marker"):
        codec.container_overhead(b"\xff\xd8junk")


@needs_ffmpeg
@pytest.mark.parametrize("name", ["avc", "hevc", "vvc"])
def test_video_overhead_is_our_header_parameter_sets_and_start_codes(name):
    codec = build_picture_codec(name, 20)
    plain, other = np.full((48, 64, 3), 90, np.uint8), smooth(48, 64)
    streams = [codec.encode(picture) for picture in (plain, other)]
    overheads = [codec.container_overhead(data) for data in streams]
    # Nothing of the picture is in it, and the picture is in all else.
    assert overheads[0] == overheads[1]
    assert len(streams[0]) - overheads[0] < 60
    assert len(streams[1]) - overheads[1] > 150
    header = 1 + 1 + 2
    assert streams[0][header : header + 4] == b"\0\0\0\1"  # a start code: the stream is bare
    assert streams[0][header : overheads[0]] == streams[1][header : overheads[0]]
    assert streams[0][overheads[0] - 3 : overheads[0]] == b"\0\0\1"  # of the picture


def test_parameter_sets_are_told_by_their_types_and_start_codes_are_framing():
    stream = b"\0\0\0\1\x00\x79ab" + b"\0\0\1\x00\x81c" + b"\0\0\1\x00\x41picture"
    assert nal_overhead(stream, VVC) == 8 + 6 + 3
    assert nal_overhead(b"\0\0\1\x67ab\0\0\1\x68\0\0\0\1\x65abc", AVC) == 6 + 4 + 4
    with pytest.raises(BitstreamError, match="no header"):
        nal_overhead(b"\0\0\1\x00", VVC)


def test_av1_overhead_is_delimiters_sequence_headers_and_lengths():
    delimiter, sequence = b"\x12\x00", b"\x0a\x03abc"
    frame = b"\x32\x81\x01" + bytes(129)
    assert av1_overhead(delimiter + sequence + frame) == 2 + 5 + 2
    assert av1_overhead(b"\x30abc") == 0  # without a length, to the end
    with pytest.raises(BitstreamError, match="byte 2 has an impossible length"):
        av1_overhead(delimiter + b"\x32\x05abc")


@needs_ffmpeg
@pytest.mark.parametrize("name", ["avc", "hevc", "vvc"])
def test_streams_hold_no_advertisements(name):
    codec = build_picture_codec(name, 40)
    data = codec.encode(np.full((16, 16, 3), 90, np.uint8))
    assert len(data) < 120
    assert b"x264" not in data


@pytest.mark.parametrize(
    ("name", "quality", "settings", "message"),
    [
        ("heif", 30, {}, r"no codec 'heif': choose one of jpeg, jpeg2000, webp"),
        ("jpeg", 0, {}, r"quality 0 .*'jpeg'.*whole number from 1 to 100"),
        ("jpeg", 50.5, {}, r"quality 50\.5"),
        ("jpeg", "high", {}, r"quality 'high'"),
        ("jpeg", True, {}, r"quality True"),
        ("jpeg", float("nan"), {}, r"quality nan"),
        ("jpeg", 50, {"preset": "slow"}, r"'jpeg' has no setting 'preset': it has chroma"),
        ("jpeg", 50, {"chroma": "4:2:2"}, r"chroma '4:2:2'.*one of '4:2:0', '4:4:4'"),
        ("jpeg", 50, {"quality": 60}, r"'jpeg' has no setting 'quality'"),
        ("jpeg", 50, {"name": "webp"}, r"'jpeg' has no setting 'name'"),
        ("webp", 50, {"lossless": True}, r"lossless=True has no quality: give 100"),
        ("webp", 50, {"lossless": 1}, r"lossless 1 cannot be"),
        ("external", 1, {}, r"needs encode_command and decode_command"),
        (
            "external",
            1,
            {"encode_command": "cp {input} x", "decode_command": "cp {input} {output}"},
            r"encode_command 'cp \{input\} x' lacks \{output\}",
        ),
    ],
)
def test_what_cannot_be_is_refused(name, quality, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_picture_codec(name, quality, **settings)


@needs_ffmpeg
def test_settings_of_programs_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"chroma '4:4:4'.*'vvc'.*'4:2:0'"):
        build_picture_codec("vvc", 32, chroma="4:4:4")
    for name in ("hevc", "jpegxl"):
        for limit in (0, -1.0, float("nan"), "60", True):
            with pytest.raises(ConfigError, match=f"time_limit is {limit!r} s: give a number"):
                build_picture_codec(name, 10, time_limit=limit)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 70000, 3), np.uint8),
    ],
    ids=lambda picture: f"{picture.shape}-{picture.dtype}",
)
def test_arrays_that_are_no_pictures_are_refused(picture):
    with pytest.raises(CodecDetError, match="'jpeg' codes"):
        build_picture_codec("jpeg", 50).encode(picture)


@pytest.mark.parametrize(("name", "quality", "settings"), MIDDLING)
def test_what_is_recorded(name, quality, settings):
    codec = build_picture_codec(name, quality, **settings)
    assert codec.settings["quality"] == quality
    assert codec.settings == build_picture_codec(name, float(quality), **settings).settings
    assert codec.settings.keys() >= settings.keys()
    assert "time_limit" not in codec.settings  # it does not shape the bytes
    assert any(character.isdigit() for character in codec.version())
    assert codec.version().endswith("revision 1")
    assert codec.command()
    assert codec.name in picture_codecs()


def test_neither_torch_nor_detectron2_is_imported():
    # As on a camera: an empty parent package, so that only the subpackage's own imports count.
    code = """
import sys, types
from importlib.machinery import PathFinder
parent = types.ModuleType("codec_det")
parent.__path__ = PathFinder.find_spec("codec_det").submodule_search_locations
sys.modules["codec_det"] = parent
import codec_det.conventional
print(sorted({"torch", "detectron2", "compressai", "cv2"} & set(sys.modules)))
"""
    root = Path(__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
