"""How times grow: coding and training with pixels, evaluation with pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from detectron2.utils.events import EventStorage

from codec_det.codec.learned.bitstream_codec import BitstreamCodec
from codec_det.data.scenes import render_scene
from codec_det.training.trainer import load_chain, real_bits

from .evaluation import evaluation, generated_set
from .result import BenchmarkCurve, BenchmarkResult
from .settings import BenchmarkSettings, training_batch
from .steps import JFT, chain_step, regime_config
from .timing import in_turn

# A time is short where the sides are small: few rounds are enough for a slope over decades.
MAX_ROUNDS = 3


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Encode, decode and J-FT step with square pictures; evaluation with sets of pictures.

    Raises:
        CodecDetError: if the config cannot work, or its weights cannot be loaded.
    """
    return BenchmarkResult(curves=[*_with_pixels(settings), _with_pictures(settings)])


def _with_pixels(settings: BenchmarkSettings) -> list[BenchmarkCurve]:
    cfg = regime_config(settings, JFT)
    torch.manual_seed(0)
    chain, deployed = load_chain(cfg), load_chain(cfg)
    with real_bits(deployed), EventStorage():
        codec = deployed.codec
        assert isinstance(codec, BitstreamCodec)
        sides: dict[str, Callable[[], object]] = {}
        for side in settings.sides:
            picture, _ = render_scene(np.random.default_rng(0), side, side)
            batch = training_batch(cfg, 1, (side, side), (side, side))
            sides[f"encode {side}"] = partial(codec.encoder.encode, picture)
            sides[f"decode {side}"] = partial(codec.decoder.decode, codec.encoder.encode(picture))
            sides[f"step {side}"] = chain_step(chain, cfg, batch)
        seconds = _medians(settings, sides, "growth with pixels")
    pixels = [side**2 for side in settings.sides]
    names = {"encode": "Encoding", "decode": "Decoding", "step": f"A {JFT} step of one picture"}
    return [
        BenchmarkCurve(
            what, "pixels", pixels, [seconds[f"{key} {side}"] for side in settings.sides]
        )
        for key, what in names.items()
    ]


def _with_pictures(settings: BenchmarkSettings) -> BenchmarkCurve:
    counts = [max(1, settings.pictures // 4), max(2, settings.pictures // 2), settings.pictures]
    counts = sorted({*counts, 2 * settings.pictures})
    with ExitStack() as stack:
        sets = {count: stack.enter_context(generated_set(settings, count)) for count in counts}
        torch.manual_seed(0)
        chain = load_chain(sets[counts[0]])
        sides = {str(count): evaluation(chain, cfg) for count, cfg in sets.items()}
        seconds = _medians(settings, sides, "growth with pictures")
    return BenchmarkCurve(
        "Evaluation", "pictures", counts, [seconds[str(count)] for count in counts]
    )


def _medians(
    settings: BenchmarkSettings, sides: dict[str, Callable[[], object]], label: str
) -> dict[str, float]:
    rounds = min(settings.rounds, MAX_ROUNDS)
    seconds = in_turn(sides, rounds, synchronize=settings.synchronize, label=label)
    return {name: float(np.median(s)) for name, s in seconds.items()}
