"""Another processor, emulated: Debian's Python for it and a camera's wheels, in a folder.

Nothing is installed: packages are downloaded by apt-get and pip as their users do, and unpacked.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from codec_det.errors import CodecDetError

DEBIAN = "http://deb.debian.org/debian"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# That of bookworm crashes when it loads ONNX Runtime.
EMULATOR = ("trixie", "amd64", ("qemu-user",))
# Debian's name, and pip's platforms.
ARCHITECTURES = {"aarch64": "arm64"}
PYTHON = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8"),
    *("libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1"),
    *("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal"),
)
WHEELS = (
    *("numpy", "Pillow", "onnxruntime", "safetensors", "tqdm"),
    *("flatbuffers", "packaging", "protobuf"),
)
GLIBC = ("2_17", "2_27", "2_28")


class Emulation:
    """An environment for another processor, made when it is not there.

    Args:
        folder: that it is in.
        machine: one of :data:`ARCHITECTURES`.

    Raises:
        CodecDetError: if it cannot be had here, with the reason.
    """

    def __init__(self, folder: Path, machine: str) -> None:
        self._folder = folder.absolute()
        self._machine = machine
        ready = self._folder / "ready"
        if not ready.exists():
            self._unpack_debian("emulator", *EMULATOR)
            self._unpack_debian("system", "bookworm", ARCHITECTURES[machine], PYTHON)
            self._unpack_wheels()
            ready.touch()

    def command(self, paths: Sequence[Path], arguments: Sequence[str]) -> list[str]:
        """That runs Python there, with these folders of modules."""
        environment = {
            "PYTHONPATH": ":".join(map(str, (self._folder / "site", *paths))),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        settings = [x for item in environment.items() for x in ("-E", "=".join(item))]
        system = self._folder / "system"
        emulator = self._folder / "emulator/usr/bin" / f"qemu-{self._machine}"
        python = system / "usr/bin/python3.11"
        return [*map(str, (emulator, "-L", system)), *settings, str(python), "-S", *arguments]

    def _unpack_debian(
        self, name: str, suite: str, architecture: str, packages: Sequence[str]
    ) -> None:
        """Packages of Debian in a folder, by an apt-get that knows nothing of this system."""
        work, target = self._folder / f"apt-{name}", self._folder / name
        for part in ("lists/partial", "cache/archives/partial", "state", "debs"):
            (work / part).mkdir(parents=True, exist_ok=True)
        (work / "status").touch()
        (work / "sources.list").write_text(f"deb [signed-by={KEYS}] {DEBIAN} {suite} main\n")
        settings: Mapping[str, str | Path] = {
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "Dir::State": work / "state",
            "Dir::State::status": work / "status",
            "Dir::State::Lists": work / "lists",
            "Dir::Cache": work / "cache",
            "Dir::Etc::sourcelist": work / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Sandbox::User": "root",
        }
        options = [x for key, value in settings.items() for x in ("-o", f"{key}={value}")]
        _run(["apt-get", *options, "update"], work)
        _run(["apt-get", *options, "download", *packages], work / "debs")
        for package in sorted((work / "debs").glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(target)], work)

    def _unpack_wheels(self) -> None:
        """What a camera installs, in the versions that are installed here."""
        wheels, site = self._folder / "wheels", self._folder / "site"
        wheels.mkdir(exist_ok=True)
        platforms = [f"manylinux_{glibc}_{self._machine}" for glibc in GLIBC]
        platforms += [f"manylinux2014_{self._machine}", "any"]
        tags = {"--platform": platforms, "--abi": ["cp311", "abi3", "none"]}
        options = [x for key, values in tags.items() for value in values for x in (key, value)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
        wanted = [f"{name}=={version(name)}" for name in WHEELS]
        python = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"]
        _run([*pip, *python, *options, "-d", str(wheels), *wanted], self._folder)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except OSError as error:
        raise CodecDetError(f"no emulation without {command[0]} ({error.strerror})") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:] or ["no reason given"]
        raise CodecDetError(f"no emulation: {command[0]} failed ({last[0]})") from None
