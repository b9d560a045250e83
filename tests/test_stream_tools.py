"""Frames of a camera through the tools: exported, coded, decoded, detected in; and what is lost."""

import io
import json
import math
import subprocess
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from codec_det.bitstream.container import read_varint
from codec_det.bitstream.onnx_encoder import open_onnx
from codec_det.bitstream.prediction import SequenceReader
from codec_det.bitstream.stream import Sent, decode_stream, read_header
from codec_det.codec.learned import precision
from codec_det.deploy.frame_sources import open_folder, open_pipe, open_video
from codec_det.deploy.model_files import load_decoder, load_prediction, load_sequence_encoder
from codec_det.deploy.receiver import load_receiver
from codec_det.errors import WeightsError
from codec_det.pixels import to_uint8
from codec_det.sequences import Frame
from tests.deployed import export, make_run, random_picture
from tests.test_deploy import change_properties
from tools import decode, detect, encode, info

FRAMES, KEYS, SIDE = 6, 4, 64
PARTS = ("key_frame", "predicted_frame", "format", "unread")
TEMPORAL = ("MODEL.CODEC.NAME", "mbt2018-mean-temporal", "MODEL.CODEC.KEY_INTERVAL", str(KEYS))


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_set):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return make_run(folder, *tiny_set, *TEMPORAL, "TEST.DETECTIONS_PER_IMAGE", "5")


@pytest.fixture(scope="module")
def deploy(run):
    return export(run, run.parent / "deploy")


@pytest.fixture(scope="module")
def pictures():
    """A square that moves before a still scene."""
    scene = random_picture(SIDE, SIDE, 0)
    moving = [scene.copy() for _ in range(FRAMES)]
    for t, picture in enumerate(moving):
        picture[20:40, 4 * t : 4 * t + 20] = 255
    return moving


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """Frames whose names are not in order of letters."""
    folder = tmp_path_factory.mktemp("frames") / "street"
    folder.mkdir()
    for t, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"frame_{t + 7}.png")
    return folder


