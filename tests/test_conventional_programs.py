"""Programs of others: time limits, crashes, discovery, and the user's own commands."""

import importlib.util
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from codec_det.conventional import build_picture_codec
from codec_det.conventional.ffmpeg import find_ffmpeg
from codec_det.conventional.framing import frame
from codec_det.conventional.process import kill_programs, run_program
from codec_det.errors import BitstreamError, CodecDetError, ConfigError

needs_ffmpeg = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed"
)
PICTURE = np.random.default_rng(0).integers(256, size=(17, 33, 3), dtype=np.uint8)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a Python script on PATH as a program; its path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(name, body):
        path = folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\n{textwrap.dedent(body)}")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder where temporary folders go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def external(encode="cp {input} {output}", decode="cp {input} {output}", **settings):
    return build_picture_codec(
        "external", 7, encode_command=encode, decode_command=decode, **settings
    )


def test_output_log_and_input():
    script = "import sys; print(sys.stdin.read(), end=''); print('note', file=sys.stderr)"
    output, log = run_program([sys.executable, "-c", script], stdin=b"in", remedy="none")
    assert (output, log) == (b"in", "note\n")


def test_a_program_that_ignores_its_input_and_fails():
    script = "import sys; [print(f'line {i}', file=sys.stderr) for i in range(9)]; sys.exit(3)"
    with pytest.raises(CodecDetError) as error:
        run_program([sys.executable, "-c", script], stdin=bytes(10**6), remedy="mend the thing")
    assert "failed with status 3" in str(error.value)
    assert "line 8" in str(error.value)
    assert "line 3" not in str(error.value)  # the last five lines only
    assert str(error.value).endswith("mend the thing")


def test_a_program_that_crashes():
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(BitstreamError, match=r"crashed \(SIGSEGV\): try another"):
        run_program([sys.executable, "-c", script], remedy="try another", error=BitstreamError)


def test_a_program_that_is_missing():
    with pytest.raises(ConfigError, match=r"cannot start 'no_such_program' .*: install it"):
        run_program(["no_such_program"], remedy="install it")


def test_programs_of_other_threads_can_be_killed(tmp_path):
    started = tmp_path / "started"
    script = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(60)"
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_program, [sys.executable, "-c", script], remedy="wait")
        while not started.exists() and not done.done():
            time.sleep(0.02)
        kill_programs()
        with pytest.raises(CodecDetError, match=r"crashed \(SIGKILL\)"):
            done.result(30)


def test_the_time_limit_kills_children_too(tmp_path):
    # The child would write the file, had it been left alive with the pipes in its hands.
    child = f"import time; time.sleep(2); open({str(tmp_path / 'alive')!r}, 'w')"
    script = f"""
import subprocess, sys, time
print("before", file=sys.stderr, flush=True)
subprocess.Popen([sys.executable, "-c", {child!r}])
time.sleep(60)
"""
    started = time.monotonic()
    with pytest.raises(CodecDetError, match=r"time limit of 0\.7 s, saying\nbefore"):
        run_program([sys.executable, "-c", script], time_limit=0.7, remedy="wait")
    assert time.monotonic() - started < 5
    time.sleep(2.2)
    assert not (tmp_path / "alive").exists()


def test_external_round_trip_and_placeholders(program, temporary):
    log = temporary.parent / "log"
    copy = f"""
        import shutil
        shutil.copy(sys.argv[1], sys.argv[2])
        open({str(log)!r}, "a").write(" ".join(sys.argv[3:]) + "\\n")
    """
    program("copier", copy)
    codec = external(
        "copier {input} {output} -q{quality} {width}x{height} 'one word'",
        "copier {input} {output}",
        suffix=".png",
    )
    data = codec.encode(PICTURE)
    np.testing.assert_array_equal(codec.decode(data), PICTURE)
    assert log.read_text().splitlines()[0] == "-q7 33x17 one word"
    assert codec.container_overhead(data) == 0
    assert data.startswith(b"\x89PNG")
    assert list(temporary.iterdir()) == []


