"""A camera's part of tools/check_emulated.py, which runs it on either processor, without PyTorch.

``encode FOLDER OUT`` codes every picture of FOLDER/pictures.npz with every FOLDER/*.onnx into OUT;
``read FOLDER FILES OUT`` writes to OUT, as JSON, what is in every file of FILES.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np

from codec_det.bitstream import PictureEncoder
from codec_det.bitstream.onnx_encoder import load_onnx_encoder


def encode(folder: Path, out: Path) -> None:
    """Write OUT/<model>-<picture>.cdet."""
    out.mkdir()
    for name, encoder in _encoders(folder).items():
        for picture, pixels in np.load(folder / "pictures.npz").items():
            (out / f"{name}-{picture}.cdet").write_bytes(encoder.encode(pixels))


def read(folder: Path, files: Path, out: Path) -> None:
    """Write, by file, SHA-256 sums of its latents and of the tables and means that belong to them.

    Of a file that cannot be read, the reason.
    """
    encoders = _encoders(folder)
    found = {}
    for path in sorted(files.glob("*.cdet")):
        entropy = encoders[path.name.partition("-")[0]].entropy
        try:
            latents = entropy.read(path.read_bytes())
        except Exception as error:  # noqa: BLE001 (it is the result)
            found[path.name] = {"error": str(error)}
            continue
        tables, means = entropy.tables_and_means(latents.y.shape[1:], latents.z)
        parts = {"latents": (latents.z, latents.y), "hyper-synthesis": (tables, means)}
        found[path.name] = {
            key: sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in arrays)).hexdigest()
            for key, arrays in parts.items()
        }
    out.write_text(json.dumps(found), encoding="utf-8")


def _encoders(folder: Path) -> dict[str, PictureEncoder]:
    return {path.stem: load_onnx_encoder(path, threads=1) for path in folder.glob("*.onnx")}


if __name__ == "__main__":
    stage, *paths = sys.argv[1:]
    if stage == "encode":
        encode(*map(Path, paths))
    else:
        read(*map(Path, paths))
