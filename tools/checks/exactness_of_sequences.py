"""Does a sequence decode to the same latents wherever it is read? Every setting in its own process.

As :mod:`.exactness`, frame after frame: what one process has sent, another reads from what it has
decoded itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from codec_det.bitstream.entropy import EntropyModel
from codec_det.bitstream.expected import Expected
from codec_det.bitstream.prediction import Prediction, SequenceReader
from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.codec.learned.frame_coding import sequence_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model, freeze_prediction
from codec_det.codec.learned.temporal_codec import TemporalCodec
from codec_det.errors import BitstreamError
from codec_det.sequences import Frame

from .exactness import Setting, digest, variables_of


class SequenceWorker:
    """One process's part.

    Args:
        folder: holds ``model.pt`` and ``frames.npy`` (n, H, W, 3).
    """

    def __init__(self, folder: Path, setting: Setting) -> None:
        torch.backends.mkldnn.set_flags(setting.onednn)
        torch.set_num_threads(setting.threads)
        saved = torch.load(folder / "model.pt", weights_only=False)
        codec = TemporalCodec(saved["name"], 1, **saved["options"])
        codec.load_state_dict(saved["weights"])
        layout = torch.channels_last if setting.channels_last else torch.contiguous_format
        self.codec = codec.eval().to(setting.device).to(memory_format=layout)
        pictures = EntropyModel.from_state(*saved["pictures"])
        self.prediction = Prediction.from_state(pictures, *saved["prediction"])
        self.frames = np.load(folder / "frames.npy")

    def encode(self) -> list[tuple[bool, str, str]]:
        """Of every frame: whether it is a key frame, what is sent, digest of what is decoded.

        Of a model of variable rate, the first half is of an inner level, the second of the highest.
        """
        pictures = picture_encoder(self.codec.model, self.prediction.pictures, self.codec.gains)
        encoder = sequence_encoder(
            pictures, self.codec.prediction, self.prediction, self.codec.key_interval
        )
        highest = self.codec.levels - 1
        sent = [
            encoder.encode(
                frame,
                frame.shape[:2],
                Frame(0, number),
                highest / 2 if 2 * number < len(self.frames) else highest,
            )
            for number, frame in enumerate(self.frames)
        ]
        digests = self.decode([(is_key, data.hex()) for is_key, data in sent])
        return [(k, data.hex(), d) for (k, data), d in zip(sent, digests, strict=True)]

    def decode(self, sent: Sequence[tuple[bool, str]]) -> list[str]:
        """Digest of every frame's latents and decoded values, or why it has none."""
        reader = SequenceReader(self.prediction)
        digests = []
        for number, (is_key, data) in enumerate(sent):
            try:
                latents = reader.read(is_key, bytes.fromhex(data), number)
                values = latents.values.view(np.int32)
                digests.append(digest(latents.y, latents.z, values))
            except BitstreamError as error:
                digests.append(str(error))
        return digests


def run_worker(folder: Path, number: int, stage: str) -> None:
    """What a process of :func:`measure_sequences` does: "encode" or "decode" of a setting."""
    settings = [Setting(**x) for x in json.loads((folder / "settings.json").read_text())]
    worker = SequenceWorker(folder, settings[number])
    if stage == "encode":
        (folder / f"sent_{number}.json").write_text(json.dumps(worker.encode()))
        return
    same = []
    for other in range(len(settings)):
        sent = json.loads((folder / f"sent_{other}.json").read_text())
        found = worker.decode([(is_key, data) for is_key, data, _ in sent])
        same += [a == b for (_, _, a), b in zip(sent, found, strict=True)]
    (folder / f"read_{number}.json").write_text(json.dumps(same))


def measure_sequences(
    folder: Path, codec: TemporalCodec, frames: np.ndarray, settings: Sequence[Setting]
) -> dict[str, int]:
    """Code ``frames`` (n, H, W, 3) under every setting, and decode all under every other.

    Args:
        folder: for what the processes exchange.

    Returns:
        "cases", and "mismatches": frames whose latents came out otherwise, or not at all.

    Raises:
        RuntimeError: if a process fails.
    """
    expected = Expected(levels=codec.levels)
    pictures = freeze_entropy_model(codec.name, codec.model, expected)
    prediction = freeze_prediction(codec.name, codec.prediction, pictures)
    saved = {
        "name": codec.name,
        "options": {
            **dict(zip("nm", codec.widths, strict=True)),
            "key_interval": codec.key_interval,
            "levels": codec.levels,
            "gated": codec.gated,
        },
        "weights": codec.state_dict(),
        "pictures": pictures.state(),
        "prediction": prediction.state(),
    }
    torch.save(saved, folder / "model.pt")
    np.save(folder / "frames.npy", frames)
    (folder / "settings.json").write_text(json.dumps([asdict(s) for s in settings]))
    code = (
        "import sys; from pathlib import Path; "
        "from checks.exactness_of_sequences import run_worker; "
        "run_worker(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"
    )
    for stage in ("encode", "decode"):
        for number, setting in enumerate(settings):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, str(folder), str(number), stage],
                env=variables_of(setting),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{setting} failed to {stage}:\n{done.stderr[-2000:]}")
    same = [
        x for n in range(len(settings)) for x in json.loads((folder / f"read_{n}.json").read_text())
    ]
    return {"cases": len(same), "mismatches": len(same) - sum(same)}
