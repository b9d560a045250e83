"""encode.py, decode.py and detect.py over a folder: with all cores against one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from detectron2.config import CfgNode
from PIL import Image

from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.data.shapes import scenes
from codec_det.deploy.cores import usable_cores
from codec_det.deploy.model_files import save_encoder
from codec_det.deploy.receiver import save_receiver
from codec_det.errors import CodecDetError, ConfigError
from codec_det.training.trainer import load_chain

from .evaluation import generated_set
from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

ENCODER, RECEIVER = "encoder.safetensors", "receiver.safetensors"
TOOLS = {"encode": ENCODER, "decode": RECEIVER, "detect": RECEIVER}


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds per picture of whole runs, which load the model, with the tools' own defaults.

    With enough cores, ratios are little above one divided by their number. The notes have pictures
    per second.

    Raises:
        CodecDetError: if the config cannot work, its weights cannot be loaded, or a tool fails.
    """
    with TemporaryDirectory() as name, generated_set(settings, settings.pictures) as cfg:
        folder = Path(name)
        _deploy(settings, cfg, folder)
        # Encoded first: the others take its files.
        runs = [(tool, cores) for tool in TOOLS for cores in (usable_cores(), 1)]
        sides = {f"{tool} {cores}": _run(settings, folder, tool, cores) for tool, cores in runs}
        seconds = in_turn(sides, settings.rounds, label="folders")
    each = {side: values / settings.pictures for side, values in seconds.items()}
    rows = [
        BenchmarkRow(
            f"{tool}.py, cores: {usable_cores()}",
            "one core",
            compare(each[f"{tool} {usable_cores()}"], each[f"{tool} 1"]),
            "s/picture",
        )
        for tool in TOOLS
    ]
    speeds = {
        row.what: [round(1 / row.comparison.own, 2), round(1 / row.comparison.reference, 2)]
        for row in rows
    }
    return BenchmarkResult(rows, notes={"pictures per second, and on one core": speeds})


def _deploy(settings: BenchmarkSettings, cfg: CfgNode, folder: Path) -> None:
    """Write pictures, and an encoder and a receiver of the config's chain."""
    torch.manual_seed(0)
    chain: Any = load_chain(cfg).cpu().eval()
    codec = chain.codec
    if not isinstance(codec, LearnedCodec):
        raise ConfigError(
            "MODEL.CODEC.NAME names a codec that is not deployed: choose a learned one"
        )
    codec.refresh_tables()
    entropy = freeze_entropy_model(codec.name, codec.model)
    save_encoder(folder / ENCODER, codec, entropy)
    save_receiver(folder / RECEIVER, chain, entropy, cfg, cfg.DATASETS.TEST[0])
    (folder / "pictures").mkdir()
    for i, (picture, _) in enumerate(scenes(settings.pictures, settings.size, seed=0)):
        Image.fromarray(picture).save(folder / "pictures" / f"{i}.png")


def _run(settings: BenchmarkSettings, folder: Path, tool: str, cores: int) -> Callable[[], object]:
    """A tool over the folder, on so many cores; it says nothing."""
    inputs = folder / ("pictures" if tool == "encode" else "encode")
    main = import_module(tool).main
    arguments = [inputs, "--model", folder / TOOLS[tool], "--output-dir", folder / tool]

    def run() -> None:
        output = io.StringIO()
        with _on_cores(cores, settings.threads), redirect_stdout(output), redirect_stderr(output):
            status = main([*map(str, arguments), "--device", settings.device])
        if status:
            raise CodecDetError(f"tools/{tool}.py failed: {output.getvalue().splitlines()[-1]}")

    return run


@contextmanager
def _on_cores(count: int, threads: int) -> Iterator[None]:
    """Within it, the process has so many of its cores, and PyTorch as many threads."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:count])
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
        torch.set_num_threads(threads)
