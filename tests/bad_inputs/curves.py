"""Records of runs: curves, reports, and pictures side by side."""

import math

from tests.bad_inputs.damage import (
    all_of,
    cut,
    edit,
    remove,
    write,
)
from tests.bad_inputs.row import ODD, Row, Start

NEW = ("new/*",)
OUTPUT = "--output-dir new"
RECORDS = "curves/J-FT-1/results.jsonl"


def plot(name, flags, says=(), status=2, **more):
    metrics = "" if "--metrics" in flags else "--metrics AP PSNR"
    if status == ODD:
        more.setdefault("writes", NEW)
        more.setdefault("makes", ("new/rate_AP.png", "new/points.json"))
    return Row(
        f"plot: {name}",
        f"plot_rate_accuracy {flags} {metrics} {OUTPUT} --bootstrap 0",
        says,
        status,
        **more,
    )


def report(name, flags, says=(), status=2, **more):
    if status == ODD:
        more.setdefault("writes", ("new.html",))
        more.setdefault("makes", ("new.html",))
    return Row(
        f"report: {name}", f"report {flags} --output new.html --pictures 0", says, status, **more
    )


def show(name, flags, says=(), status=2, **more):
    if status == ODD:
        more.setdefault("writes", NEW)
    return Row(f"visualize: {name}", f"visualize {flags} {OUTPUT}", says, status, **more)


def psnr(value):
    """Another mean PSNR in a record."""

    def change(record):
        record["results"]["rate"]["psnr"] = value

    return edit(RECORDS, change)


def result(**groups):
    """Other groups of results in a record."""
    return edit(RECORDS, lambda record: record["results"].update(groups))


def last_line_is_cut(folder):
    text = (folder / RECORDS).read_text()
    (folder / RECORDS).write_text(text + text[: len(text) // 2])


ROWS = [
    plot("fine", "curves", "J-FT", ODD),
    plot("a folder that is not there", "nowhere", "nowhere"),
    plot("a folder without runs", "pictures", "pictures"),
    plot("a folder and one that is not there", "curves nowhere", "nowhere"),
    plot("a picture", "pictures/one.png", "pictures/one.png"),
    plot(
        "an empty file of records", "empty.jsonl", "empty.jsonl", prepare=write("empty.jsonl", "")
    ),
    plot("records that are numbers", "n.jsonl", "n.jsonl", prepare=write("n.jsonl", "1\n2\n")),
    plot(
        "records of another program", "n.jsonl", "n.jsonl", prepare=write("n.jsonl", '{"a": 1}\n')
    ),
    plot("an unknown anchor", "curves --anchor nothing", "nothing"),
    plot("an unknown data set", "curves --dataset nothing", "nothing"),
    plot("an unknown metric", "curves --metrics speed", "speed"),
    plot("AP75 where it is not recorded", "curves --metrics AP75", "AP75"),
    plot("negative resamples", "curves --bootstrap=-1", "--bootstrap"),
    plot("a record that was cut short", "curves", "J-FT", ODD, prepare=last_line_is_cut),
    plot("a lossless picture, PSNR infinite", "curves", "J-FT", ODD, prepare=psnr(math.inf)),
    plot("a record without PSNR", "curves", "J-FT", ODD, prepare=psnr(None)),
    plot("a rate of 0", "curves", "J-FT", ODD, prepare=result(rate={"bpp": 0.0, "psnr": 20.0})),
    plot(
        "a rate of 0 on a logarithmic axis",
        "curves --log-rate",
        (),
        ODD,
        prepare=result(rate={"bpp": 0.0, "psnr": 20.0}),
    ),
    plot(
        "a rate that is a word",
        "curves",
        "J-FT-1",
        prepare=result(rate={"bpp": "low", "psnr": 20.0}),
    ),
    plot(
        "results that are a list",
        "curves",
        "J-FT-1",
        prepare=edit(RECORDS, lambda record: record.update(results=[1])),
    ),
    plot(
        "real and estimated rates",
        "curves",
        ("estimated", "real"),
        ODD,
        prepare=edit(RECORDS, lambda record: record.update(rate_is="estimated bits per pixel")),
    ),
    plot(
        "different data sets",
        "curves",
        "other_val",
        prepare=edit(RECORDS, lambda record: record.update(dataset="other_val")),
    ),
    plot(
        "letters that fonts lack",
        "curves",
        (),
        ODD,
        prepare=edit(RECORDS, lambda record: record.update(regime="J-FT 一")),
    ),
    Row(
        "plot: output that is a file",
        "plot_rate_accuracy curves --output-dir tiny.yaml",
        "tiny.yaml",
    ),
    plot("a full disk", "curves", "new", start=Start(file_bytes=10)),
    report("fine", "curves", "new.html", ODD),
    report("a folder that is not there", "nowhere", "nowhere"),
    report("a folder without runs", "pictures", "pictures"),
    report("a file", "tiny.yaml", "tiny.yaml"),
    report("an unknown data set", "curves --dataset nothing", "nothing"),
    report("negative pictures", "curves --pictures -1", "--pictures"),
    report("a lossless picture", "curves", "new.html", ODD, prepare=psnr(math.inf)),
    report("a record that was cut short", "curves", "new.html", ODD, prepare=last_line_is_cut),
    report(
        "a program in a name",
        "curves",
        "new.html",
        ODD,
        prepare=edit(
            RECORDS, lambda record: record.update(regime="</script><script>alert(1)</script>")
        ),
    ),
    report(
        "training curves that are cut short",
        "run",
        "new.html",
        ODD,
        prepare=cut("run/metrics.json", 0.7),
    ),
    report(
        "training curves of one point",
        "run",
        "new.html",
        ODD,
        prepare=lambda folder: write(
            "run/metrics.json", (folder / "run/metrics.json").read_text().splitlines()[0] + "\n"
        )(folder),
    ),
    report(
        "training curves that are no JSON",
        "run",
        "new.html",
        ODD,
        prepare=write("run/metrics.json", "hello\n"),
    ),
    Row("report: output that is a folder", "report curves --output set --pictures 0", "set"),
    Row(
        "report: output below a file",
        "report curves --output tiny.yaml/x.html --pictures 0",
        "tiny.yaml",
    ),
    report("a full disk", "curves", "new.html", start=Start(file_bytes=10)),
    show("fine", "run --count 1", "overview.png", ODD),
    show("a folder that is not there", "nowhere", "nowhere"),
    show("a folder that is no run", "pictures", "pictures"),
    show("a folder of runs", "curves", "curves"),
    show("an unknown picture", "run --images 999", "999"),
    show("a picture id that is a word", "run --images one", "--images"),
    show("an unknown row", "run --show sounds", "sounds"),
    show("disagreement with a run that is not shown", "run --disagreement run curves", "curves"),
    show("a run without checkpoints", "run", "run", prepare=remove("run/*.pth")),
    show(
        "checkpoints cut short",
        "run --count 1",
        "run",
        prepare=all_of(remove("run/model_0*"), cut("run/model_final.pth")),
    ),
    show(
        "a picture that is not there", "run", "000001.png", prepare=remove("set/images/000001.png")
    ),
    show("a picture cut short", "run", "000001.png", prepare=cut("set/images/000001.png")),
    show(
        "annotations that are not there",
        "run",
        "set/annotations.json",
        prepare=remove("set/annotations.json"),
    ),
    show("a full disk", "run --count 1", "new", start=Start(file_bytes=10)),
    Row("visualize: output that is a file", "visualize run --output-dir tiny.yaml", "tiny.yaml"),
]
