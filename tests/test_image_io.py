"""Image files of every kind: read to the right colours, or refused by name."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from codec_det.data.image_io import describe_frames, read_image
from codec_det.errors import DatasetError

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)
COLOURS = np.array([[RED, GREEN, BLUE], [GREY, GREY, RED]], dtype=np.uint8)  # 2 high, 3 wide


@pytest.fixture
def save(tmp_path):
    """Save an image; the path."""

    def run(image, suffix=".png", **options):
        path = tmp_path / f"picture{suffix}"
        image.save(path, **options)
        return path

    return run


def test_channel_order_and_layout(save):
    path = save(Image.fromarray(COLOURS))
    rgb, bgr = read_image(path, "RGB"), read_image(path)
    np.testing.assert_array_equal(rgb, COLOURS)
    np.testing.assert_array_equal(bgr, COLOURS[:, :, ::-1])
    for image in (rgb, bgr):
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable


def test_an_unknown_channel_order_is_refused(save):
    with pytest.raises(ValueError, match="BGR or RGB"):
        read_image(save(Image.fromarray(COLOURS)), "HSV")


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greyscale(save, mode):
    image = Image.fromarray(np.array([[0, 7, 200]], dtype=np.uint8)).convert(mode)
    np.testing.assert_array_equal(read_image(save(image)), [[[0] * 3, [7] * 3, [200] * 3]])


def test_one_bit(save):
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    np.testing.assert_array_equal(read_image(save(image)), [[[255] * 3, [0] * 3]])


def palette_image():
    image = Image.fromarray(np.array([[0, 1, 2], [3, 3, 0]], dtype=np.uint8), mode="P")
    image.putpalette([*RED, *GREEN, *BLUE, *GREY])
    return image


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00\x80\xff"])
def test_palettes_with_and_without_transparency(save, transparency):
    options = {} if transparency is None else {"transparency": transparency}
    path = save(palette_image(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(path, "RGB"), COLOURS)


def test_alpha_is_dropped(save):
    image = Image.fromarray(COLOURS)
    image.putalpha(Image.fromarray(np.array([[0, 128, 255]] * 2, dtype=np.uint8)))
    np.testing.assert_array_equal(read_image(save(image), "RGB"), COLOURS)


def test_cmyk(save):
    # Cyan, magenta, yellow and black ink in percent-like 8-bit levels: red, black, white, blue.
    inks = np.array([[[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0], [255, 255, 0, 0]]], np.uint8)
    image = Image.fromarray(np.kron(inks, np.ones((16, 16, 1), np.uint8)), mode="CMYK")
    for path in (save(image, ".tif"), save(image, ".jpg", quality=95)):
        decoded = read_image(path, "RGB")[8, 8::16].astype(int)
        np.testing.assert_allclose(decoded, [RED, (0, 0, 0), (255, 255, 255), BLUE], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(save, orientation):
    # What a viewer shows, by the standard's table: where row 0 and column 0 of the file end up.
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(COLOURS), exif=exif)
    np.testing.assert_array_equal(read_image(path, "RGB"), upright[orientation](COLOURS))


def deep_rgb_png(path):
    """A PNG of 16-bit RGB, which Pillow cannot write."""
    rows = b"".join(b"\0" + struct.pack(">6H", 1000, 2000, 3000, 40000, 50000, 60000) for _ in "12")

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def deep_rgb_tiff(path):
    """A TIFF of 16-bit RGB, little-endian, one pixel, which Pillow cannot write."""
    entries = [
        (256, 3, 1, 1),  # width
        (257, 3, 1, 1),  # height
        (258, 3, 3, 134),  # bits per sample, stored after this table
        (259, 3, 1, 1),  # no compression
        (262, 3, 1, 2),  # RGB
        (273, 4, 1, 140),  # where the pixels are
        (277, 3, 1, 3),  # samples per pixel
        (278, 3, 1, 1),  # rows per strip
        (279, 4, 1, 6),  # bytes of pixels
        (284, 3, 1, 1),  # interleaved
    ]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<2H2I", *e) for e in entries)
    head = b"II*\0" + struct.pack("<I", 8) + table + b"\0\0\0\0"
    bits, pixels = struct.pack("<3H", 16, 16, 16), struct.pack("<3H", 1000, 20000, 60000)
    assert len(head) == 134
    path.write_bytes(head + bits + pixels)
    return path


def test_16_bit_colour_is_refused(tmp_path):
    for path in (deep_rgb_png(tmp_path / "a.png"), deep_rgb_tiff(tmp_path / "b.tif")):
        with Image.open(path) as image:
            assert image.mode == "RGB"  # Pillow gives no sign of it
        with pytest.raises(DatasetError, match=rf"{path.name} has more .* Convert it to 8 bits"):
            read_image(path)


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(np.uint16, ".png"), (np.uint16, ".tif"), (np.int32, ".tif"), (np.float32, ".tif")],
)
def test_deep_greyscale_is_refused(save, dtype, suffix):
    path = save(Image.fromarray(np.array([[300, 60000]], dtype=dtype)), suffix)
    with pytest.raises(DatasetError, match=r"picture.* Convert it to 8 bits per channel"):
        read_image(path)


def test_other_colour_spaces_are_refused(save):
    path = save(Image.new("LAB", (4, 4)), ".tif")
    with pytest.raises(DatasetError, match=r"picture\.tif has pixels of type LAB"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif"])
def test_files_cut_short_are_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(256, size=(80, 80, 3), dtype=np.uint8)
    whole, path = io.BytesIO(), tmp_path / f"cut{suffix}"
    Image.fromarray(noise).save(whole, format=Image.registered_extensions()[suffix])
    for share in (0.7, 0.02):
        path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
        with pytest.raises(DatasetError, match=rf"Cannot read the image .*cut\{suffix}"):
            read_image(path)


def test_files_that_are_no_images_are_refused(tmp_path):
    path = tmp_path / "page.jpg"
    path.write_text("<html>404</html>")
    with pytest.raises(DatasetError, match=r"page\.jpg: it is not an image"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"page\.jpg has zero bytes"):
        read_image(path)
    path.unlink()
    with pytest.raises(DatasetError, match=r"page\.jpg: there is no such file"):
        read_image(path)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        read_image(tmp_path)


def test_decompression_bombs_are_refused(save, monkeypatch):
    path = save(Image.new("RGB", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(DatasetError, match=r"picture\.png: .*10000 pixels.*raise PIL"):
        read_image(path)


def test_pictures_below_the_limit_are_read_without_remarks(save, monkeypatch):
    path = save(Image.fromarray(COLOURS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (2, 3, 3)


def test_what_would_be_waited_for_is_refused(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    with pytest.raises(DatasetError, match=r"pipe\.png is a named pipe, not a file"):
        read_image(path)
    assert describe_frames([path]) == ""


def test_files_of_several_pictures_are_named(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for suffix in ("gif", "tiff", "png", "webp"):
        path = tmp_path / f"moving.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
        assert read_image(path, "RGB")[0, 0].tolist() == [255, 0, 0]
    frames[0].save(tmp_path / "still.png")
    (tmp_path / "damaged.gif").write_bytes(b"GIF89a")
    paths = sorted(tmp_path.iterdir())
    assert describe_frames(paths) == "note: the first picture alone is taken of " + ", ".join(
        f"'{tmp_path}/moving.{suffix}' (3)" for suffix in ("gif", "png", "tiff", "webp")
    )
