"""Coded files and deployed models: decoded, detected in, shown, and made of runs."""

import json

from tests.bad_inputs.damage import (
    all_of,
    cut,
    fifo,
    flip,
    link,
    make,
    remove,
    write,
)
from tests.bad_inputs.row import ERROR, ODD, Row, Start

NEW = ("new/*",)
ENCODER = "--model deploy/encoder.safetensors"
RECEIVER = "--model deploy/receiver.safetensors"
OUTPUT = "--output-dir new"
CODED = "coded/three.cdet"


def one_bad_file(name, prepare, **more):
    """The same of a coded file, for each tool that reads it."""
    return [
        Row(
            f"{tool}: {name}",
            f"{tool} coded {RECEIVER} {output}".strip(),
            "three.cdet",
            ERROR,
            prepare=prepare,
            writes=NEW,
            makes=makes,
            **more,
        )
        for tool, output, makes in (
            ("decode", OUTPUT, ("new/one.png", "new/two.png")),
            ("detect", OUTPUT, ("new/detections.json",)),
            ("info", "", ()),
        )
    ]


def bad_model(name, prepare, path="bad.safetensors", says=None, **more):
    """A model that no tool takes."""
    says = says or path
    return [
        Row(
            f"{tool}: {name}",
            f"{tool} {inputs} --model {path} {output}".strip(),
            says,
            prepare=prepare,
            **more,
        )
        for tool, inputs, output in (
            ("encode", "pictures", OUTPUT),
            ("detect", "coded", OUTPUT),
            ("info", "coded", ""),
        )
    ]


