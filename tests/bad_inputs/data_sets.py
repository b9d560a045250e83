"""Annotations and pictures of data sets, and the cache of coded pictures."""

from tests.bad_inputs.damage import (
    all_of,
    config,
    copy,
    cut,
    deep_picture,
    edit,
    fifo,
    listening,
    make,
    mode,
    picture,
    remove,
    write,
)  # fmt: skip
from tests.bad_inputs.row import ERROR, ODD, Row, Start
from tests.bad_inputs.runs import BEGUN, NEW, TRAIN

JSON = "set/annotations.json"
FIRST, SECOND = "set/images/000001.png", "set/images/000002.png"


def annotations(name, change, says=JSON, **more):
    """Refused for what ``change`` makes of the annotations."""
    more.setdefault("writes", BEGUN)
    return Row(f"annotations: {name}", TRAIN, says, prepare=edit(JSON, change), **more)


def file(name, prepare, says, **more):
    more.setdefault("writes", BEGUN)
    return Row(f"data set: {name}", TRAIN, says, prepare=prepare, **more)


def first(kind, **changes):
    """Change the first of a list in the annotations."""
    return lambda coco: coco[kind][0].update(changes)


def two_sets(name, change, says, **more):
    """Trained on one set, tested on a copy of it that ``change`` has changed."""
    sets = [["tiny", JSON, "set/images"], ["other", "set/other.json", "set/images"]]
    prepare = all_of(
        copy(JSON, "set/other.json"),
        edit("set/other.json", change),
        config("two.yaml", DATASETS__COCO_FORMAT=sets, DATASETS__TEST=["other"]),
    )
    more.setdefault("writes", BEGUN)
    command = "train_net --config-file two.yaml"
    return Row(f"two sets: {name}", command, says, prepare=prepare, **more)


def renamed(coco):
    coco["categories"][0]["name"] = "wolf"


def reordered(coco):
    ids = [category["id"] for category in coco["categories"]]
    for category, number in zip(coco["categories"], reversed(ids), strict=True):
        category["id"] = number


def other_ids(coco):
    for category in coco["categories"]:
        category["id"] += 10
    for annotation in coco["annotations"]:
        annotation["category_id"] += 10


def fewer(coco):
    gone = coco["categories"].pop()["id"]
    coco["annotations"] = [a for a in coco["annotations"] if a["category_id"] != gone]


def stick_out(coco, pixels):
    image = {i["id"]: i for i in coco["images"]}[coco["annotations"][0]["image_id"]]
    x, y, _, height = coco["annotations"][0]["bbox"]
    coco["annotations"][0]["bbox"] = [x, y, image["width"] - x + pixels, height]


WARM = "warm_cache --config-file warm.yaml"
CACHE = {
    "MODEL__CODEC__TRAINABLE": [],
    "MODEL__CODEC__NAME": "webp",
    "MODEL__CODEC__QUALITY": 20,
    "MODEL__CODEC__CACHE": "cache",
}
WARM_CONFIG = config("warm.yaml", **CACHE)


def warm(name, flags, says, *, prepare=None, **more):
    steps = (WARM_CONFIG, *([prepare] if prepare else []))
    return Row(f"warm_cache: {name}", f"{WARM} {flags}", says, prepare=all_of(*steps), **more)


