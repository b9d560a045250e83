#!/usr/bin/env python
"""Install detectron2 0.6 from a verified pure-Python copy, without a compiler.

detectron2 publishes no wheel for current torch versions, and its official build needs a C++
compiler. The LabGym project ships an unmodified copy of detectron2 inside its own wheel, with
only the import prefix changed. This tool downloads that one wheel (pinned by hash), takes the
``LabGym/detectron2`` folder and nothing else, maps the prefix back, checks that the result is
bit for bit the tree of upstream commit ``UPSTREAM_COMMIT``, and installs it as an ordinary wheel::

    labgym wheel --sha256--> LabGym/detectron2/* --unmap--> detectron2/* --sha256--> wheel --> pip

A detectron2 that is already importable is never touched, so an official build always wins.
``pip uninstall detectron2`` removes what this tool installed.
"""

from __future__ import annotations

from command_line import run_command, run_program

import argparse
import base64
import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

UPSTREAM_URL = "https://github.com/facebookresearch/detectron2"
UPSTREAM_COMMIT = "b7ff9466d174"
UPSTREAM_DATE = "2024-01-26"
VERSION = "0.6+b7ff946"

CARRIER = "labgym==3.1.2"
CARRIER_SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"
CARRIER_PREFIX = "LabGym/"
# Digest (see tree_digest) of the 306 mapped files, taken after comparing each of them with a
# checkout of the upstream commit: all 306 were byte-identical.
TREE_SHA256 = "cb333171adb8458ab45d3030804adff2f181189714293e8df20f3a140ab9ec5f"

CHECKOUT = Path(__file__).resolve().parent.parent
OFFICIAL_BUILD = f"pip install --no-build-isolation --use-pep517 'git+{UPSTREAM_URL}.git'"

# Upstream's setup.py, with two differences: `black` is left out (only LazyConfig.to_py imports it,
# when called) and iopath may be 0.1.10 (fvcore 0.1.5 allows it).
REQUIRES_DIST = (
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7,<0.2",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
    "packaging",
)

DESCRIPTION = f"""\
The Python files of detectron2 at upstream commit {UPSTREAM_COMMIT} of {UPSTREAM_DATE}, unmodified.

This is not an official release. It was assembled on this machine by codec_det's
tools/install_detectron2.py from the copy that {CARRIER} carries, and every file was verified to
be byte-identical to the upstream commit.

The compiled extension detectron2._C is missing. Without it there is no deformable convolution,
there are no rotated boxes, and COCO evaluation falls back from the compiled evaluator to
pycocotools (same numbers, slower). For these, uninstall this copy and use the official build:

    {OFFICIAL_BUILD}

detectron2 is Copyright (c) Facebook, Inc. and its affiliates, licensed under Apache-2.0.
"""


class InstallError(RuntimeError):
    """Something a user can act on; the message is one line that names culprit and remedy."""


def with_remedy(problem: str) -> InstallError:
    """Every failure has the same way out: build detectron2 the official way, then rerun."""
    return InstallError(f"{problem}. Instead, build it from source: {OFFICIAL_BUILD}")


def find_installed() -> str | None:
    """Describe the importable detectron2 ("version X in DIR"), or None.

    The package is located, not imported: importing costs seconds and fails without torch. An
    empty folder that an earlier uninstall left behind counts as absent (it has no origin).
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        return None
    try:
        version = importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown (no package metadata)"
    return f"version {version} in {Path(spec.origin).parent}"


def run_pip(*args: str) -> None:
    """Run this interpreter's pip; raise with its last error line, as the rest is rarely useful."""
    command = [sys.executable, "-m", "pip", *args]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return
    output = done.stdout + done.stderr
    if "DO NOT MATCH THE HASHES" in output:
        raise with_remedy(f"The downloaded {CARRIER} does not have sha256 {CARRIER_SHA256}")
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or [output.strip()]
    raise with_remedy(f"`pip {args[0]}` failed; is the package index reachable? ({errors[-1]})")


def download_carrier(folder: Path) -> Path:
    """Download the pinned carrier wheel into `folder`.

    Its metadata asks for Python < 3.11 because of LabGym's other dependencies; the files taken
    here run on any Python, so pip is told to resolve for 3.10.
    """
    pinned = folder / "carrier.txt"
    pinned.write_text(f"{CARRIER} --hash=sha256:{CARRIER_SHA256}\n", encoding="utf-8")
    target = ("--python-version=3.10", "--implementation=py", "--abi=none", "--platform=any")
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", *target)
    run_pip("download", *options, "--dest", str(folder), "--requirement", str(pinned))
    return next(folder.glob("*.whl"))


def check_carrier(wheel: Path, expected: str = CARRIER_SHA256) -> None:
    """Refuse a wheel with another sha256 than `expected` (a file given by --wheel, say)."""
    if not wheel.is_file():
        raise InstallError(f"{wheel} does not exist; give --wheel the path of the {CARRIER} wheel")
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != expected:
        raise with_remedy(f"{wheel.name} has sha256 {actual}, expected {expected}")


