"""Pictures: coded into files, measured, and generated."""

import json

from PIL import Image

from tests.bad_inputs.damage import (
    all_of,
    copy,
    cut,
    deep_picture,
    fifo,
    link,
    listening,
    make,
    mode,
    picture,
    remove,
    write,
)
from tests.bad_inputs.row import ERROR, ODD, Row, Start

NEW = ("new/*",)
ENCODER = "--model deploy/encoder.safetensors"
OUTPUT = "--output-dir new"
PLAIN = "pictures/three.png"
STILLS = "--annotations set/annotations.json --images set/images"
WEBP = "--codec webp --quality 10 50"
TRAINED = "--codec bmshj2018-hyperprior --quality 1 --weights run/model_final.pth"


def encode(name, inputs, says=(), status=2, **more):
    command = f"encode {inputs} {ENCODER} {OUTPUT}"
    if status != 2:
        more.setdefault("writes", NEW)
    return Row(f"encode: {name}", command, says, status, **more)


def one_bad_picture(name, prepare, **more):
    """One picture is named as bad, the others are coded."""
    makes = ("new/one.cdet", "new/two.cdet")
    return encode(name, "pictures", "three.png", ERROR, prepare=prepare, makes=makes, **more)


def animated(folder):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]
    frames[0].save(folder / "pictures" / "three.gif", save_all=True, append_images=frames[1:])
    (folder / "pictures" / "three.png").unlink()


def measure(name, flags, says=(), status=2, **more):
    if status != 2:
        more.setdefault("writes", NEW)
    return Row(
        f"rate_distortion: {name}", f"rate_distortion {flags} {OUTPUT}", says, status, **more
    )


def finite_means(folder, printed):
    (path,) = (folder / "new").glob("*.json")
    json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert "inf" not in json.dumps(json.loads(path.read_text()))


def flat_picture(folder):
    Image.new("RGB", (64, 48), (128, 128, 128)).save(folder / "pictures" / "one.png")


