"""From decoded latents to the features that a detector's backbone has after its first stages.

.. code-block:: none

    picture:  ŷ ─► g_s ─► stem ─► res2 ─► res3 ─► res4 ─┐
                                                        ├─► res5 ─► FPN ─► heads
    latents:  ŷ ─► bridge ─► res2, res3, res4 ──────────┘

No picture is decoded, and the backbone's first stages do not run. All else of the detector is as it
is, and so is the size that it works at: that of the picture which it would be given.

Shape glossary: n pictures; latents are (M, ⌈h / d⌉, ⌈w / d⌉) of a picture coded at h x w, with d
pixels per latent; features of stride s are (n, C, ⌈H / s⌉, ⌈W / s⌉) of a detector's input of H x W.
The bridge works at the coded size; where the detector's input has another, features are resized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, ResNet
from detectron2.structures import ImageList
from torch import Tensor, nn

from .codec.table import find_codec
from .errors import ConfigError
from .feature_loss import Features

STAGES = ("res2", "res3", "res4")
"""Those of a ResNet that a bridge may stand in for, with all that comes before."""


class DecodedLatents(NamedTuple):
    """What a detector is given of a picture in place of its pixels.

    Attributes:
        values: (M, ⌈h / d⌉, ⌈w / d⌉), means included.
        size: (h, w) that the picture was coded at.
    """

    values: Tensor
    size: tuple[int, int]


class Bridge(nn.Module):
    """Latents to features: residual blocks at the latents' stride, then sub-pixel convolutions.

    Args:
        channels: M.
        stride: d.
        features: to be made, by name; their strides divide ``stride``.
        width: channels of the blocks.
        blocks: how many there are.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        features: Mapping[str, ShapeSpec],
        *,
        width: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.strides = {name: shape.stride for name, shape in features.items()}
        first = _convolution(channels, width, 3)
        self.trunk = nn.Sequential(*first, nn.ReLU(), *(_Residual(width) for _ in range(blocks)))
        self.outputs = nn.ModuleDict()
        for name, shape in features.items():
            finer = stride // shape.stride
            last = _convolution(width, shape.channels * finer**2, 1)
            self.outputs[name] = nn.Sequential(*last, nn.PixelShuffle(finer), nn.ReLU())

    def forward(self, latents: Tensor) -> Features:
        """(n, M, h', w') to features (n, C, h'·d / s, w'·d / s)."""
        x = self.trunk(latents)
        return {name: output(x) for name, output in self.outputs.items()}


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = _convolution(width, width, 3), _convolution(width, width, 3)
        self.layers = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


def _convolution(inputs: int, outputs: int, size: int) -> tuple[nn.Module, nn.Module]:
    # Without batch norm, a short training hardly finds a bridge: see docs/latents.md.
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return layer, nn.BatchNorm2d(outputs)


def build_bridge(cfg: CfgNode, detector: Any) -> Bridge | None:
    """The bridge of a config, of random weights; None where the detector is given pictures.

    Raises:
        ConfigError: if codec and detector cannot be bridged.
    """
    codec, node = cfg.MODEL.CODEC, cfg.MODEL.BRIDGE
    if codec.DECODED == "picture":
        return None
    entry = find_codec(codec.NAME)
    features = features_to_make(detector, node.STAGE)
    if features[node.STAGE].stride > entry.stride:
        raise ConfigError(
            f"MODEL.BRIDGE.STAGE is '{node.STAGE}', of stride {features[node.STAGE].stride}, but "
            f"latents of {codec.NAME} have stride {entry.stride}: choose an earlier stage"
        )
    channels = entry.widths_at(codec.QUALITY, codec.N, codec.M)[-1]
    bridge = Bridge(channels, entry.stride, features, width=node.WIDTH, blocks=node.BLOCKS)
    # Of a CPU's time, a quarter less than in the other layout.
    return bridge.to(memory_format=torch.channels_last)


def features_to_make(detector: Any, stage: str) -> dict[str, ShapeSpec]:
    """What a bridge has to give a detector: all that is looked at up to a stage, and the stage.

    Args:
        detector: a detectron2 meta-architecture whose backbone is a ResNet, or an FPN over one.
        stage: one of :data:`STAGES`.

    Raises:
        ConfigError: if the detector cannot take them.
    """
    resnet = _resnet(detector)
    names = resnet.stage_names[: _place(resnet, stage) + 1]
    return {
        name: ShapeSpec(
            channels=resnet._out_feature_channels[name], stride=resnet._out_feature_strides[name]
        )
        for name in names
        if name == stage or name in resnet._out_features
    }