@pytest.fixture(scope="module")
def stream(deploy, folder):
    """The path of a stream of the frames."""
    arguments = (folder, "--sequence", "--fps", 12.5, "--output-dir", deploy / "coded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "multiplies_bfloat16", lambda: False)
        assert code(deploy, *arguments) == 0
    return deploy / "coded" / "street.cdetv"


def test_models_that_predicted_otherwise_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("codec_det.bitstream.prediction.MEANS", "any")
    old = export(run, tmp_path / "old")
    for model, load in (("encoder", load_sequence_encoder), ("receiver", load_prediction)):
        with pytest.raises(WeightsError, match=rf"{model}.*earlier version.*export its run"):
            load(old / f"{model}.safetensors")


def call(tool, *arguments):
    return tool.main(list(map(str, arguments)))


def code(deploy, *arguments):
    return call(encode, *arguments, "--model", deploy / "encoder.safetensors")


def refused(capsys, tool, *arguments):
    assert call(tool, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def records(path):
    """The header's bytes and the frames of a short stream that is whole."""
    data, sent = path.read_bytes(), []
    _, start = read_header(data)
    place = start
    while place < len(data):
        is_key = data[place] == 0
        length, payload = read_varint(data, place + is_key)
        # Of a key frame a number and a checksum come between.
        payload += 4 * is_key
        sent.append(Sent(len(sent), is_key, data[payload : payload + length]))
        place = payload + length
    return data[:start], sent


def y4m(pictures, kind="444", rate="25:2"):
    """Grey frames."""
    head = f"YUV4MPEG2 W{SIDE} H{SIDE} F{rate} Ip A1:1 C{kind} XCOLORRANGE=FULL\n".encode()
    chroma = bytes([128]) * (2 * SIDE * SIDE // (1 if kind == "444" else 4))
    return head + b"".join(b"FRAME\n" + p[..., 0].tobytes() + chroma for p in pictures)


def pipe(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# ---- Export and encode ----


def test_streams_are_those_of_the_library(deploy, stream, pictures):
    encoder = load_sequence_encoder(deploy / "encoder.safetensors")
    assert encoder.prediction.sha256 == load_prediction(deploy / "receiver.safetensors").sha256
    expected = [
        encoder.encode(picture, (SIDE, SIDE), Frame(0, number))
        for number, picture in enumerate(pictures)
    ]
    _, sent = records(stream)
    assert [(s.is_key, s.payload) for s in sent] == expected
    assert [s.is_key for s in sent] == [t % KEYS == 0 for t in range(FRAMES)]
    assert read_header(stream.read_bytes())[0].fps == 12.5


def test_export_says_what_was_proven_of_frames(run, tmp_path, capsys):
    export(run, tmp_path)
    (proof,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("proven exact"))
    of_pictures, of_frames = (float(x.split(",")[0]) for x in proof.split("2^")[1:3])
    prediction = load_prediction(tmp_path / "receiver.safetensors")
    assert 2 ** (of_frames - 0.1) < max(prediction.partial_sums) <= 2**of_frames
    assert 2**of_pictures >= max(prediction.pictures.partial_sums)


def test_frames_from_a_pipe_make_the_same_stream(deploy, pictures, tmp_path, monkeypatch, capsys):
    grey = [np.repeat(p[..., :1], 3, axis=2) for p in pictures]
    pipe(monkeypatch, y4m(grey))
    assert code(deploy, "-", "--output", tmp_path / "new" / "camera.cdetv") == 0
    said = capsys.readouterr().out
    assert f"{FRAMES} frames of {SIDE}x{SIDE}, 2 of them key frames: " in said
    assert "kbit/s at 12.5 frames/s" in said
    (tmp_path / "grey").mkdir()
    for t, picture in enumerate(grey):
        Image.fromarray(picture).save(tmp_path / "grey" / f"{t}.png")
    code(deploy, tmp_path / "grey", "--sequence", "--fps", 12.5, "--output-dir", tmp_path)
    coded = (tmp_path / "grey.cdetv").read_bytes()
    assert (tmp_path / "new" / "camera.cdetv").read_bytes() == coded


def test_each_frame_is_written_before_the_next_is_read(deploy, pictures, tmp_path, monkeypatch):
    output, sizes = tmp_path / "camera.cdetv", []

    class Camera(io.BytesIO):
        def readline(self, *limit):
            sizes.append(output.stat().st_size if output.exists() else 0)
            return super().readline(*limit)

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Camera(y4m(pictures))))
    assert code(deploy, "-", "--output", output) == 0
    head, sent = records(output)
    ends = np.cumsum([len(head), *(len(s.pack()) for s in sent)])
    # The header of the pipe, the first frame, and then the others and the end.
    assert sizes == [0, 0, *ends[1:]]


def test_a_pipe_that_ends_amid_a_frame_loses_that_alone(
    deploy, pictures, tmp_path, monkeypatch, capsys
):
    pipe(monkeypatch, y4m(pictures)[:-1])
    output = tmp_path / "camera.cdetv"
    assert code(deploy, "-", "--output", output) == 1
    assert "cut short amid frame 5, which is lost" in capsys.readouterr().err
    assert len(records(output)[1]) == FRAMES - 1


def test_a_stream_goes_to_the_standard_output(deploy, pictures, stream, monkeypatch, capfdbinary):
    pipe(monkeypatch, y4m(pictures[:2]))
    assert code(deploy, "-", "--output", "-") == 0
    data = capfdbinary.readouterr().out
    prediction = load_prediction(deploy / "receiver.safetensors")
    assert [x.number for x in decode_stream(data, prediction, 10**6)] == [0, 1]


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_onnx_runtime_codes_sequences_for_the_same_receiver(run, folder, stream, tmp_path):
    eight_bits = ("--int8", "--calibration", str(folder))
    new = export(run, tmp_path / "new", "--onnx", *eight_bits)
    prediction = load_prediction(new / "receiver.safetensors")
    usual = [*decode_stream(stream.read_bytes(), prediction, 10**5)]
    for name in ("encoder.onnx", "encoder_int8.onnx"):
        output = tmp_path / f"{name}.cdetv"
        arguments = ["--sequence", "--fps", 12.5, "--output", output]
        assert call(encode, folder, *arguments, "--model", new / name) == 0
        found = [*decode_stream(output.read_bytes(), prediction, 10**5)]
        assert [frame.number for frame in found] == [*range(FRAMES)]
        for mine, theirs in zip(found, usual, strict=True):
            differs = np.abs(mine.latents.values - theirs.latents.values) > 0.5
            assert differs.mean() < (0.2 if "int8" in name else 0.005)
    int8 = open_onnx(new / "encoder_int8.onnx").metadata["int8"]
    assert not [layer for layer in (*int8["layers"], *int8["float_layers"]) if "frames" in layer]
    described = open_onnx(new / "encoder.onnx").metadata
    of_pictures = {k: v for k, v in described.items() if k != "prediction"}
    for changes, said in (
        ({"prediction": None}, "damaged entropy model"),
        ({"prediction": "?"}, "damaged entropy model"),
        ({"codec_det": json.dumps(of_pictures)}, "which codes single pictures"),
        ({"codec_det": json.dumps(described | {"codec": {}})}, "does not say how it codes frames"),
    ):
        changed = change_properties(new / "encoder.onnx", tmp_path / "changed.onnx", **changes)
        with pytest.raises(WeightsError, match=said):
            load_sequence_encoder(changed)


@pytest.mark.slow  # imports and runs PyTorch's ONNX exporter
def test_streams_have_the_level_that_is_asked_for(
    tiny_set, folder, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    levels = ("MODEL.CODEC.LEVELS", "3", "MODEL.CODEC.LEVEL_BETAS", "[4.0, 2.0, 1.0]")
    run = make_run(tmp_path / "run", *tiny_set, *TEMPORAL, *levels)
    new = export(run, tmp_path / "new", "--onnx")
    decoder = load_decoder(new / "receiver.safetensors")
    prediction = load_prediction(new / "receiver.safetensors")
    sizes = {}
    for name in ("encoder.safetensors", "encoder.onnx"):
        for level in (0, 0.5, None):
            output = tmp_path / "coded.cdetv"
            asked = [] if level is None else ["--level", level]
            arguments = [folder, "--sequence", "--output", output, *asked]
            assert call(encode, *arguments, "--model", new / name) == 0
            found = [*decode_stream(output.read_bytes(), prediction, 10**5)]
            steps = 128 if level is None else round(64 * level)
            assert [f.latents.picture.level for f in found] == [steps] * FRAMES
            sizes[name, level] = output.stat().st_size
            assert decoder.synthesize(found[-1].latents).shape == (3, SIDE, SIDE)
    assert all(sizes["encoder.onnx", x] == sizes["encoder.safetensors", x] for x in (0, 0.5, None))
    assert sizes["encoder.onnx", 0] < sizes["encoder.onnx", 0.5] < sizes["encoder.onnx", None]
    encoder = load_sequence_encoder(new / "encoder.onnx")
    steps = [0, 0, 2, 2]
    sent = [
        encoder.encode(picture, (SIDE, SIDE), Frame(0, t), level)
        for t, (picture, level) in enumerate(zip(pictures, steps, strict=False))
    ]
    assert [is_key for is_key, _ in sent] == [True, False, True, False]
    capsys.readouterr()
    arguments = [folder, "--sequence", "--output", output, "--model", new / "encoder.onnx"]
    assert "--level 2.5: " in refused(capsys, encode, *arguments, "--level", 2.5)
    assert "--max-bytes is for pictures" in refused(capsys, encode, *arguments, "--max-bytes", 99)


# ---- Where frames come from ----


@pytest.fixture(scope="module")
def video(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    smooth = [np.array(Image.fromarray(p).resize((32, 32)).resize((64, 48))) for p in pictures]
    writer = imageio_ffmpeg.write_frames(path, (64, 48), fps=10, quality=10, macro_block_size=1)
    writer.send(None)
    for picture in smooth:
        writer.send(np.ascontiguousarray(picture))
    writer.close()
    return path, smooth


def test_frames_of_a_video_are_what_it_shows(deploy, video, tmp_path):
    path, smooth = video
    source = open_video(path)
    assert (source.size, source.fps) == ((48, 64), 10)
    frames = list(source.frames)
    assert len(frames) == FRAMES
    assert np.abs(np.array(frames, float) - np.array(smooth, float)).mean() < 8
    assert code(deploy, path, "--output-dir", tmp_path) == 0
    assert len(records(tmp_path / "clip.cdetv")[1]) == FRAMES


@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p", "yuvj420p"])
def test_frames_of_a_pipe_are_as_right_as_those_that_ffmpeg_shows(video, kind):
    path, smooth = video
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path]
    piped = subprocess.run(
        [*program, "-pix_fmt", kind, "-f", "yuv4mpegpipe", "-strict", "-1", "-"],
        check=True,
        capture_output=True,
    ).stdout
    source = open_pipe(io.BytesIO(piped), "the pipe")
    assert (source.size, source.fps) == ((48, 64), 10)
    found = np.array(list(source.frames), float)
    expected = np.array(list(open_video(path).frames), float)
    assert found.shape == expected.shape
    errors = [np.abs(frames - np.array(smooth, float)).mean() for frames in (found, expected)]
    assert errors[0] < errors[1]
    assert np.abs((found - expected).mean((0, 1, 2))).max() < 1.5


def test_frames_of_a_folder_are_in_order_of_their_numbers(folder, pictures):
    source = open_folder(folder)
    assert (source.size, source.fps, source.length) == ((SIDE, SIDE), 0, FRAMES)
    assert np.array_equal(list(source.frames), pictures)


# ---- Decode and detect ----


def test_frames_are_decoded_to_pictures(deploy, stream, tmp_path, capsys):
    receiver = deploy / "receiver.safetensors"
    assert call(decode, stream, "--model", receiver, "--output-dir", tmp_path) == 0
    assert "6 frames decoded into" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "street").iterdir()) == [
        f"{t:06d}.png" for t in range(FRAMES)
    ]
    reader, decoder = SequenceReader(load_prediction(receiver)), load_decoder(receiver)
    for sent in records(stream)[1]:
        picture = to_uint8(decoder.synthesize(reader.read(*sent[1:], sent.number)))
        found = np.array(Image.open(tmp_path / "street" / f"{sent.number:06d}.png"))
        assert np.array_equal(found, picture.permute(1, 2, 0).numpy())


def test_frames_are_decoded_to_a_video(deploy, stream, tmp_path):
    arguments = [stream, "--model", deploy / "receiver.safetensors", "--output-dir", tmp_path]
    assert call(decode, *arguments, "--mp4") == 0
    call(decode, *arguments)
    assert {p.name for p in tmp_path.iterdir()} == {"street", "street.mp4"}
    source = open_video(tmp_path / "street.mp4")
    assert (source.size, source.fps) == ((SIDE, SIDE), 12.5)
    pngs = [np.array(Image.open(p), float) for p in sorted((tmp_path / "street").iterdir())]
    # Of random weights, they are noise.
    assert np.abs(np.array(list(source.frames), float) - np.array(pngs)).mean() < 20


def test_objects_are_those_of_the_receiver(deploy, stream, tmp_path, capsys):
    model = deploy / "receiver.safetensors"
    assert call(detect, stream, "--model", model, "--output-dir", tmp_path, "--draw") == 0
    assert {p.name for p in tmp_path.iterdir()} == {"detections.json", "street.mp4"}
    assert len(list(open_video(tmp_path / "street.mp4").frames)) == FRAMES
    results = json.loads((tmp_path / "detections.json").read_text())
    receiver = load_receiver(model)
    frames = decode_stream(stream.read_bytes(), load_prediction(model), 10**6)
    for frame in frames:
        picture = receiver.decoder.synthesize(frame.latents)
        (instances,) = receiver.detect([picture], [(SIDE, SIDE)])
        own = [r for r in results if r["image_id"] == frame.number]
        assert [r["score"] for r in own] == instances.scores.tolist()
    assert {r["image_id"] for r in results} == set(range(FRAMES))
    assert {r["file_name"] for r in results} == {"street.cdetv"}
    said = capsys.readouterr().out
    assert f"{len(results)} detections in {FRAMES} frames; " in said


def test_what_is_lost_is_said_and_all_else_is_used(deploy, stream, tmp_path, capsys):
    head, sent = records(stream)
    damaged = tmp_path / "damaged.cdetv"
    packed = [s.pack() for s in sent]
    packed[1] = packed[1][:-1] + bytes([packed[1][-1] ^ 1])
    damaged.write_bytes(head + b"".join(packed)[:-1])
    arguments = [damaged, "--model", deploy / "receiver.safetensors", "--output-dir", tmp_path]
    assert call(decode, *arguments) == 1
    errors = capsys.readouterr().err
    assert f"error: of '{damaged}' some frames are lost:" in errors
    assert f"  at byte {len(head + packed[0])}: " in errors
    assert "  not there: frames 1 to 3\n" in errors
    assert "the stream is cut short amid a frame" in errors
    names = sorted(p.name for p in (tmp_path / "damaged").iterdir())
    assert names == ["000000.png", "000004.png"]
    assert call(detect, *arguments) == 1
    assert "not there: frames 1 to 3" in capsys.readouterr().err
    results = json.loads((tmp_path / "detections.json").read_text())
    assert {r["image_id"] for r in results} == {0, 4}


def test_a_stream_of_which_nothing_is_whole_makes_no_video(deploy, stream, tmp_path, capsys):
    damaged = tmp_path / "damaged.cdetv"
    damaged.write_bytes(stream.read_bytes()[:20])
    arguments = [damaged, "--model", deploy / "receiver.safetensors", "--output-dir", tmp_path]
    assert call(decode, *arguments, "--mp4") == 1
    assert "0 frames decoded" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"damaged.cdetv"}