ROWS = [
    encode(
        "fine",
        "pictures",
        "together",
        ODD,
        makes=("new/one.cdet", "new/two.cdet", "new/three.cdet"),
    ),
    encode("a folder that is not there", "nowhere", "nowhere"),
    encode("an empty folder", "empty", "empty", prepare=make("empty")),
    encode("a picture and a folder that is not there", "pictures nowhere", "nowhere"),
    encode(
        "a folder that may not be listed",
        "locked",
        "locked",
        prepare=make("locked", 0),
        start=Start(obeys_modes=True),
    ),
    encode("a name with a null byte's neighbour", "'pictures/\x01.png'", "does not exist"),
    encode("a name too long", "x" * 300, "xxx"),
    encode(
        "a picture that is given twice",
        "pictures pictures/one.png",
        (),
        ODD,
        makes=("new/one.cdet",),
    ),
    encode("two pictures of one name", "pictures", "one", prepare=picture("pictures/one.webp")),
    encode(
        "a picture with spaces and accents",
        "pictures",
        (),
        ODD,
        prepare=picture("pictures/ein ältes Bild.png"),
        makes=("new/ein ältes Bild.cdet",),
    ),
    encode(
        "a picture whose name is no text",
        "pictures",
        (),
        ODD,
        prepare=picture("pictures/\udce4.png"),
        makes=("new/\udce4.cdet",),
    ),
    encode(
        "a grey picture",
        "pictures",
        (),
        ODD,
        prepare=picture(PLAIN, (48, 64)),
        makes=("new/three.cdet",),
    ),
    encode(
        "a picture with transparency",
        "pictures",
        (),
        ODD,
        prepare=picture(PLAIN, (48, 64, 4)),
        makes=("new/three.cdet",),
    ),
    encode(
        "a picture of one pixel",
        "pictures",
        (),
        ODD,
        prepare=picture(PLAIN, (1, 1, 3)),
        makes=("new/three.cdet",),
    ),
    encode(
        "a picture of one line",
        "pictures",
        (),
        ODD,
        prepare=picture(PLAIN, (1, 500, 3)),
        makes=("new/three.cdet",),
    ),
    encode("an animation", "pictures", "three.gif", ODD, prepare=animated),
    encode(
        "a picture without a suffix",
        "pictures",
        "three",
        ODD,
        prepare=all_of(copy(PLAIN, "pictures/three"), remove(PLAIN)),
    ),
    encode(
        "a picture of a format that is not read",
        "pictures",
        "four.heic",
        ODD,
        prepare=copy(PLAIN, "pictures/four.heic"),
    ),
    encode(
        "a text among the pictures",
        "pictures",
        (),
        ODD,
        prepare=write("pictures/notes.txt", "hello"),
    ),
    encode(
        "a folder in the folder", "pictures", (), ODD, prepare=picture("pictures/more/four.png")
    ),
    encode("a folder named as a picture", "pictures", (), ODD, prepare=make("pictures/four.png")),
    one_bad_picture("a picture cut short", cut(PLAIN)),
    one_bad_picture("a picture of zero bytes", write(PLAIN, b"")),
    one_bad_picture("a text named as a picture", write(PLAIN, "hello")),
    one_bad_picture("a picture of 16 bits", deep_picture(PLAIN)),
    one_bad_picture("a link to nowhere", all_of(remove(PLAIN), link(PLAIN, "nowhere.png"))),
    one_bad_picture("a link to itself", all_of(remove(PLAIN), link(PLAIN, "three.png"))),
    one_bad_picture("a pipe", all_of(remove(PLAIN), fifo(PLAIN)), seconds=10),
    one_bad_picture("a socket", all_of(remove(PLAIN), listening(PLAIN)), seconds=10),
    one_bad_picture("a device", all_of(remove(PLAIN), link(PLAIN, "/dev/zero")), seconds=10),
    one_bad_picture(
        "a picture that may not be read", mode(PLAIN, 0), start=Start(obeys_modes=True)
    ),
    encode(
        "a pipe given by name",
        "pipe.png",
        "pipe.png",
        prepare=fifo("pipe.png"),
        status=ERROR,
        seconds=10,
    ),
    encode("a device given by name", "/dev/null", "/dev/null", status=ERROR, seconds=10),
    encode("a GPU that is not there", "pictures --device cuda:9", "cuda:9"),
    encode("an unknown device", "pictures --device abacus", "abacus"),
    encode("no workers", "pictures --workers 0", "--workers"),
    encode("many workers", "pictures --workers 999", (), ODD),
    Row("encode: no pictures", f"encode {ENCODER} {OUTPUT}", "PICTURE"),
    Row(
        "encode: output that is a file",
        f"encode pictures {ENCODER} --output-dir tiny.yaml",
        "tiny.yaml",
    ),
    Row(
        "encode: output that takes no files",
        f"encode pictures {ENCODER} --output-dir /proc/x",
        "/proc/x",
    ),
    Row(
        "encode: output without permission",
        f"encode pictures {ENCODER} --output-dir locked",
        "locked",
        prepare=make("locked", 0o555),
        start=Start(obeys_modes=True),
    ),
    Row(
        "encode: a folder where a file would go",
        f"encode pictures {ENCODER} {OUTPUT}",
        "three.cdet",
        ERROR,
        prepare=make("new/three.cdet"),
        writes=NEW,
        makes=("new/one.cdet",),
    ),
    encode("a full disk", "pictures", "one.cdet", ERROR, start=Start(file_bytes=16)),
    measure(
        "fine",
        f"pictures {WEBP}",
        "bpp",
        ODD,
        makes=("new/webp.csv", "new/webp.json", "new/webp.png"),
    ),
    measure("an unknown codec", "pictures --codec jpeg9000 --quality 1", "jpeg9000"),
    measure("a quality that is too high", "pictures --codec webp --quality 500", "500"),
    measure("a quality that is no number", "pictures --codec webp --quality nan", "nan"),
    measure("an infinite quality", "pictures --codec webp --quality inf", "inf"),
    measure("an unknown setting", f"pictures {WEBP} --setting speed=9", "speed"),
    measure("a setting without a value", f"pictures {WEBP} --setting lossless", "lossless"),
    measure("an option of learned codecs", f"pictures {WEBP} --estimated", "--estimated"),
    measure(
        "lossless",
        "pictures --codec webp --quality 100 --setting lossless=True",
        (),
        ODD,
        check=finite_means,
    ),
    measure(
        "one flat picture that nothing is lost of",
        f"pictures {WEBP}",
        (),
        ODD,
        prepare=flat_picture,
        check=finite_means,
        makes=("new/webp.png",),
    ),
    measure("a folder that is not there", f"nowhere {WEBP}", "nowhere"),
    measure(
        "a pipe among the pictures",
        f"pictures {WEBP}",
        "three.png",
        ERROR,
        prepare=all_of(remove("pictures/three.png"), fifo("pictures/three.png")),
        seconds=10,
    ),
    measure(
        "a socket among the pictures",
        f"pictures {WEBP}",
        "three.png",
        ERROR,
        prepare=all_of(remove("pictures/three.png"), listening("pictures/three.png")),
        seconds=10,
    ),
    measure(
        "a picture cut short",
        f"pictures {WEBP}",
        "three.png",
        ERROR,
        prepare=cut("pictures/three.png"),
        makes=("new/webp.csv",),
    ),
    measure(
        "a picture of 16 bits",
        f"pictures {WEBP}",
        "three.png",
        ERROR,
        prepare=deep_picture("pictures/three.png"),
    ),
    measure(
        "all pictures cut short",
        f"pictures/one.png {WEBP}",
        "one.png",
        ERROR,
        prepare=cut("pictures/one.png"),
    ),
    measure("a full disk", f"pictures {WEBP}", "new", start=Start(file_bytes=10)),
    measure(
        "weights that are not there",
        "pictures --codec bmshj2018-factorized --quality 1 --weights nowhere.pth",
        "nowhere.pth",
    ),
    measure(
        "two qualities of one file",
        "pictures --codec bmshj2018-factorized --quality 1 2 --weights run/model_final.pth",
        "--weights",
    ),
    measure(
        "three widths",
        f"pictures {TRAINED} --channels 8 12 3",
        "--channels",
    ),
    measure(
        "weights of other widths",
        f"pictures {TRAINED} --channels 8 10",
        "run/model_final.pth",
    ),
    Row(
        "rate_distortion: output that is a file",
        f"rate_distortion pictures {WEBP} --output-dir tiny.yaml",
        "tiny.yaml",
    ),
    Row(
        "make_shapes: fine",
        "make_shapes --output-dir new --count 2 --size 64 64",
        "annotations",
        ODD,
        writes=NEW,
    ),
    Row(
        "make_shapes: pictures too small",
        "make_shapes --output-dir new --count 1 --size 8 8",
        "--size",
    ),
    Row("make_shapes: none", "make_shapes --output-dir new --count 0", "--count"),
    Row("make_shapes: a folder in use", "make_shapes --output-dir set --count 1", "set"),
    Row(
        "make_shapes: output that is a file",
        "make_shapes --output-dir tiny.yaml --count 1",
        "tiny.yaml",
    ),
    Row(
        "make_sequences: fine",
        f"make_sequences {STILLS} {OUTPUT} --count 2 --frames 2",
        "annotations",
        ODD,
        writes=NEW,
    ),
    Row(
        "make_sequences: no annotations",
        f"make_sequences --annotations none.json --images set/images {OUTPUT}",
        "none.json",
    ),
    Row(
        "make_sequences: a picture that is not there",
        f"make_sequences {STILLS} {OUTPUT}",
        "000001.png",
        prepare=remove("set/images/000001.png"),
    ),
    Row("make_sequences: a folder in use", f"make_sequences {STILLS} --output-dir set", "set"),
    Row("make_sequences: no share", f"make_sequences {STILLS} {OUTPUT} --share 0", "--share"),
    Row(
        "make_shapes: a full disk",
        "make_shapes --output-dir new --count 2 --size 64 64",
        "new",
        start=Start(file_bytes=100),
    ),
    Row(
        "make_shapes: a preview of no format",
        "make_shapes --output-dir new --count 1 --size 64 64 --preview x.nothing",
        "x.nothing",
    ),
    Row(
        "make_shapes: a preview below a file",
        "make_shapes --output-dir new --count 1 --size 64 64 --preview tiny.yaml/x.png",
        "tiny.yaml",
    ),
]