ROWS = [
    Row("encode: no model", f"encode pictures {OUTPUT}", "--model"),
    Row(
        "encode: a broken ONNX encoder",
        f"encode pictures --model bad.onnx {OUTPUT}",
        "bad.onnx",
        prepare=write("bad.onnx", "hello"),
    ),
    Row(
        "encode: an ONNX encoder on a GPU",
        f"encode pictures --model bad.onnx --device cuda {OUTPUT}",
        "--device",
        prepare=write("bad.onnx", "hello"),
    ),
    Row(
        "encode: a receiver for an encoder",
        f"encode pictures {RECEIVER} {OUTPUT}",
        "receiver.safetensors",
    ),
    Row(
        "decode: an encoder for a receiver",
        f"decode coded {ENCODER} {OUTPUT}",
        "encoder.safetensors",
    ),
    Row(
        "detect: an encoder for a receiver",
        f"detect coded {ENCODER} {OUTPUT}",
        "encoder.safetensors",
    ),
    Row(
        "decode: a checkpoint for a receiver",
        f"decode coded --model run/model_final.pth {OUTPUT}",
        "model_final.pth",
    ),
    *bad_model("a model that is not there", None, "nowhere.safetensors"),
    *bad_model("a model that is a folder", make("bad.safetensors")),
    *bad_model("a model of zero bytes", write("bad.safetensors", b"")),
    *bad_model("a model that is a text", write("bad.safetensors", "hello, I am no model at all")),
    *bad_model("a model with a huge header", write("bad.safetensors", b"\xff" * 64)),
    *bad_model("a model that is a pipe", fifo("bad.safetensors"), seconds=10),
    Row(
        "encode: a model cut short",
        f"encode pictures --model deploy/encoder.safetensors {OUTPUT}",
        "encoder.safetensors",
        prepare=cut("deploy/encoder.safetensors"),
    ),
    Row(
        "decode: a model cut short",
        f"decode coded {RECEIVER} {OUTPUT}",
        "receiver.safetensors",
        prepare=cut("deploy/receiver.safetensors", 0.9),
    ),
    Row(
        "decode: a model with another bit",
        f"decode coded {RECEIVER} {OUTPUT}",
        "receiver.safetensors",
        prepare=flip("deploy/receiver.safetensors", -3),
    ),
    *one_bad_file("a file cut short", cut(CODED)),
    *one_bad_file("a file of zero bytes", write(CODED, b"")),
    *one_bad_file("a text", write(CODED, "hello")),
    *one_bad_file("another bit", flip(CODED, -2)),
    *one_bad_file("another model's fingerprint", flip(CODED, 2)),
    *one_bad_file(
        "bytes behind the end",
        all_of(lambda folder: write(CODED, (folder / CODED).read_bytes() + b"more")(folder)),
    ),
    *one_bad_file("a link to nowhere", all_of(remove(CODED), link(CODED, "nowhere"))),
    *one_bad_file("a pipe", all_of(remove(CODED), fifo(CODED)), seconds=10),
    *one_bad_file("a device", all_of(remove(CODED), link(CODED, "/dev/zero")), seconds=10),
    Row("decode: a folder that is not there", f"decode nowhere {RECEIVER} {OUTPUT}", "nowhere"),
    Row("decode: a folder of pictures", f"decode pictures {RECEIVER} {OUTPUT}", "pictures"),
    Row(
        "decode: a picture by name",
        f"decode pictures/one.png {RECEIVER} {OUTPUT}",
        "pictures/one.png",
        ERROR,
        writes=NEW,
    ),
    Row(
        "decode: pictures too large",
        f"decode coded {RECEIVER} {OUTPUT} --max-pixels 100",
        "100",
        ERROR,
        writes=NEW,
    ),
    Row(
        "decode: output that is a file",
        f"decode coded {RECEIVER} --output-dir tiny.yaml",
        "tiny.yaml",
    ),
    Row(
        "decode: a full disk",
        f"decode coded {RECEIVER} {OUTPUT}",
        "one.png",
        ERROR,
        start=Start(file_bytes=100),
        writes=NEW,
    ),
    Row(
        "decode: a GPU that is not there", f"decode coded {RECEIVER} {OUTPUT} --device cuda", "cuda"
    ),
    Row("decode: an unknown device", f"decode coded {RECEIVER} {OUTPUT} --device abacus", "abacus"),
    Row("detect: a folder that is not there", f"detect nowhere {RECEIVER} {OUTPUT}", "nowhere"),
    Row(
        "detect: a threshold above 1",
        f"detect coded {RECEIVER} {OUTPUT} --score-threshold 50",
        "--score-threshold",
    ),
    Row(
        "detect: a threshold that is no number",
        f"detect coded {RECEIVER} {OUTPUT} --score-threshold nan",
        "--score-threshold",
    ),
    Row(
        "detect: annotations that are not there",
        f"detect coded {RECEIVER} {OUTPUT} --annotations nowhere.json",
        "nowhere.json",
    ),
    Row(
        "detect: annotations of other pictures",
        f"detect coded {RECEIVER} {OUTPUT} --annotations set/annotations.json",
        "set/annotations.json",
    ),
    Row(
        "detect: annotations that are no JSON",
        f"detect coded {RECEIVER} {OUTPUT} --annotations tiny.yaml",
        "tiny.yaml",
    ),
    Row(
        "detect: annotations that are a list",
        f"detect coded {RECEIVER} {OUTPUT} --annotations list.json",
        "list.json",
        prepare=write("list.json", "[1, 2]"),
    ),
    Row(
        "detect: annotations without names",
        f"detect coded {RECEIVER} {OUTPUT} --annotations list.json",
        "list.json",
        prepare=write("list.json", '{"images": [{"id": 1}]}'),
    ),
    Row(
        "detect: output that is a file",
        f"detect coded {RECEIVER} --output-dir tiny.yaml",
        "tiny.yaml",
    ),
    Row(
        "detect: a folder where detections.json would go",
        f"detect coded {RECEIVER} {OUTPUT}",
        "detections.json",
        prepare=make("new/detections.json"),
    ),
    Row(
        "detect: a full disk",
        f"detect coded {RECEIVER} {OUTPUT}",
        "detections.json",
        start=Start(file_bytes=0),
    ),
    Row(
        "detect: earlier results are replaced",
        f"detect coded {RECEIVER} {OUTPUT}",
        (),
        ODD,
        prepare=write("new/detections.json", "old"),
        writes=NEW,
        check=lambda folder, printed: json.loads((folder / "new/detections.json").read_text()),
    ),
    Row("info: a folder that is not there", "info nowhere", "nowhere"),
    Row("info: a folder of pictures", "info pictures", "pictures"),
    Row("info: a picture", "info pictures/one.png", "pictures/one.png", ERROR),
    Row("info: everything there is", "info deploy coded --json", (), ODD),
    Row("export_model: fine", f"export_model run {OUTPUT}", "fingerprint", ODD, writes=NEW),
    Row("export_model: a folder that is not there", f"export_model nowhere {OUTPUT}", "nowhere"),
    Row("export_model: a folder that is no run", f"export_model set {OUTPUT}", "set"),
    Row("export_model: a file", f"export_model tiny.yaml {OUTPUT}", "tiny.yaml"),
    Row(
        "export_model: a run without checkpoints",
        f"export_model run {OUTPUT}",
        "run",
        prepare=remove("run/*.pth"),
    ),
    Row(
        "export_model: checkpoints cut short",
        f"export_model run {OUTPUT}",
        "run",
        prepare=all_of(remove("run/model_0*"), cut("run/model_final.pth")),
    ),
    Row(
        "export_model: a config cut short",
        f"export_model run {OUTPUT}",
        "run/config.yaml",
        prepare=write("run/config.yaml", "MODEL: ["),
    ),
    Row(
        "export_model: a config that is empty",
        f"export_model run {OUTPUT}",
        "run",
        prepare=write("run/config.yaml", ""),
    ),
    Row(
        "export_model: output that is a file",
        "export_model run --output-dir tiny.yaml",
        "tiny.yaml",
    ),
    Row(
        "export_model: a full disk",
        f"export_model run {OUTPUT}",
        "new",
        start=Start(file_bytes=1000),
    ),
    Row(
        "export_codec: fine",
        "export_codec run/model_final.pth new.pth",
        "new.pth",
        ODD,
        writes=("new.pth",),
    ),
    Row("export_codec: not there", "export_codec nowhere.pth new.pth", "nowhere.pth"),
    Row("export_codec: a text", "export_codec tiny.yaml new.pth", "tiny.yaml"),
    Row("export_codec: a folder", "export_codec run new.pth", "'run'"),
    Row(
        "export_codec: cut short",
        "export_codec run/model_final.pth new.pth",
        "model_final.pth",
        prepare=cut("run/model_final.pth"),
    ),
    Row(
        "export_codec: a deployed model",
        "export_codec deploy/encoder.safetensors new.pth",
        "encoder.safetensors",
    ),
    Row("export_codec: output that is a folder", "export_codec run/model_final.pth set", "'set'"),
    Row(
        "export_codec: output over its input",
        "export_codec run/model_final.pth run/model_final.pth",
        "run/model_final.pth",
    ),
    Row(
        "export_codec: output below a file",
        "export_codec run/model_final.pth tiny.yaml/x.pth",
        "tiny.yaml/x.pth",
    ),
    Row(
        "export_codec: a full disk",
        "export_codec run/model_final.pth new.pth",
        "new.pth",
        start=Start(file_bytes=1000),
    ),
    Row(
        "export_codec: an unknown part",
        "export_codec run/model_final.pth new.pth --part head",
        "head",
    ),
]
