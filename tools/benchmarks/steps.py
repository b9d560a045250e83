"""Training steps that can be measured: ours in every regime, detectron2's and CompressAI's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from compressai.losses import RateDistortionLoss
from compressai.optimizers import net_aux_optimizer
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.solver import build_optimizer as build_detector_optimizer
from detectron2.structures import Instances

from codec_det.codec.learned.learned_codec import LearnedCodec
from codec_det.errors import ConfigError
from codec_det.meta_arch import CodecDetector
from codec_det.pixels import to_codec
from codec_det.regimes import REGIMES
from codec_det.training.bfloat16 import train_in_bfloat16
from codec_det.training.solver import build_optimizer
from codec_det.training.trainer import load_chain

from .settings import BenchmarkSettings, training_batch

Step = Callable[[], None]

JFT = "J-FT"
CHECKPOINTED = "J-FT, checkpointed"
TRAINED: dict[str, tuple[tuple[str, ...], bool, bool]] = {
    **{
        r.name: (r.codec_parts, r.detector, r.bridge)
        for r in REGIMES
        if (r.codec_parts or r.detector) and not r.named
    },
    CHECKPOINTED: (("encoder", "decoder"), True, False),
}
"""Parts of the codec that train, whether the detector does, and whether in latents, by regime."""

BFLOAT16 = {f"{name}, bfloat16": name for name in (JFT, "C-FT", "T-FT")}
"""The same steps with ``SOLVER.AMP.ENABLED``, on a CPU."""

DETECTRON2, COMPRESSAI = "detectron2", "CompressAI"
PEERS = (DETECTRON2, COMPRESSAI)


def regime_config(settings: BenchmarkSettings, name: str) -> CfgNode:
    """The config of one of :data:`TRAINED` or :data:`BFLOAT16`.

    Raises:
        ConfigError: if its codec is not a learned one, or the config cannot work.
    """
    parts, detector, latents = TRAINED[BFLOAT16.get(name, name)]
    opts = ["SOLVER.AMP.ENABLED", name in BFLOAT16]
    opts += ["MODEL.CODEC.DECODED", "latents" if latents else "picture"]
    opts += ["MODEL.CODEC.TRAINABLE", list(parts), "MODEL.DETECTOR.TRAINABLE", detector]
    opts += ["MODEL.CODEC.GATED", "gate" in parts]
    if parts == ("entropy",):
        # For the rate alone, as its configs have it: no picture is decoded.
        opts += ["MODEL.DETECTOR.LOSS_WEIGHT", 0.0, "MODEL.CODEC.QUANTIZATION", "straight_through"]
    return settings.config(*opts, "MODEL.CODEC.CHECKPOINT_ACTIVATIONS", name == CHECKPOINTED)


def build_step(settings: BenchmarkSettings, name: str) -> Step:
    """A training step, by name: one of :data:`TRAINED`, :data:`BFLOAT16` or :data:`PEERS`.

    All start from the same weights, and take the same pictures. Run it within an ``EventStorage``.

    Raises:
        CodecDetError: if the config cannot work, or its weights cannot be loaded.
    """
    cfg = regime_config(settings, JFT if name in PEERS else name)
    batch = training_batch(cfg, settings.batch_size, settings.size)
    torch.manual_seed(0)
    chain = load_start(cfg)
    if not isinstance(chain.codec, LearnedCodec):
        raise ConfigError(
            f"MODEL.CODEC.NAME is '{cfg.MODEL.CODEC.NAME}', which does not train: choose a learned "
            "codec"
        )
    if name == DETECTRON2:
        return detector_step(chain, cfg, batch)
    if name == COMPRESSAI:
        return codec_step(chain.codec, batch, cfg.INPUT.FORMAT)
    if name in BFLOAT16:
        train_in_bfloat16(chain)
    return chain_step(chain, cfg, batch)


def load_start(cfg: CfgNode) -> CodecDetector:
    """The chain of a config, a bridge having random weights."""
    if cfg.MODEL.CODEC.DECODED == "picture":
        return load_chain(cfg)
    pictures = cfg.clone()
    pictures.defrost()
    pictures.MODEL.CODEC.DECODED = "picture"
    chain = CodecDetector(cfg).to(cfg.MODEL.DEVICE)
    chain.load_state_dict(load_chain(pictures).state_dict(), strict=False)
    return chain


def chain_step(chain: CodecDetector, cfg: CfgNode, batch: list[dict[str, Any]]) -> Step:
    """Ours: forward, backward and optimizer of :class:`codec_det.training.trainer.Trainer`."""
    return SimpleTrainer(chain, itertools.repeat(batch), build_optimizer(cfg, chain)).run_step


def detector_step(chain: CodecDetector, cfg: CfgNode, batch: list[dict[str, Any]]) -> Step:
    """detectron2's: its detector and optimizer, pictures of the size that the detector sees."""
    inputs = []
    for entry in batch:
        truth: Instances = entry["instances"]
        size = truth.image_size
        picture = F.interpolate(entry["image"][None].float(), size, mode="bilinear", antialias=True)
        image = picture[0].round().to(torch.uint8)
        inputs.append({"image": image, "instances": truth, "height": size[0], "width": size[1]})
    detector = chain.detector
    optimizer = build_detector_optimizer(cfg, detector)
    return SimpleTrainer(detector, itertools.repeat(inputs), optimizer).run_step


def codec_step(codec: LearnedCodec, batch: list[dict[str, Any]], image_format: str) -> Step:
    """CompressAI's, as its examples/train.py: rate-distortion loss, two Adam optimizers.

    Args:
        codec: a CompressAI model of its own is made with its weights.
        batch: pictures of equal size.
        image_format: channel order of them, "BGR" or "RGB".
    """
    device = next(codec.parameters()).device
    model = type(codec.model)(*codec.widths)
    model.load_state_dict(codec.model.state_dict())
    model.to(device).train()
    criterion = RateDistortionLoss(lmbda=0.01)
    optimizers = net_aux_optimizer(
        model, {"net": {"type": "Adam", "lr": 1e-4}, "aux": {"type": "Adam", "lr": 1e-3}}
    )

    def step() -> None:
        x = torch.stack([to_codec(entry["image"].to(device), image_format) for entry in batch])
        bottom, right = (-side % model.downsampling_factor for side in x.shape[-2:])
        x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        criterion(model(x), x)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers["net"].step()
        model.aux_loss().backward()
        optimizers["aux"].step()

    return step
