"""The chain as a detectron2 meta-architecture: codec, resize, any detectron2 detector.

.. code-block:: none

     stored picture, coded size
     ─────────────► to_codec ─► codec ──────► to_detector ─► detector ─► task losses / instances
                                  │ bits       (resize)                        │
                                  └──────────────► loss = Σ task losses + β·bpp
                                                          (β of the picture's level)
                                                          (+ φ·feature distance) (+ λ·255²·MSE)
                                                          (+ δ·distance of latents)

Where the detector is given latents, a bridge takes the place of to_detector: codec_det.bridge.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from .bridge import Bridge, DecodedLatents, build_bridge, replaced_modules, take_latents
from .codec.base import Codec, Coded
from .codec.learned.kept_pictures import KeptPictures
from .codec.table import build_codec
from .coding_scale import coded_size, shrink
from .feature_loss import FeatureDistance, Features, build_feature_distance
from .frozen_detector import freeze, keep_statistics
from .levels import levels_of, levels_to_train
from .own_labels import OwnLabels, build_own_labels
from .pixels import enlarge, psnr, to_codec, to_detector, to_uint8
from .regimes import Regime
from .sequences import frame_of

logger = logging.getLogger(__name__)

Decoded = Tensor | DecodedLatents
"""What a detector is given of a picture."""


@META_ARCH_REGISTRY.register()
class CodecDetector(nn.Module):
    """Codes pictures at their coding scale, then detects in what was decoded.

    Args:
        codec: codes RGB pictures; what its ``teacher`` adds to the loss is weighted there.
        detector: an unmodified detectron2 meta-architecture.
        regime: the parts that train.
        bridge: takes latents to the detector's features, in place of a decoded picture; None: the
            detector is given pictures.
        betas: weight of the rate in the loss, per bit per pixel, at each level of the codec.
        distortion_weight: weight of 255^2 * MSE in the loss.
        task_weight: weight of the detector's losses; 0: none are computed, and no truth is needed.
        features: adds a distance of features to the loss, weighted there.
        labels: give the truth for the detector's losses, instead of annotations.
        scale: coding scale, :mod:`codec_det.coding_scale`.
        image_format: channel order of pictures, "BGR" or "RGB".
        test_size: shortest and longest edge of the detector's input where the data loader gives no
            ``detector_size``, as ``INPUT.MIN_SIZE_TEST`` (0: as they are) and ``MAX_SIZE_TEST``.
    """

    @configurable
    def __init__(
        self,
        *,
        codec: Codec,
        detector: nn.Module,
        regime: Regime,
        bridge: Bridge | None = None,
        betas: Sequence[float],
        distortion_weight: float = 0.0,
        task_weight: float = 1.0,
        features: FeatureDistance | None = None,
        labels: OwnLabels | None = None,
        scale: float = 1.0,
        image_format: str = "BGR",
        test_size: tuple[int, int] = (800, 1333),
    ) -> None:
        super().__init__()
        self.codec = codec
        self.detector = detector
        self.bridge = bridge
        self.regime = regime
        self.betas = list(betas)
        self.distortion_weight = distortion_weight
        self.task_weight = task_weight
        self.features = features
        self.labels = labels
        # Whether evaluation decodes pictures, too, where the detector is given latents.
        self.shows_pictures = False
        # What a frozen codec gives in training, on a CPU; one that has no parts costs no time, and
        # what one gives for a frame depends on those before.
        is_frozen = codec.parts() and not regime.codec_parts and codec.clip_length == 1
        self.kept = KeptPictures(codec, pictures=bridge is None) if is_frozen else None
        self.register_load_state_dict_post_hook(_forget_pictures)
        self.scale = scale
        self.image_format = image_format
        self.test_size = test_size
        # Trained so far, where the weights are a checkpoint of the run that goes on.
        self.iteration: int | None = None
        # Σ bits and Σ pixels (levels,) of the last training batch, latents rounded; no gradient.
        self.batch_rate: tuple[Tensor, Tensor] | None = None
        codec.set_trainable(regime.codec_parts)
        freeze(detector, regime)
        if codec.teacher and not (self._detects or self.trains_for_pictures or any(self.betas)):
            codec.teacher.train_alone()
        if bridge is not None:
            take_latents(detector, bridge)
            self._freeze_what_does_not_run(bridge)
        self.train(self.training)

    @classmethod
    def from_config(cls, cfg: CfgNode, codec: Codec | None = None) -> dict[str, Any]:
        detector_cfg = cfg.clone()
        detector_cfg.defrost()
        detector_cfg.MODEL.META_ARCHITECTURE = cfg.MODEL.DETECTOR.META_ARCHITECTURE
        detector_cfg.freeze()
        detector = META_ARCH_REGISTRY.get(cfg.MODEL.DETECTOR.META_ARCHITECTURE)(detector_cfg)
        codec = codec or build_codec(cfg)
        codec.levels_train = levels_to_train(cfg)
        return {
            "codec": codec,
            "detector": detector,
            "bridge": build_bridge(cfg, detector),
            "regime": Regime.from_config(cfg),
            "betas": betas_of(cfg),
            "distortion_weight": cfg.MODEL.CODEC.DISTORTION_WEIGHT,
            "task_weight": cfg.MODEL.DETECTOR.LOSS_WEIGHT,
            "features": build_feature_distance(cfg, detector),
            "labels": build_own_labels(cfg, detector),
            "scale": cfg.MODEL.CODEC.SCALE,
            "image_format": cfg.INPUT.FORMAT,
            "test_size": (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        }

    @property
    def device(self) -> torch.device:
        """Where the chain computes."""
        device: torch.device = self.detector.device  # type: ignore[assignment]
        return device

    def train(self, mode: bool = True) -> CodecDetector:
        """Training mode for what trains; frozen codecs round, frozen statistics stay."""
        super().train(mode)
        keep_statistics(self.detector, self.regime)
        if self.bridge is not None:
            for module in replaced_modules(self.detector, self.bridge).values():
                module.eval()
        return self

    @property
    def _detects(self) -> bool:
        """Whether anything in the loss depends on the detector."""
        has_detector = not isinstance(self.detector, NoDetector)
        return has_detector and bool(self.task_weight or self.features)

    @property
    def trains_for_pictures(self) -> bool:
        """Whether the codec trains for people, too."""
        return bool(self.regime.codec_parts) and self.distortion_weight > 0

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, detections in evaluation.

        Args:
            batched_inputs: as any detectron2 detector takes them, except that "image" (3, H, W) is
                of original size, while "instances" and "detector_size" (h, w) are of the size the
                detector is to see. "small" is "image" at its coded size; where it is not there, it
                is made. Pictures that the loader has coded bring "decoded", of coded size, "bits"
                and "measured". In training, frames of clips that have "burn_in", True, are coded
                for the frames after them, and have no part in the losses.

        Returns:
            In training: scalar losses by name; their sum is to be minimised.
            In evaluation: see :meth:`inference`.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = [self._load(x) for x in batched_inputs]
        wants_pictures = self.trains_for_pictures or (self.bridge is None and self._detects)
        learnt = [i for i, x in enumerate(batched_inputs) if not x.get("burn_in")]
        # Frames that are not come first of each clip, equally many.
        run = learnt[0] + self.codec.clip_length
        levels = draw_levels(self.codec.levels_train, len(images), run)
        teacher = self.codec.teacher
        watch: AbstractContextManager[list[Any]] = teacher.watch() if teacher else nullcontext([])
        with (
            watch as analysed,
            self.codec.burning_in(learnt[0]),
            torch.set_grad_enabled(bool(self.regime.codec_parts)),
        ):
            coded = self._code(images, batched_inputs, wants_pictures, levels)
        images, levels = [images[i] for i in learnt], [levels[i] for i in learnt]
        batched_inputs = [batched_inputs[i] for i in learnt]
        losses = self._detector_losses(images, coded, batched_inputs) if self._detects else {}
        losses.update(self._codec_losses(images, coded, levels))
        if teacher:
            losses["loss_distillation"] = teacher.weight * teacher.distance(analysed)
        return losses

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the detector returns for each picture, and with it

        - "bits": float, estimated bits of the coded picture, or those of its file;
        - "reconstruction": (3, H, W) uint8 RGB, original size, on the model's device; not where
          the detector is given latents, unless ``shows_pictures``;
        - "codec_seconds", "detector_seconds": float, share of the batch's time;
        - "measured": dict of float, what else the codec measures.
        """
        start = self._clock()
        images = [self._load(x) for x in batched_inputs]
        self.codec.follow([frame_of(x) for x in batched_inputs])
        coded = self._code(images, batched_inputs, self.bridge is None or self.shows_pictures)
        middle = self._clock()
        sizes = [{"height": x.shape[-2], "width": x.shape[-1]} for x in images]
        known = [size | x for size, x in zip(sizes, batched_inputs, strict=True)]
        outputs = self.detect(self._for_detector(images, coded), known)
        end = self._clock()
        measured = coded.measured or [{} for _ in images]
        for output, bits, figures in zip(outputs, coded.bits.tolist(), measured, strict=True):
            output["bits"] = bits
            output["measured"] = figures
            output["codec_seconds"] = (middle - start) / len(images)
            output["detector_seconds"] = (end - middle) / len(images)
        if coded.reconstructions:
            for output, image, picture in zip(outputs, images, coded.reconstructions, strict=True):
                output["reconstruction"] = to_uint8(enlarge(picture, image.shape[-2:]))
        return outputs

    def detect(self, decoded: Sequence[Decoded], batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """What the detector returns for decoded pictures: losses in training, else a dict each.

        Args:
            decoded: pictures (3, H, W), RGB in [0, 1], or latents, on the model's device.
            batched_inputs: as of :meth:`forward`, one per picture; their "image" is not looked at,
                and any may be empty. "height" and "width" are of the picture as it was taken.
        """
        pairs = zip(batched_inputs, decoded, strict=True)
        return self.detector([self.detector_input(x, picture) for x, picture in pairs])

    def detector_input(self, x: dict[str, Any], decoded: Decoded) -> dict[str, Any]:
        """What the detector is given for a decoded picture: the one place where the two meet.

        Args:
            x: entry of :meth:`forward`'s ``batched_inputs``.
            decoded: (3, H, W), RGB in [0, 1]; or latents, where there is a bridge.

        Returns:
            ``x`` with "image" (3, h, w) in 0-255, of "detector_size", or of ``test_size`` where it
            has none; or with "latents" and "detector_size"; and with "height" and "width", in which
            detections are returned: those of ``decoded`` where it has none.
        """
        given = decoded.size if isinstance(decoded, DecodedLatents) else decoded.shape[-2:]
        height, width = x.get("height", given[0]), x.get("width", given[1])
        size = tuple(x.get("detector_size") or self._detector_size(height, width))
        known = {"height": height, "width": width, **x}
        if isinstance(decoded, DecodedLatents):
            return {**known, "latents": decoded, "detector_size": size}
        return {**known, "image": to_detector(decoded, self.image_format, size)}

    def describe(self) -> str:
        """What trains, and the loss it trains for, in words."""
        trains = [f"codec {part}" for part in self.regime.codec_parts]
        trains += ["bridge"] if self.bridge is not None else []
        if self.regime.detector:
            trains += [f"detector's {p}" for p in self.regime.detector_parts] or ["detector"]
        terms = {
            "Σ detector losses" + " by its own labels" * bool(self.labels): self.task_weight,
            "feature distance": self.features.weight if self.features else 0,
            "255²·MSE": self.distortion_weight if self.regime.codec_parts else 0,
            "distance of latents": self.codec.teacher.weight if self.codec.teacher else 0,
        }
        shown = [f"{w:g}·{term}".replace("1·Σ", "Σ") for term, w in terms.items() if w]
        if self.regime.trains_rate and any(self.betas):
            betas = ", ".join(f"{beta:g}" for beta in self.betas)
            shown.append(f"({betas})·bpp by level" if len(self.betas) > 1 else f"{betas}·bpp")
        counts = [
            f"{sum(p.numel() for p in m.parameters() if p.requires_grad):,} of "
            f"{sum(p.numel() for p in m.parameters()):,} {name} parameters"
            for name, m in self.named_children()
        ]
        return (
            f"Regime {self.regime.name}: trains {', '.join(trains) or 'nothing'} "
            f"({'; '.join(counts)}). Loss = {' + '.join(shown)}"
        )

    def _detector_size(self, height: int, width: int) -> tuple[int, int]:
        """What a picture of this size is resized to in evaluation."""
        if not self.test_size[0]:
            return height, width  # as detectron2 takes a size of 0
        return ResizeShortestEdge.get_output_shape(height, width, *self.test_size)

    def _load(self, x: dict[str, Any], key: str = "image") -> Tensor:
        return to_codec(x[key].to(self.device, non_blocking=True), self.image_format)

    def _load_small(self, x: dict[str, Any]) -> Tensor:
        if "small" in x:
            return self._load(x, "small")
        small = shrink(x["image"].permute(1, 2, 0).cpu().numpy(), self.scale)
        stored = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))
        return self._load({"small": stored}, "small")

    def _code(
        self,
        images: list[Tensor],
        batched_inputs: list[dict[str, Any]],
        pictures: bool,
        levels: Sequence[float] = (),
    ) -> Coded:
        """Code pictures at their coded size and levels, unless the loader has done so.

        Args:
            pictures: whether they are to be decoded.
            levels: empty for the codec's own.
        """
        if any("decoded" not in x for x in batched_inputs):
            sizes = [image.shape[-2:] for image in images]
            if self.scale < 1:
                images = [self._load_small(x) for x in batched_inputs]
            own = (levels,) if levels and self.codec.levels > 1 else ()
            if self.kept and self.training and self.device.type == "cpu":
                return self.kept(images, *own)
            return self.codec.code_shrunk(images, sizes, pictures, *own)
        bits = torch.tensor([x["bits"] for x in batched_inputs], device=self.device)
        decoded = [self._load(x, "decoded") for x in batched_inputs]
        return Coded(decoded, bits, bits, measured=[x["measured"] for x in batched_inputs])

    def _for_detector(self, images: list[Tensor], coded: Coded) -> Sequence[Decoded]:
        """Decoded pictures, or latents where there is a bridge."""
        if self.bridge is None:
            return coded.reconstructions
        sizes = [coded_size(x.shape[-2], x.shape[-1], self.scale) for x in images]
        return [DecodedLatents(x, size) for x, size in zip(coded.latents, sizes, strict=True)]

    def _detector_losses(
        self, images: list[Tensor], coded: Coded, batched_inputs: list[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """The detector's own losses, and the distance of its features."""
        pairs = zip(batched_inputs, self._for_detector(images, coded), strict=True)
        inputs = [self.detector_input(x, decoded) for x, decoded in pairs]
        originals = []
        if self.features or self.labels:
            pairs = zip(batched_inputs, images, strict=True)
            originals = [self.detector_input(x, picture) for x, picture in pairs]
        if self.labels:
            pairs = zip(inputs, self.labels(originals), strict=True)
            inputs = [{**x, "instances": truth} for x, truth in pairs]
        losses = {}
        watch: AbstractContextManager[list[Features]] = nullcontext([])
        if self.features:
            watch = self.features.watch()
        with watch as seen:
            if self.task_weight:
                found = self.detector(inputs)
                losses = {name: self.task_weight * loss for name, loss in found.items()}
        if self.features:
            distance = self.features(originals, inputs, seen)
            losses["loss_features"] = self.features.weight * distance
        return losses

    def _codec_losses(
        self, images: list[Tensor], coded: Coded, levels: Sequence[int]
    ) -> dict[str, Tensor]:
        """Rate, distortion and auxiliary loss, as far as something can train for them."""
        pixels = coded.bits.new_tensor([math.prod(image.shape[-2:]) for image in images])
        # Where none trains for pictures, the first of the batch is enough to watch them by. None,
        # where no picture was decoded.
        watched = images if self.trains_for_pictures else images[:1]
        pairs = zip(watched, coded.reconstructions, strict=False)
        mse = [(x - enlarge(y, x.shape[-2:])).square().mean() for x, y in pairs]
        self.batch_rate = self._sum_by_level(coded.rounded_bits.detach(), pixels, levels)
        losses = {}
        if self.regime.trains_rate and any(self.betas):
            betas = coded.bits.new_tensor([self.betas[level] for level in levels])
            losses["loss_rate"] = (betas * coded.bits / pixels).mean()
        if self.trains_for_pictures:
            losses["loss_distortion"] = self.distortion_weight * 255**2 * torch.stack(mse).mean()
        auxiliary = self.codec.auxiliary_loss()
        if auxiliary is not None:
            # Reaches the quantiles alone, and they get no gradient from any other term.
            losses["loss_aux"] = auxiliary
        if any(mse):
            get_event_storage().put_scalar("psnr", psnr(torch.stack(mse).detach().mean()).item())
        self._log_rate(*self.batch_rate)
        return losses

    def _sum_by_level(
        self, bits: Tensor, pixels: Tensor, levels: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Of each picture, (b,), to sums (levels,)."""
        places = torch.tensor(levels, device=bits.device)
        none = torch.zeros(len(self.betas), dtype=torch.float64, device=bits.device)
        return none.index_add(0, places, bits.double()), none.index_add(0, places, pixels.double())

    def _log_rate(self, bits: Tensor, pixels: Tensor) -> None:
        """Bits per pixel of a batch and their weight; beside all, by level where there are some."""
        storage = get_event_storage()
        storage.put_scalar("bpp", (bits.sum() / pixels.sum()).item())
        for level, beta in enumerate(self.betas):
            of_level = f"_{level}" * (len(self.betas) > 1)
            if of_level and pixels[level]:
                storage.put_scalar(f"bpp{of_level}", (bits[level] / pixels[level]).item())
            if self.regime.trains_rate:
                storage.put_scalar(f"beta{of_level}", beta)

    def _freeze_what_does_not_run(self, bridge: Bridge) -> None:
        """With a bridge. A weight that trains, and gets no gradient, would stop DDP."""
        idle = list(replaced_modules(self.detector, bridge).values())
        if not self.trains_for_pictures:
            # The transform alone: inverse gains are applied to what a bridge takes, too.
            idle += self.codec.parts().get("synthesis", [])[:1]
        for module in idle:
            module.requires_grad_(False)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def betas_of(cfg: CfgNode) -> list[float]:
    """The first weight of the rate at each level of a config's codec."""
    codec = cfg.MODEL.CODEC
    return list(codec.LEVEL_BETAS) or [codec.BETA] * levels_of(cfg)


def draw_levels(levels: Sequence[int], pictures: int, clip_length: int = 1) -> list[int]:
    """One of ``levels`` for each picture of a batch: at random, and as evenly as can be.

    Args:
        clip_length: frames of clips, which have one level each.
    """
    if len(levels) == 1:
        return list(levels) * pictures
    clips = pictures // clip_length
    rounds = -(-clips // len(levels))
    drawn = torch.cat([torch.randperm(len(levels)) for _ in range(rounds)])[:clips]
    return [levels[i] for i in drawn.repeat_interleave(clip_length)]


def _forget_pictures(chain: CodecDetector, _: object) -> None:
    if chain.kept:
        chain.kept.forget()


@META_ARCH_REGISTRY.register()
class NoDetector(nn.Module):
    """Stands in for a detector where a codec is trained or measured alone, for rate and distortion.

    It has no losses and finds nothing.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.empty(0), persistent=False)
        self.to(cfg.MODEL.DEVICE)

    @property
    def device(self) -> torch.device:
        """Where the model was moved to."""
        device: torch.device = self.anchor.device  # type: ignore[assignment]
        return device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        return {} if self.training else [{} for _ in batched_inputs]