def map_back(wheel: Path) -> dict[str, bytes]:
    """Read the carrier's detectron2 folder and undo the prefix: {relative name: content}."""
    old = CARRIER_PREFIX.encode().replace(b"/", b".") + b"detectron2"
    tree = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(f"{CARRIER_PREFIX}detectron2/") and not name.endswith("/"):
                content = archive.read(name).replace(old, b"detectron2")
                tree[name[len(CARRIER_PREFIX) :]] = content
    return tree


def tree_digest(tree: Mapping[str, bytes]) -> str:
    """sha256 over the sorted names and contents, each preceded by its length.

    The lengths make the digest unambiguous: no two different trees feed it the same bytes.
    """
    digest = hashlib.sha256()
    for name in sorted(tree):
        for part in (name.encode(), tree[name]):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def check_tree(tree: Mapping[str, bytes], expected: str = TREE_SHA256) -> None:
    """Refuse a tree that is not, name for name and byte for byte, the verified upstream one."""
    actual = tree_digest(tree)
    if actual != expected:
        raise with_remedy(
            f"The {len(tree)} files mapped back from {CARRIER} have digest {actual}, "
            f"expected {expected}: they are not upstream commit {UPSTREAM_COMMIT}"
        )


def metadata_text() -> str:
    """The METADATA file: upstream's identity and licence, and plainly what this copy is."""
    fields = [
        ("Metadata-Version", "2.4"),
        ("Name", "detectron2"),
        ("Version", VERSION),
        ("Summary", f"detectron2 0.6, Python files of commit {UPSTREAM_COMMIT}, no compiled ops"),
        ("Author", "FAIR"),
        ("License-Expression", "Apache-2.0"),
        ("License-File", "LICENSE"),
        ("Project-URL", f"Source, {UPSTREAM_URL}"),
        ("Project-URL", f"Commit, {UPSTREAM_URL}/tree/{UPSTREAM_COMMIT}"),
        ("Requires-Python", ">=3.7"),
        *(("Requires-Dist", requirement) for requirement in REQUIRES_DIST),
        ("Description-Content-Type", "text/plain"),
    ]
    return "".join(f"{key}: {value}\n" for key, value in fields) + f"\n{DESCRIPTION}"


def license_text() -> bytes:
    """Apache-2.0, as codec_det itself has it."""
    try:
        installed = importlib.metadata.distribution("codec_det").read_text("licenses/LICENSE")
    except importlib.metadata.PackageNotFoundError:
        installed = None
    # A checkout that is being set up.
    return installed.encode() if installed else (CHECKOUT / "LICENSE").read_bytes()


def record_line(name: str, content: bytes) -> str:
    """One RECORD row (PEP 376): name, urlsafe base64 sha256 without padding, size."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def build_wheel(tree: Mapping[str, bytes], folder: Path) -> Path:
    """Write `tree` as an installable wheel into `folder` and return its path.

    Timestamps are zip's epoch, so the same tree always gives the same wheel.
    """
    info = f"detectron2-{VERSION}.dist-info"
    generator = f"codec_det tools/{PurePosixPath(__file__).name}"
    files = dict(tree)
    files[f"{info}/licenses/LICENSE"] = license_text()
    files[f"{info}/METADATA"] = metadata_text().encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {generator}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ).encode()
    record = "".join(record_line(name, content) for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()

    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return wheel


def install(carrier: Path | None) -> None:
    """Download the carrier unless it is given, verify, build, install; clean up in any case."""
    with tempfile.TemporaryDirectory(prefix="install_detectron2_") as temporary:
        folder = Path(temporary)
        if carrier is None:
            print(f"Downloading {CARRIER} (2 MB), which carries detectron2 ...")
            carrier = download_carrier(folder)
        check_carrier(carrier)
        tree = map_back(carrier)
        check_tree(tree)
        print(f"Verified {len(tree)} files: upstream commit {UPSTREAM_COMMIT}. Installing ...")
        run_pip("install", "--quiet", str(build_wheel(tree, folder)))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; the help text is the module's own docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wheel",
        type=Path,
        metavar="FILE",
        help=f"use this already downloaded {CARRIER} wheel, for a machine without network "
        "(its sha256 is checked all the same; default: download it)",
    )
    return parser.parse_args(argv)


def install_unless_there(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status."""
    found = find_installed()
    if found:
        print(f"detectron2 is already installed and left alone: {found}")
        return 0
    try:
        install(args.wheel)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    importlib.invalidate_caches()
    print(
        f"Installed detectron2: {find_installed()} (without the compiled extension detectron2._C)"
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(parse_args, install_unless_there, argv)


if __name__ == "__main__":
    run_program(main)
