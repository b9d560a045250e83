"""A coded picture to instances, by a detector that is given latents and by one given pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from codec_det.bridge import drop_replaced
from codec_det.codec.identity import IdentityCodec
from codec_det.codec.learned.bitstream_codec import PictureDecoder, picture_encoder
from codec_det.codec.learned.freeze import freeze_entropy_model
from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.data.scenes import render_scene
from codec_det.deploy.receiver import LatentDecoder, Receiver
from codec_det.errors import ConfigError
from codec_det.meta_arch import CodecDetector
from codec_det.training.trainer import load_chain

from .memory import MIB
from .result import BenchmarkResult, BenchmarkRow
from .settings import BenchmarkSettings
from .timing import compare, in_turn

LATENTS, PICTURE = "latents to instances", "picture to instances"
TARGET = 0.5

# Whose time the profile tells, by the last part of their names in a detector.
STAGES = ("stem", "res2", "res3", "res4", "res5")
PARTS = (*STAGES, "backbone", "proposal_generator", "roi_heads", "head")


def measure(settings: BenchmarkSettings) -> BenchmarkResult:
    """Seconds from a file to instances, in float32; the bridge has random weights.

    The notes have milliseconds of each part, and MiB of the weights that each receiver needs.

    Raises:
        CodecDetError: if the config cannot work, or its weights cannot be loaded.
    """
    torch.manual_seed(0)
    frozen: tuple[Any, ...] = ("MODEL.CODEC.TRAINABLE", [], "MODEL.DETECTOR.TRAINABLE", False)
    chain = load_chain(settings.config(*frozen, "MODEL.CODEC.DECODED", "picture")).eval()
    codec = chain.codec
    if not isinstance(codec, LearnedCodec):
        raise ConfigError("MODEL.CODEC.NAME names a codec without latents: choose a learned one")
    codec.refresh_tables()
    entropy = freeze_entropy_model(codec.name, codec.model)
    picture, _ = render_scene(np.random.default_rng(0), *settings.size)
    data = picture_encoder(codec.model, entropy).encode(picture)
    cfg = settings.config(*frozen, "MODEL.CODEC.DECODED", "latents")
    bridged = CodecDetector(cfg, codec=IdentityCodec()).to(settings.device).eval()
    bridged.detector.load_state_dict(chain.detector.state_dict())
    drop_replaced(bridged.detector, bridged.bridge)
    receivers = {
        LATENTS: Receiver(LatentDecoder(entropy), [], bridged),
        PICTURE: Receiver(PictureDecoder(codec.model.g_s, entropy), [], chain),
    }
    sides = {
        name: partial(_receive, receiver, data, settings.size)
        for name, receiver in receivers.items()
    }
    seconds = in_turn(sides, settings.rounds, synchronize=settings.synchronize, label="receiver")
    decoders: dict[str, nn.Module] = {LATENTS: bridged.bridge, PICTURE: codec.model.g_s}
    notes: dict[str, Any] = {"bytes of the file": len(data)}
    for name, receiver in receivers.items():
        modules = [decoders[name], receiver.chain.detector]
        notes[f"MiB of weights, {name}"] = round(sum(map(_bytes, modules)) / MIB, 2)
        notes[f"ms, {name}"] = _profile(settings, receiver, data, decoders[name])
    row = BenchmarkRow(LATENTS, PICTURE, compare(seconds[LATENTS], seconds[PICTURE]), "s", TARGET)
    return BenchmarkResult([row], notes=notes)


def _receive(receiver: Receiver, data: bytes, size: tuple[int, int]) -> object:
    return receiver.detect([receiver.decoder.decode(data)], [size])


def _bytes(module: nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in module.state_dict().values())


def _profile(
    settings: BenchmarkSettings, receiver: Receiver, data: bytes, decoder: nn.Module
) -> dict[str, float]:
    """Milliseconds of one picture by part, medians; "rest" is of no part."""
    watched = {"g_s" if receiver.chain.bridge is None else "bridge": decoder}
    for name, module in receiver.chain.detector.named_modules():
        leaf = name.rpartition(".")[2]
        if leaf in PARTS and not isinstance(module, nn.Identity):
            watched[leaf] = module
    spent: dict[str, list[float]] = defaultdict(list)
    hooks = [hook for name, m in watched.items() for hook in _watch(settings, m, spent[name])]
    for _ in range(settings.rounds):
        start = settings.clock()
        latents = receiver.decoder.entropy.read(data)
        spent["entropy decoding"].append(settings.clock() - start)
        del latents
        start = settings.clock()
        _receive(receiver, data, settings.size)
        spent["total"].append(settings.clock() - start)
    for hook in hooks:
        hook.remove()
    found = {name: round(1000 * float(np.median(times)), 1) for name, times in spent.items()}
    total, backbone = found.pop("total"), found.pop("backbone")
    found["FPN"] = round(backbone - sum(found.get(stage, 0.0) for stage in STAGES), 1)
    return {**found, "rest": round(total - sum(found.values()), 1), "total": total}


def _watch(
    settings: BenchmarkSettings, module: nn.Module, spent: list[float]
) -> Iterator[RemovableHandle]:
    begun: list[float] = []
    yield module.register_forward_pre_hook(lambda *_: begun.append(settings.clock()))
    yield module.register_forward_hook(lambda *_: spent.append(settings.clock() - begun.pop()))