def replaced_modules(detector: Any, bridge: Bridge) -> dict[str, nn.Module]:
    """What of a detector does not run where it is given latents, by name in the detector."""
    resnet = _resnet(detector)
    last = max(resnet.stage_names.index(name) for name in bridge.strides)
    names = {module: name for name, module in detector.named_modules()}
    return {names[module]: module for module in (resnet.stem, *resnet.stages[: last + 1])}


def drop_replaced(detector: Any, bridge: Bridge) -> None:
    """Free a detector of what a bridge stands in for: from now on it takes latents alone."""
    stages = _resnet(detector).stages
    for name, module in replaced_modules(detector, bridge).items():
        parent, _, leaf = name.rpartition(".")
        nothing = nn.Identity()
        setattr(detector.get_submodule(parent), leaf, nothing)
        if module in stages:
            stages[stages.index(module)] = nothing


class _LateStart(ResNet):
    """A ResNet that takes, instead of a picture, features of its first stages, and goes on."""

    def forward(self, x: Tensor | Features) -> Features:
        if isinstance(x, Tensor):
            return super().forward(x)
        found = dict(x)
        start = max(self.stage_names.index(name) for name in x) + 1
        last = found[self.stage_names[start - 1]]
        for name, stage in zip(self.stage_names[start:], self.stages[start:], strict=True):
            last = found[name] = stage(last)
        return {name: found[name] for name in self._out_features}


class _Preprocess:
    """A detector's ``preprocess_image`` that passes latents through a bridge.

    It is no module: the bridge belongs to the chain.
    """

    def __init__(self, detector: Any, bridge: Bridge) -> None:
        self._detector = detector
        self._bridge = bridge

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> ImageList:
        """Padded pictures, or features where the inputs have "latents" and "detector_size"."""
        if "latents" not in inputs[0]:
            return type(self._detector).preprocess_image(self._detector, inputs)
        latents: list[DecodedLatents] = [x["latents"] for x in inputs]
        sizes = [tuple(x["detector_size"]) for x in inputs]
        backbone = self._detector.backbone
        # Pictures without channels are padded as pictures are.
        frame = ImageList.from_tensors(
            [x.values.new_empty(0, *size) for x, size in zip(latents, sizes, strict=True)],
            backbone.size_divisibility,
            padding_constraints=backbone.padding_constraints,
        )
        found = self._bridge(ImageList.from_tensors([x.values for x in latents]).tensor)
        scales = [
            (size[0] / x.size[0], size[1] / x.size[1])
            for x, size in zip(latents, sizes, strict=True)
        ]
        height, width = frame.tensor.shape[-2:]
        features = {}
        for name, feature in found.items():
            stride = self._bridge.strides[name]
            size = (-(-height // stride), -(-width // stride))
            features[name] = _resize(feature, scales, size)
        return ImageList(features, frame.image_sizes)


def _resize(feature: Tensor, scales: Sequence[tuple[float, float]], size: Sequence[int]) -> Tensor:
    """(n, C, h, w) to (n, C, *size), each by its own scale, cropped or padded with zeros.

    Differentiable; bilinear with antialiasing.
    """
    if all(scale == (1, 1) for scale in scales):
        return _fit(feature, size)
    resized = [
        F.interpolate(x[None], scale_factor=scale, mode="bilinear", antialias=True)
        for x, scale in zip(feature, scales, strict=True)
    ]
    return torch.cat([_fit(x, size) for x in resized])


def _fit(feature: Tensor, size: Sequence[int]) -> Tensor:
    (height, width), (rows, columns) = feature.shape[-2:], size
    if (height, width) == (rows, columns):
        return feature  # which padding by nothing would copy
    return F.pad(feature, (0, columns - width, 0, rows - height))


def take_latents(detector: Any, bridge: Bridge) -> None:
    """Let a detector take latents through a bridge, beside pictures; its weights keep their names.

    Args:
        bridge: to the :func:`features_to_make`.
    """
    _resnet(detector).__class__ = _LateStart
    detector.preprocess_image = _Preprocess(detector, bridge)


def _resnet(detector: Any) -> ResNet:
    backbone = getattr(detector, "backbone", None)
    resnet = backbone.bottom_up if isinstance(backbone, FPN) else backbone
    if type(resnet) not in (ResNet, _LateStart) or not hasattr(detector, "preprocess_image"):
        raise ConfigError(
            f"MODEL.CODEC.DECODED is 'latents', but the backbone of {type(detector).__name__} is "
            "neither a ResNet of detectron2 nor an FPN over one: set it to 'picture'"
        )
    return resnet


def _place(resnet: ResNet, stage: str) -> int:
    if stage not in resnet.stage_names:
        raise ConfigError(
            f"MODEL.BRIDGE.STAGE is '{stage}': the backbone has {', '.join(resnet.stage_names)}"
        )
    return resnet.stage_names.index(stage)
