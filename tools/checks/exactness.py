"""Does a file decode to the same latents wherever it is read? Every setting in its own process.

Two entropy models are compared on the same pictures: the exact one that is deployed, and a plain
one that chooses tables by the float hyper-synthesis, as CompressAI does.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressai.models import CompressionModel, MeanScaleHyperprior
from tqdm import tqdm

from codec_det.bitstream.encoder import PictureEncoder
from codec_det.bitstream.entropy import EntropyModel
from codec_det.bitstream.expected import LEVEL_STEPS
from codec_det.bitstream.model_file import load_model, save_model
from codec_det.codec.learned.bitstream_codec import picture_encoder
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.deploy.model_files import codec_metadata, load_arrays, restore_codec, to_arrays
from codec_det.errors import BitstreamError

PATHS = ("exact", "float")
# Limits on instruction sets by variable, for PyTorch, oneDNN, MKL and numpy's OpenBLAS.
INSTRUCTION_SETS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}


@dataclass(frozen=True)
class Setting:
    """How a process computes.

    Attributes:
        threads: of PyTorch and numpy.
        batch: pictures coded at a time.
        channels_last: memory format of the transforms, contiguous otherwise.
        onednn: whether PyTorch may use oneDNN.
        instructions: one of :data:`INSTRUCTION_SETS`.
        device: of the transforms.
    """

    threads: int = 1
    batch: int = 1
    channels_last: bool = True
    onednn: bool = True
    instructions: str = "native"
    device: str = "cpu"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a process must start with."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return dict.fromkeys(names, str(self.threads)) | INSTRUCTION_SETS[self.instructions]


def all_settings(devices: Sequence[str] = ("cpu",)) -> list[Setting]:
    """Every combination; on other devices than the CPU, of what matters there."""
    settings = []
    for device in devices:
        on_cpu = device == "cpu"
        settings += [
            Setting(*values, device)
            for values in itertools.product(
                (1, 2) if on_cpu else (1,),
                (1, 4),
                (False, True),
                (False, True) if on_cpu else (True,),
                tuple(INSTRUCTION_SETS) if on_cpu else ("native",),
            )
        ]
    return settings


class FloatEntropyModel(EntropyModel):
    """An entropy model whose tables are chosen by the float hyper-synthesis of ``model``."""

    model: CompressionModel
    setting: Setting

    @classmethod
    def of(
        cls, exact: EntropyModel, model: CompressionModel, setting: Setting
    ) -> FloatEntropyModel:
        """The float counterpart of ``exact``."""
        own: Any = cls.from_state(*exact.state())
        own.model, own.setting = model, setting
        return own

    def tables_and_means(
        self, shape: Sequence[int], z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.hyperprior is None:
            return super().tables_and_means(shape, z)
        bottleneck = self.model.entropy_bottleneck
        with torch.inference_mode():
            z_hat = (
                torch.from_numpy(z).to(self.setting.device)
                + bottleneck.quantiles[:, 0, 1][:, None, None]
            )
            # What one picture gives depends on how many are computed together.
            z_hat = z_hat[None].repeat(self.setting.batch, 1, 1, 1)
            layout = torch.channels_last if self.setting.channels_last else torch.contiguous_format
            scales = self.model.h_s(z_hat.contiguous(memory_format=layout))[:1]
            scales = scales[..., : shape[0], : shape[1]]
            means = self.medians[:, None, None]
            if isinstance(self.model, MeanScaleHyperprior):
                scales, means = scales.chunk(2, 1)
                means = means[0].cpu().numpy()
            indexes = self.model.gaussian_conditional.build_indexes(scales)
        return indexes.cpu().numpy().astype(np.uint8).ravel(), means


class _Keeping(PictureEncoder):
    """Keeps the latents of the last batch, without scales."""

    kept: Sequence[Any] = ()

    def latents(self, batch: np.ndarray, level: float) -> Sequence[np.ndarray]:
        found = super().latents(batch, level)
        self.kept = found[:2]
        return found


class Worker:
    """One process's part: coding pictures, then decoding what all processes have coded.

    Args:
        folder: holds ``codec.safetensors`` and ``pictures.npy`` (n, H, W, 3).
    """

    def __init__(self, folder: Path, setting: Setting) -> None:
        torch.backends.mkldnn.set_flags(setting.onednn)
        torch.set_num_threads(setting.threads)
        # Instruction sets differ in rounding already; TF32 would not be the float path.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        file = load_model(folder / "codec.safetensors", "codec", ("codec",))
        codec = restore_codec(file)
        load_arrays(codec, file, "codec")
        layout = torch.channels_last if setting.channels_last else torch.contiguous_format
        codec.eval().to(setting.device).to(memory_format=layout)
        self.setting = setting
        self.pictures = np.load(folder / "pictures.npy")
        self.entropies: dict[str, EntropyModel] = {
            "exact": file.entropy,
            "float": FloatEntropyModel.of(file.entropy, codec.model, setting),
        }
        self.encoder = picture_encoder(codec.model, file.entropy, codec.gains)
        self._decoded: dict[tuple[str, bytes], str] = {}

    def encode(self) -> Iterator[tuple[str, int, bytes, str]]:
        """(path, number of the picture, file, digest of its latents)."""
        for start in range(0, len(self.pictures), self.setting.batch):
            batch = self.pictures[start : start + self.setting.batch]
            for path, entropy in self.entropies.items():
                encoder = _Keeping(self.encoder.analysis, entropy, self.encoder.log_gains)
                # A level of its own for each batch, of a model of variable rate.
                steps = LEVEL_STEPS * (encoder.levels - 1) + 1
                files = encoder.encode_batch(list(batch), 37 * start % steps / LEVEL_STEPS)
                for i, data in enumerate(files):
                    yield path, start + i, data, digest(*(x[i] for x in encoder.kept))

    def decode(self, path: str, data: bytes) -> str:
        """Digest of a file's latents, or why it has none."""
        # Many settings give the same file.
        if (path, data) not in self._decoded:
            try:
                latents = self.entropies[path].read(data)
                self._decoded[path, data] = digest(latents.y, latents.z)
            except BitstreamError as error:
                self._decoded[path, data] = str(error)
        return self._decoded[path, data]