# ---- What streams are ----


def described(capsys, *arguments, status=0):
    capsys.readouterr()
    assert call(info, *arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def test_streams_say_what_they_are(deploy, stream, capsys):
    head, sent = records(stream)
    prediction = load_prediction(deploy / "receiver.safetensors")
    of_keys, of_others = (
        sum(len(s.payload) for s in sent if s.is_key == kind) for kind in (True, False)
    )
    for model in ([], ["--model", deploy / "encoder.safetensors"]):
        (facts,) = described(capsys, stream, *model)["streams"]
        size = stream.stat().st_size
        assert facts == {
            "file": str(stream),
            "stream_model": prediction.sha256[:8],
            # 64x64 is a size that the model expects.
            "height": SIDE if model else None,
            "width": SIDE if model else None,
            "fps": 12.5,
            "bytes": size,
            "frames": FRAMES,
            "key_frames": 2,
            "key_interval": KEYS,
            "key_frame_bytes": of_keys,
            "predicted_frame_bytes": of_others,
            # Lengths; of key frames kind, number and checksum, too.
            "format_bytes": len(head)
            + sum(1 + (len(s.payload) > 127) + 5 * s.is_key for s in sent),
            "unread_bytes": 0,
            "bpp": 8 * size / FRAMES / SIDE**2 if model else None,
            "kbps": 8 * size / FRAMES * 12.5 / 1000,
            "lost": [],
        }
        assert sum(facts[f"{part}_bytes"] for part in PARTS) == size
    assert call(info, stream) == 0
    said = capsys.readouterr().out
    assert "6 of ? (--model), 12.5 frames/s: 2 key frames, one in 4, and 4 predicted" in said
    assert f"key frames {of_keys} ({of_keys / 2:.1f} each)" in said


def test_what_streams_have_lost_is_said_as_decoding_says_it(deploy, stream, tmp_path, capsys):
    head, sent = records(stream)
    packed = [s.pack() for s in sent]
    packed[2] = packed[2][:-1] + bytes([packed[2][-1] ^ 1])
    damaged = tmp_path / "damaged.cdetv"
    damaged.write_bytes(head + b"".join(packed))
    model = ["--model", deploy / "receiver.safetensors"]
    assert call(decode, damaged, *model, "--output-dir", tmp_path) == 1
    *_, said = capsys.readouterr().err.partition("error: ")
    assert "not there: frames 2 to 3" in said
    assert call(info, damaged, *model) == 1
    assert capsys.readouterr().err.partition("error: ")[2] == said
    shown = described(capsys, damaged, stream, *model, status=1)
    assert shown["failures"] == []
    facts, whole = shown["streams"]
    assert (facts["frames"], facts["key_frames"]) == (4, 2)
    assert facts["unread_bytes"] == len(packed[2] + packed[3])
    assert facts["kbps"] == pytest.approx(8 * damaged.stat().st_size / FRAMES * 12.5 / 1000)
    assert whole["lost"] == []
    # Structure alone is whole.
    assert described(capsys, damaged)["streams"][0]["frames"] == FRAMES
    damaged.write_bytes(head + b"".join(packed[1:]))
    (facts,) = described(capsys, damaged, status=1)["streams"]
    assert facts["lost"][1] == "not there: frames 0 to 3"
    damaged.write_bytes(head)
    (facts,) = described(capsys, damaged)["streams"]
    assert (facts["frames"], facts["key_interval"], facts["kbps"]) == (0, None, None)


def test_models_of_sequences_say_so(deploy, of_pictures, stream, capsys):
    models = described(capsys, deploy)["models"]
    for facts in models:
        prediction = load_prediction(deploy / f"{facts['kind']}.safetensors", facts["kind"])
        assert facts["stream_model"] == prediction.sha256[:8]
        assert facts["prediction_partial_sums_log2"] == math.log2(max(prediction.partial_sums))
    assert [facts.get("key_interval") for facts in models] == [KEYS, None]
    assert call(info, deploy / "encoder.safetensors") == 0
    said = capsys.readouterr().out
    assert f"streams of model {models[0]['stream_model']}, a key frame in {KEYS}\n" in said
    assert ", of the prediction of frames 2^" in said
    model = of_pictures / "receiver.safetensors"
    assert "stream_model" not in described(capsys, model)["models"][0]
    (failure,) = described(capsys, stream, "--model", model, status=1)["failures"]
    assert "which codes single pictures" in failure["reason"]


# ---- Pictures, and what cannot work ----


def test_a_model_of_sequences_codes_pictures_as_key_frames(deploy, folder, stream, tmp_path):
    assert code(deploy, folder / "frame_7.png", "--output-dir", tmp_path) == 0
    assert (tmp_path / "frame_7.cdet").read_bytes() == records(stream)[1][0].payload
    decoder = load_decoder(deploy / "receiver.safetensors")
    assert decoder.decode((tmp_path / "frame_7.cdet").read_bytes()).shape == (3, SIDE, SIDE)


@pytest.fixture(scope="module")
def of_pictures(tiny_set, tmp_path_factory):
    """What was exported of a picture codec."""
    folder = tmp_path_factory.mktemp("pictures")
    return export(make_run(folder / "run", *tiny_set), folder / "deploy")


def test_a_model_of_pictures_codes_no_sequence(of_pictures, folder, stream, tmp_path, capsys):
    encoder, receiver = (of_pictures / f"{x}.safetensors" for x in ("encoder", "receiver"))
    output = ["--output-dir", tmp_path / "new"]
    error = refused(capsys, encode, folder, "--sequence", "--model", encoder, *output)
    assert f"'{encoder}' is of the codec bmshj2018-hyperprior, which codes single pictures" in error
    for tool in (decode, detect):
        assert "ends in -temporal" in refused(capsys, tool, stream, "--model", receiver, *output)
    error = refused(capsys, encode, folder, "--sequence", "--model", "x.onnx", *output)
    assert "'x.onnx' does not exist" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.mp4", "b.png"], "give one of 'a.mp4', 'b.png'"),
        (["a.mp4", "--recursive"], "--recursive is for pictures, and 'a.mp4' is a sequence"),
        (["a.mp4", "--max-bytes", "9"], "--max-bytes is for pictures"),
        (["a.mp4", "--output", "x.cdetv"], "give --output, the stream, or --output-dir"),
        (["-"], "frames from a pipe have no name: give --output"),
        (["a.mp4"], "'a.mp4' does not exist: give a video file"),
        (["{tmp}/text.mp4"], "text.mp4' has no frames that ffmpeg can read"),
        (["{tmp}/empty", "--sequence"], "empty' has no pictures in it that could be frames"),
        (["{tmp}/sizes", "--sequence"], "2.png' has 8x9 pixels, and '"),
        (["{tmp}", "--fps", "5"], "--fps is for a sequence of frames"),
    ],
)
def test_what_makes_no_stream_is_refused(deploy, tmp_path, capsys, arguments, said):
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("empty", "sizes"):
        (tmp_path / name).mkdir()
    for number, size in (("1", (8, 8)), ("2", (8, 9))):
        Image.new("RGB", size).save(tmp_path / "sizes" / f"{number}.png")
    own = ["--model", deploy / "encoder.safetensors", "--output-dir", tmp_path / "new"]
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert said in refused(capsys, encode, *given, *own)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "there are no bytes"),
        (b"\x89PNG\r\n\x1a\n", "it does not begin with YUV4MPEG2"),
        (b"YUV4MPEG2 W4 H4 C422\n", "frames are in 422, and must be in 420 or 444"),
        (b"YUV4MPEG2 W4 H4 C420p10\n", "frames are in 420p10"),
        (b"YUV4MPEG2 W0 H4\n", "a header that no frames can have"),
        (b"YUV4MPEG2 W99999 H99999\n", "a header that no frames can have"),
        (b"YUV4MPEG2 W4 H4\n", "the pipe has no frames"),
        (b"YUV4MPEG2 W4 H4\nFRAME\n123", "cut short amid frame 0"),
        (b"YUV4MPEG2 W4 H4\nJUNK\n", "after 0 frames something else comes"),
    ],
)
def test_a_pipe_without_frames_is_refused(deploy, tmp_path, monkeypatch, capsys, data, said):
    pipe(monkeypatch, data)
    own = ["--model", deploy / "encoder.safetensors", "--output", tmp_path / "x.cdetv"]
    assert said in refused(capsys, encode, "-", *own)
    assert not (tmp_path / "x.cdetv").exists()