def test_external_keeps_the_size_that_its_decoder_needs(program):
    program("decoder", "import shutil; shutil.copy(sys.argv[1], sys.argv[2])")
    codec = external(decode="decoder {input} {output} {width} {height}")
    data = codec.encode(PICTURE)
    assert codec.container_overhead(data) == 4
    np.testing.assert_array_equal(codec.decode(data), PICTURE)
    with pytest.raises(BitstreamError, match="checksum"):
        codec.decode(data[:-1])


def test_external_programs_without_a_shell(tmp_path):
    codec = external(f"cp {{input}} {{output}} ; touch {tmp_path / 'shell'}")
    with pytest.raises(CodecDetError, match="'cp' failed"):
        codec.encode(PICTURE)
    assert not (tmp_path / "shell").exists()


def test_external_failures(program, temporary):
    program("hangs", "import time; time.sleep(60)")
    program("fails", "sys.exit('no licence')")
    program("idles", "")
    rest = "{input} {output}"
    with pytest.raises(CodecDetError, match=r"'hangs' was killed after .* 0\.5 s"):
        external(f"hangs {rest}", time_limit=0.5).encode(PICTURE)
    with pytest.raises(CodecDetError, match=r"status 1, saying\nno licence\n: mend the encode_com"):
        external(f"fails {rest}").encode(PICTURE)
    with pytest.raises(CodecDetError, match="reported success and wrote nothing"):
        external(f"idles {rest}").encode(PICTURE)
    with pytest.raises(BitstreamError, match=r"'hangs' was killed"):
        external(decode=f"hangs {rest}", time_limit=0.5).decode(b"data")
    with pytest.raises(BitstreamError, match="no licence"):
        external(decode=f"fails {rest}").decode(b"data")
    with pytest.raises(BitstreamError):
        external(decode=f"idles {rest}").decode(b"data")
    with pytest.raises(ConfigError, match="time_limit is 0 s"):
        external(f"idles {rest}", time_limit=0)
    with pytest.raises(ConfigError, match="suffix is 3: give text"):
        external(f"idles {rest}", suffix=3)
    with pytest.raises(ConfigError, match="no program 'absent' for the codec 'external'"):
        external(f"absent {rest}")
    assert list(temporary.iterdir()) == []


def test_external_version_follows_the_program(program):
    program("tool", "# one")
    codec = external("tool {input} {output}", program_version="1.0")
    first = codec.version()
    assert first.startswith("tool sha256 ")
    assert "1.0" in first
    program("tool", "# two")
    assert codec.version() != first


FAKE_VVENCAPP = """
    if "--version" in sys.argv:
        print("vvencapp: Fraunhofer VVC Encoder ver. 9.9.9")
        sys.exit()
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    assert arguments["-s"] == "34x18" and arguments["-c"] == "yuv420_10", arguments
    assert arguments["-q"] == "30" and arguments["--qpa"] == "0", arguments
    source = open(arguments["-i"], "rb").read()
    assert len(source) == 34 * 18 * 3 // 2 * 2
    open(arguments["-o"], "wb").write(source)
"""
FAKE_VVDECAPP = """
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    coded = open(arguments["-b"], "rb").read()
    open(arguments["-o"], "wb").write(b"" if b"junk" in coded else coded)
"""


def test_vvencapp_and_vvdecapp_on_path(program):
    program("vvencapp", FAKE_VVENCAPP)
    program("vvdecapp", FAKE_VVDECAPP)
    codec = build_picture_codec("vvc", 30)
    assert "9.9.9" in codec.version()
    assert codec.command().startswith("vvencapp -i {input} -s {width}x{height}")
    flat = np.full((17, 33, 3), (10, 200, 90), np.uint8)
    np.testing.assert_array_equal(codec.decode(codec.encode(flat)), flat)
    with pytest.raises(BitstreamError, match="wrote 0 bytes instead of the 1836"):
        codec.decode(frame(33, 17, b"junk"))