def digest(*latents: np.ndarray) -> str:
    """Of whole-numbered latents of any type."""
    return hashlib.sha256(
        b"".join(x.astype("<i4").tobytes() for x in latents if x.size)
    ).hexdigest()


def run_worker(folder: Path, number: int, stage: str) -> None:
    """What a process of :func:`measure` does: stage "encode" or "decode" of setting ``number``."""
    settings = [Setting(**x) for x in json.loads((folder / "settings.json").read_text())]
    worker = Worker(folder, settings[number])
    if stage == "encode":
        coded = [(p, i, data.hex(), d) for p, i, data, d in worker.encode()]
        (folder / f"coded_{number}.json").write_text(json.dumps(coded))
        return
    found = []
    for other in range(len(settings)):
        for path, i, data, expected in json.loads((folder / f"coded_{other}.json").read_text()):
            same = worker.decode(path, bytes.fromhex(data)) == expected
            found.append((other, path, i, same))
    (folder / f"decoded_{number}.json").write_text(json.dumps(found))


def variables_of(setting: Setting) -> dict[str, str]:
    """The environment of a process that imports this package, as tools do."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path} | setting.environment


def measure(
    folder: Path,
    codec: LearnedCodec,
    entropy: EntropyModel,
    pictures: np.ndarray,
    settings: Sequence[Setting],
    processes: int = 1,
) -> dict[str, Any]:
    """Code ``pictures`` (n, H, W, 3) under every setting, and decode every file under every other.

    Args:
        folder: for what the processes exchange.
        processes: how many run at a time.

    Returns:
        "settings"; and per path "cases", "mismatches" (files whose latents came out otherwise, or
        not at all), and "by_difference": [mismatches, cases] where encoder and decoder differ in
        nothing, in one setting (by name), or in several.

    Raises:
        RuntimeError: if a process fails.
    """
    save_model(
        folder / "codec.safetensors",
        "codec",
        entropy,
        {"codec": to_arrays(codec)},
        codec_metadata(codec),
    )
    np.save(folder / "pictures.npy", pictures)
    (folder / "settings.json").write_text(json.dumps([asdict(s) for s in settings]))

    def run(number: int, stage: str) -> None:
        code = (
            "import sys; from pathlib import Path; "
            "from checks.exactness import run_worker; "
            "run_worker(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(number), stage],
            env=variables_of(settings[number]),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{settings[number]} failed to {stage}:\n{done.stderr[-2000:]}")

    with ThreadPoolExecutor(processes) as pool:
        for stage in ("encode", "decode"):
            jobs = pool.map(run, range(len(settings)), itertools.repeat(stage))
            list(tqdm(jobs, desc=stage, total=len(settings), unit="process"))
    return _summarize(folder, settings)


def _summarize(folder: Path, settings: Sequence[Setting]) -> dict[str, Any]:
    paths: dict[str, Any] = {
        path: {"cases": 0, "mismatches": 0, "by_difference": {}} for path in PATHS
    }
    for number, setting in enumerate(settings):
        for other, path, _, same in json.loads((folder / f"decoded_{number}.json").read_text()):
            ours, theirs = asdict(setting), asdict(settings[other])
            differing = [key for key in ours if ours[key] != theirs[key]]
            kind = "nothing" if not differing else differing[0]
            kind = kind if len(differing) < 2 else "several"
            counts = paths[path]["by_difference"].setdefault(kind, [0, 0])
            counts[0] += not same
            counts[1] += 1
            paths[path]["cases"] += 1
            paths[path]["mismatches"] += not same
    return {"settings": [asdict(s) for s in settings], **paths}
