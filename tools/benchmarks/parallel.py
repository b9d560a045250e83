"""Training by two processes against one: pictures per second."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import SimpleTrainer, launch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from codec_det.config_checks import check_devices
from codec_det.training.solver import build_optimizer
from codec_det.training.trainer import load_chain

from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings, training_batch
from .steps import JFT, regime_config
from .timing import compare

PROCESSES = 2

# Of the metrics, in a trainer that is to send nothing to the other process.
NEVER = 2**31


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds per picture of J-FT, with ``settings.batch_size`` pictures per process.

    Rounds of one process, while the other waits, alternate with rounds of both. With enough cores
    the ratio is little above 0.5; the efficiency is 0.5 divided by it.

    Raises:
        CodecDetError: if the config cannot work, its weights cannot be loaded, or there are fewer
            GPUs than processes.
    """
    check_devices(PROCESSES, settings.device)
    regime_config(settings, JFT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "seconds.json")
        launch(_worker, PROCESSES, dist_url="auto", args=(settings, path))
        figures = json.loads(path.read_text())
    seconds = {name: np.array(values) for name, values in figures.items()}
    own = seconds["both"] / (PROCESSES * settings.batch_size)
    reference = seconds["one"] / settings.batch_size
    row = BenchmarkRow(f"{PROCESSES} processes", "1 process", compare(own, reference), "s/picture")
    return BenchmarkResult(
        [row], notes={"efficiency": round(1 / (PROCESSES * row.comparison.ratio), 3)}
    )


def _worker(settings: BenchmarkSettings, path: Path) -> None:
    """Measure in one of the processes; the first writes seconds by name as JSON."""
    torch.set_num_threads(settings.threads)
    cfg = regime_config(settings, JFT)
    batch = training_batch(cfg, settings.batch_size, settings.size)
    torch.manual_seed(0)
    single, chain = load_chain(cfg), load_chain(cfg)
    chain.load_state_dict(single.state_dict())
    on_cpu = {"device_ids": None} if settings.device == "cpu" else {}
    parallel = create_ddp_model(chain, broadcast_buffers=False, **on_cpu)
    one = SimpleTrainer(single, itertools.repeat(batch), build_optimizer(cfg, single), NEVER)
    both = SimpleTrainer(parallel, itertools.repeat(batch), build_optimizer(cfg, chain))
    seconds: dict[str, list[float]] = {"one": [], "both": []}
    with EventStorage():
        for _ in range(settings.rounds + 1):
            for name, trainer in (("one", one), ("both", both)):
                comm.synchronize()
                start = time.perf_counter()
                if name == "both" or comm.is_main_process():
                    trainer.run_step()
                settings.synchronize()
                seconds[name].append(time.perf_counter() - start)
    if comm.is_main_process():
        # The first round warms up.
        path.write_text(json.dumps({name: values[1:] for name, values in seconds.items()}))