def test_the_environment_names_vvencapp_before_path(program, monkeypatch):
    program("vvencapp", "print('on path')")
    program("vvdecapp", FAKE_VVDECAPP)
    own = program("my_encoder", "print('in environment')")
    monkeypatch.setenv("VVENCAPP", str(own))
    assert build_picture_codec("vvc", 30).version().startswith("in environment")
    monkeypatch.setenv("VVENCAPP", str(own.parent / "absent"))
    with pytest.raises(ConfigError, match=r"VVENCAPP names '.*absent'.*correct or unset it"):
        build_picture_codec("vvc", 30)


@pytest.fixture
def without_ffmpeg(monkeypatch):
    find_ffmpeg.cache_clear()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    yield
    find_ffmpeg.cache_clear()


@pytest.mark.usefixtures("without_ffmpeg")
@pytest.mark.parametrize("name", ["jpegxl", "avc", "hevc", "vvc"])
def test_missing_programs_name_what_to_install(name, program):
    with pytest.raises(ConfigError, match=r"pip install 'codec_det\[conventional\]'") as error:
        build_picture_codec(name, 10)
    assert "\n" not in str(error.value)
    if name == "vvc":
        assert "vvencapp on PATH or in VVENCAPP" in str(error.value)


@needs_ffmpeg
def test_an_ffmpeg_without_the_encoder(program, monkeypatch):
    poor = program("poor_ffmpeg", "print(' V..... mpeg4  MPEG-4')")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(poor))
    find_ffmpeg.cache_clear()
    try:
        with pytest.raises(ConfigError, match="built without the encoder libx265"):
            build_picture_codec("hevc", 30)
    finally:
        find_ffmpeg.cache_clear()


FAKE_VTM_ENCODER = """
    if "--help" in sys.argv:
        print("\\nVVCSoftware: VTM Encoder Version 99.1 [Linux]")
        sys.exit(1)
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    arguments = dict(zip(words[::2], words[1::2]))
    assert "--InputChromaFormat=444" in sys.argv and arguments["-wdt"] == "34", sys.argv
    assert open(arguments["-c"]).read() == "cfg"
    open(arguments["-b"], "wb").write(open(arguments["-i"], "rb").read())
"""


def test_vtm(program, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no EncoderAppStatic .*: build VTM"):
        build_picture_codec("vtm", 30)
    program("EncoderAppStatic", FAKE_VTM_ENCODER)
    program("DecoderAppStatic", FAKE_VVDECAPP)
    with pytest.raises(ConfigError, match="VTM_CONFIG is '', which is no file"):
        build_picture_codec("vtm", 30)
    config = tmp_path / "encoder_intra_vtm.cfg"
    config.write_text("cfg")
    monkeypatch.setenv("VTM_CONFIG", str(config))
    codec = build_picture_codec("vtm", 30)
    assert "VTM Encoder Version 99.1" in codec.version()
    assert codec.settings["config"].startswith("encoder_intra_vtm.cfg sha256 ")
    np.testing.assert_array_equal(codec.decode(codec.encode(PICTURE)), PICTURE)  # 4:4:4, 10 bits
    with pytest.raises(CodecDetError, match="'EncoderAppStatic' failed"):
        codec.encode(np.zeros((40, 40, 3), np.uint8))  # the message ends with its assertion


def test_temporary_folders_are_gone_after_a_failure(program, temporary):
    program("vvencapp", "sys.exit(1)")
    program("vvdecapp", "sys.exit(1)")
    codec = build_picture_codec("vvc", 30)
    with pytest.raises(CodecDetError, match="'vvencapp' failed with status 1: run it by hand"):
        codec.encode(PICTURE)
    assert list(Path(temporary).iterdir()) == []
