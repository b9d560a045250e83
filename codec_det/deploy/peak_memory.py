"""How much memory a deployed model takes, measured in a process of its own.

That process is what ``python -m codec_det.deploy.peak_memory MODEL HEIGHT WIDTH`` does.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import CodecDetError

if TYPE_CHECKING:
    from ..bitstream.entropy import EntropyModel


class PeakMemory(NamedTuple):
    """Resident bytes: when Python, its libraries and the model are loaded, and at most."""

    loaded: int
    peak: int


def peak_memory(path: Path, size: tuple[int, int]) -> PeakMemory:
    """Of a process that codes a picture by an encoder, or uses the file of one by a receiver.

    On one thread, in float32 where the model is.

    Args:
        size: height and width of the picture.

    Raises:
        CodecDetError: if the process fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(path), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise CodecDetError(f"the peak memory of '{path}' cannot be measured ({reason})")
    return PeakMemory(*json.loads(done.stdout.splitlines()[-1]))


def _open(path: Path, size: tuple[int, int]) -> Callable[[], object]:
    """Load a model; what uses it on a picture."""
    from ..bitstream.model_file import load_model
    from ..bitstream.onnx_encoder import load_onnx_encoder

    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    if path.suffix == ".onnx":
        encoder = load_onnx_encoder(path, threads=1)
        return lambda: encoder.encode(picture)
    import torch

    torch.set_num_threads(1)
    file = load_model(path, None)
    if file.metadata["kind"] == "encoder":
        from .model_files import load_encoder

        encoder = load_encoder(path)
        return lambda: encoder.encode(picture)
    from .receiver import load_receiver

    receiver, data = load_receiver(path, max_pixels=sys.maxsize), _empty_file(file.entropy, size)

    def receive() -> object:
        decoded = receiver.decoder.decode(data)
        return receiver.detect([decoded], [size]) if receiver.has_detector else decoded

    return receive


def _empty_file(entropy: EntropyModel, size: tuple[int, int]) -> bytes:
    """A file of a picture of this height and width whose latents are zero, or nearly."""
    from ..bitstream.expected import Picture
    from ..coding_scale import coded_size

    picture = Picture(size, coded_size(*size, entropy.expected.scale))
    shape, hyper_shape = entropy.shapes(picture, entropy.version)
    z = np.zeros(hyper_shape, np.int32)
    if entropy.hyperprior:
        tables = entropy.hyperprior.tables
        z = np.clip(z, tables.lowest[:, None, None], tables.highest[:, None, None])
    return entropy.write(np.zeros(shape, np.int32), z if entropy.hyperprior else None, picture)


def resident_bytes(key: str) -> int:
    """Of this process, from a line of proc(5): "VmRSS" at present, "VmHWM" at most.

    Not by getrusage(2), where a process begins with the peak of the one that started it.
    """
    text = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(kilobytes)


def _measure(path: str, *size: str) -> None:
    height, width = map(int, size)
    use = _open(Path(path), (height, width))
    loaded = resident_bytes("VmRSS")
    use()
    sys.stdout.write(f"{json.dumps([loaded, resident_bytes('VmHWM')])}\n")


if __name__ == "__main__":
    _measure(*sys.argv[1:])