def test_frames_that_change_their_size_end_the_stream(
    deploy, pictures, tmp_path, monkeypatch, capsys
):
    pipe(monkeypatch, y4m(pictures[:2]) + y4m(pictures[2:]))
    assert code(deploy, "-", "--output", tmp_path / "x.cdetv") == 1
    assert "after 2 frames another header comes" in capsys.readouterr().err
    assert len(records(tmp_path / "x.cdetv")[1]) == 2


def test_what_is_no_stream_of_the_model_is_refused(deploy, stream, tmp_path, capsys):
    own = ["--model", deploy / "receiver.safetensors", "--output-dir", tmp_path / "new"]
    text, other = tmp_path / "text.cdetv", tmp_path / "other.cdetv"
    text.write_text("no stream")
    data = bytearray(stream.read_bytes())
    data[6] ^= 1
    other.write_bytes(data)
    for tool in (decode, detect):
        for path, said in (
            (text, f"'{text}': not a stream of codec_det"),
            (other, f"'{other}': coded with the model "),
            (tmp_path / "none.cdetv", "none.cdetv' does not exist: give a stream"),
        ):
            assert said in refused(capsys, tool, path, *own)
        assert "give one of '" in refused(capsys, tool, stream, text, *own)
        assert "--recursive is for files" in refused(capsys, tool, stream, "--recursive", *own)
    assert "--mp4 is for a stream" in refused(capsys, decode, tmp_path, "--mp4", *own)


def test_changed_models_of_frames_are_refused(deploy, tmp_path):
    path = tmp_path / "encoder.safetensors"
    data = (deploy / "encoder.safetensors").read_bytes()
    place = data.index(b'\\"network_slope\\": [') + 20
    path.write_bytes(data[:place] + b"9" + data[place + 1 :])
    with pytest.raises(WeightsError, match="has an entropy model that was changed"):
        load_sequence_encoder(path)