ROWS = [
    annotations("a list", lambda coco: [coco]),
    annotations("no pictures", lambda coco: {**coco, "images": []}),
    annotations("no categories", lambda coco: {**coco, "categories": []}),
    annotations("no annotations", lambda coco: {**coco, "annotations": []}),
    annotations("pictures that are no objects", lambda coco: {**coco, "images": [1]}),
    annotations("two pictures of one id", lambda coco: coco["images"].append(coco["images"][0])),
    annotations(
        "two annotations of one id", lambda coco: coco["annotations"].append(coco["annotations"][0])
    ),
    annotations("an id that is a list", first("images", id=[1])),
    annotations("no width", first("images", width=None)),
    annotations("a width of 0", first("images", width=0)),
    annotations("a width that is not the file's", first("images", width=128), "000001.png"),
    annotations("no file name", first("images", file_name="")),
    annotations(
        "a file that is not there", first("images", file_name="nowhere.png"), "nowhere.png"
    ),
    annotations("a file that is a folder", first("images", file_name="."), JSON),
    annotations("a picture that is not there", first("annotations", image_id=999)),
    annotations("a category that is not there", first("annotations", category_id=999)),
    annotations("a category that is a word", first("annotations", category_id="disc")),
    annotations("no box", lambda coco: coco["annotations"][0].pop("bbox")),
    annotations("a box of three numbers", first("annotations", bbox=[1, 2, 3])),
    annotations("a box of words", first("annotations", bbox=["1", "2", "3", "4"])),
    annotations("a box that is no number", first("annotations", bbox=[float("nan"), 0, 5, 5])),
    annotations("a negative box", first("annotations", bbox=[10, 10, -5, 5])),
    annotations("a box far outside", lambda coco: stick_out(coco, 40)),
    annotations("a category without a name", lambda coco: coco["categories"][0].pop("name")),
    Row(
        "annotations: a box that reaches out by rounding",
        TRAIN,
        (),
        ODD,
        prepare=edit(JSON, lambda coco: stick_out(coco, 0.6)),
        writes=NEW,
    ),
    file("annotations cut short", cut(JSON), JSON),
    file("annotations of zero bytes", write(JSON, b""), JSON),
    file("annotations in UTF-16", write(JSON, "{}".encode("utf-16")), JSON),
    file("annotations that are not there", remove(JSON), JSON),
    file("annotations that are a folder", all_of(remove(JSON), make(JSON)), JSON),
    # Headers are read before work starts, pictures when they are used.
    file("a picture cut short", cut(FIRST), "000001.png", writes=NEW),
    file("a picture of zero bytes", write(FIRST, b""), "000001.png"),
    file("a picture that is a text", write(FIRST, "no picture"), "000001.png"),
    file("a picture that is a pipe", all_of(remove(FIRST), fifo(FIRST)), "000001.png", seconds=10),
    file(
        "a picture that is a socket",
        all_of(remove(FIRST), listening(FIRST)),
        "000001.png",
        seconds=10,
    ),
    file("a picture of another size", picture(FIRST, (32, 32, 3)), "000001.png"),
    file("a picture of 16 bits", deep_picture(FIRST), "000001.png"),
    file(
        "a picture that may not be read",
        mode(FIRST, 0),
        "000001.png",
        start=Start(obeys_modes=True),
    ),
    Row(
        "data set: a grey picture and one with transparency",
        TRAIN,
        (),
        ODD,
        prepare=all_of(picture(FIRST, (64, 64)), picture(SECOND, (64, 64, 4))),
        writes=NEW,
    ),
    Row(
        "evaluate: a test picture cut short",
        f"{TRAIN} --eval-only MODEL.WEIGHTS run/model_final.pth",
        "000001.png",
        prepare=cut(FIRST),
        writes=BEGUN,
    ),
    two_sets("other names of categories", renamed, "wolf"),
    two_sets("another order of categories", reordered, "other"),
    two_sets("fewer categories", fewer, "other"),
    two_sets("other ids in the same order", other_ids, (), status=ODD, writes=NEW),
    # The cache of coded pictures.
    Row(
        "warm_cache: fine",
        WARM,
        "coded 6",
        ODD,
        prepare=WARM_CONFIG,
        writes=("cache/*",),
    ),
    Row("warm_cache: a learned codec", "warm_cache --config-file tiny.yaml", "MODEL.CODEC.NAME"),
    Row("warm_cache: no config", "warm_cache", "MODEL.CODEC.NAME"),
    warm("an unknown set", "--sets tests", "tests"),
    warm("a part of none", "--part 3/2", "3/2"),
    warm("a part that is a word", "--part one", "one"),
    warm("a part that is empty", "--part 7/7", "7/7"),
    warm("no cache", "MODEL.CODEC.CACHE ''", "MODEL.CODEC.CACHE"),
    warm("an unknown key", "MODEL.CODEC.CASH x", "MODEL.CODEC.CASH"),
    warm("a quality that is too high", "MODEL.CODEC.QUALITY 101", "101"),
    warm(
        "a cache that cannot be written",
        "MODEL.CODEC.CACHE locked",
        "locked",
        prepare=make("locked", 0o555),
        start=Start(obeys_modes=True),
    ),
    warm("a full disk", "", "cache", status=ERROR, start=Start(file_bytes=64), writes=("cache/*",)),
    warm(
        "a picture cut short",
        "",
        "000001.png",
        status=ERROR,
        prepare=cut(FIRST),
        writes=("cache/*",),
    ),
    warm("a data set that is not there", "DATASETS.ROOT nowhere", "nowhere"),
]
