"""Run folders of tiny chains, and what is deployed of them, for tests of both ends."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec_det.config import load_config
from codec_det.deploy.model_files import load_encoder
from codec_det.training.checkpoint import ChainCheckpointer
from codec_det.training.trainer import load_chain
from tests.conftest import CONFIGS, TINY
from tools import export_model


def tiny_config(folder, *opts: Any):
    """The config of a tiny chain that writes to ``folder``."""
    own = [x for item in TINY.items() for x in item]
    return load_config(str(CONFIGS / "Base_thin.yaml"), [*own, "OUTPUT_DIR", str(folder), *opts])


def lively(chain):
    """Random weights whose latents are not all zero, with tables that belong to them."""
    if hasattr(chain.codec, "model"):
        chain.codec.model.g_a[-1].weight.data *= 40
        chain.codec.model.g_s[-1].bias.data += 0.5
        chain.codec.model.update()
        if chain.codec.gains:
            steps = torch.linspace(-1, 0, chain.codec.levels)[:, None]
            chain.codec.gains.log_gains.data += steps
            chain.codec.inverse_gains.log_gains.data -= steps
    return chain


def make_run(folder: Path, *opts: Any) -> Path:
    """A run folder with a checkpoint of random weights."""
    torch.manual_seed(0)
    cfg = tiny_config(folder, *opts)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    ChainCheckpointer(lively(load_chain(cfg)), str(folder)).save("model_final")
    return folder


def export(run: Path, folder: Path, *flags: str) -> Path:
    """The folder of what was exported."""
    assert export_model.main([str(run), "--output-dir", str(folder), *flags]) == 0
    return folder


def random_picture(height: int, width: int, seed: int) -> np.ndarray:
    """Coarse noise (H, W, 3), uint8 RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])


SIZES = {"first": (48, 64), "second": (70, 33), "third": (64, 64)}


def encode(deploy: Path, folder: Path, sizes=SIZES) -> dict[str, bytes]:
    """Files of random pictures in ``folder``, and their bytes by name without suffix."""
    encoder = load_encoder(deploy / "encoder.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    coded = {}
    for seed, (name, size) in enumerate(sizes.items()):
        coded[name] = encoder.encode(random_picture(*size, seed))
        (folder / f"{name}.cdet").write_bytes(coded[name])
    return coded
