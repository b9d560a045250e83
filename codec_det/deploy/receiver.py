"""The receiving side in one file: decoder, detector, and what its classes are called.

.. code-block:: none

    file ─► entropy decoding ─► g_s ─► resize ─► detector ─► instances
                   │             └► picture,        │
                   │                of coded size   │
                   └────────────► bridge ───────────┘

One that detects in latents has a bridge in place of the synthesis transform, and nothing of what
the bridge stands in for; a decoder alone, beside it, is for people.

The detector is rebuilt from the run's config, which the file holds as YAML, by detectron2's
registry; codec_det.deploy.model_files.load_decoder reads the decoder alone, without detectron2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import detectron2.modeling  # noqa: F401 (it registers what imports the bridge, so it comes first)
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances
from torch import Tensor

from ..bitstream.container import MAX_PIXELS
from ..bitstream.entropy import EntropyModel, Latents
from ..bitstream.expected import Size
from ..bitstream.model_file import ModelFile, load_model, save_model
from ..bitstream.prediction import Prediction
from ..bridge import DecodedLatents, drop_replaced, replaced_modules
from ..codec.identity import IdentityCodec
from ..codec.learned.bitstream_codec import PictureDecoder, decoded_values
from ..codec.learned.fast_transforms import set_inner_dtype
from ..codec.learned.gains import Gains
from ..codec.learned.learned_codec import LearnedCodec
from ..config import get_codec_det_cfg
from ..config_checks import check_config
from ..errors import ConfigError, DatasetError, WeightsError
from ..meta_arch import CodecDetector, Decoded, NoDetector
from .model_files import (
    SYNTHESIS,
    Rates,
    codec_metadata,
    load_arrays,
    load_synthesis,
    move,
    synthesis_arrays,
    to_arrays,
)

# What of a config makes the detector, its input and its output; the rest is training, and paths of
# the machine that trained.
_DEPLOYED = ("MODEL", "INPUT", "TEST")
_DEPLOYED_OF_CODEC = ("NAME", "QUALITY", "N", "M", "LEVELS", "DECODED")


class LatentDecoder:
    """Files to latents, for a detector that has a bridge.

    Args:
        entropy: the entropy model of the codec.
        max_pixels: limit on the pictures whose latents it is willing to decode.
        inverse_gains: of a model of variable rate.
    """

    def __init__(
        self,
        entropy: EntropyModel,
        max_pixels: int = MAX_PIXELS,
        inverse_gains: Gains | None = None,
    ) -> None:
        self.entropy = entropy
        self.max_pixels = max_pixels
        self.inverse_gains = inverse_gains

    def decode(self, data: bytes) -> DecodedLatents:
        """What the detector is given of the picture in a file, on the CPU.

        Raises:
            BitstreamError: if ``data`` is no intact file of this codec.
        """
        return self.synthesize(self.entropy.read(data, self.max_pixels))

    def synthesize(self, latents: Latents) -> DecodedLatents:
        """What stands for the picture of decoded latents, as :meth:`decode` returns it."""
        values = decoded_values(latents, self.inverse_gains)
        return DecodedLatents(torch.from_numpy(values), latents.picture.coded_size)


@dataclass(frozen=True)
class Receiver:
    """Decodes files and detects in what they show.

    Attributes:
        decoder: files to pictures, or to latents where the detector takes them.
        categories: {"id": the data set's, "name"} by contiguous class; empty without a detector.
        chain: the detector, and how pictures become its input.
    """

    decoder: PictureDecoder | LatentDecoder
    categories: list[dict[str, Any]]
    chain: CodecDetector

    @property
    def has_detector(self) -> bool:
        """Whether the file came with a detector, or with a decoder alone."""
        return not isinstance(self.chain.detector, NoDetector)

    @torch.no_grad()
    def detect(self, decoded: Sequence[Decoded], sizes: Sequence[Size]) -> list[Instances]:
        """What the detector finds in what :attr:`decoder` gives.

        Args:
            sizes: height and width that each was taken at, before it was shrunk to be coded.

        Returns:
            per picture, instances in pixels of that size, on the CPU; ``pred_classes`` count
            :attr:`categories`.

        Raises:
            WeightsError: if there is no detector.
        """
        if not self.has_detector:
            raise WeightsError("the receiver has no detector: export a run that has one")
        there = [_move(each, self.chain.device) for each in decoded]
        known = [{"height": height, "width": width} for height, width in sizes]
        outputs = self.chain.detect(there, known)
        return [output["instances"].to("cpu") for output in outputs]


def _move(decoded: Decoded, device: torch.device) -> Decoded:
    if isinstance(decoded, Tensor):
        return decoded.to(device)
    return decoded._replace(values=decoded.values.to(device))


def save_receiver(
    path: Path,
    chain: CodecDetector,
    entropy: EntropyModel,
    cfg: CfgNode,
    dataset: str,
    rates: Rates | None = None,
    prediction: Prediction | None = None,
) -> None:
    """Write what decodes the chain's files and, unless it is ``NoDetector``, its detector.

    Of a chain that detects in latents, the bridge and what runs behind it.

    Args:
        entropy: the frozen entropy model of the chain's codec.
        cfg: that the chain was built from.
        dataset: registered, whose categories the detector's classes are.
        prediction: of a codec of sequences, its frozen model of predicted frames.

    Raises:
        DatasetError: if its categories are not known, or not as many as the detector's classes.
    """
    codec: Any = chain.codec
    metadata = {**codec_metadata(codec, rates), "config": _deployed_config(cfg), "categories": []}
    idle: tuple[str, ...] = ()
    parts = synthesis_arrays(codec)
    if chain.bridge is not None:
        parts["bridge"] = to_arrays(chain.bridge)
        del parts["g_s"]
        idle = tuple(f"{name}." for name in replaced_modules(chain.detector, chain.bridge))
    if not isinstance(chain.detector, NoDetector):
        weights = to_arrays(chain.detector)
        parts["detector"] = {k: v for k, v in weights.items() if not k.startswith(idle or "\0")}
        metadata["categories"] = dataset_categories(dataset)
        _check_classes(chain.detector, dataset, metadata["categories"])
    save_model(path, "receiver", entropy, parts, metadata, prediction)


def save_decoder(
    path: Path,
    chain: CodecDetector,
    entropy: EntropyModel,
    cfg: CfgNode,
    prediction: Prediction | None = None,
) -> None:
    """Write a receiver that decodes the chain's files to pictures, and has no detector.

    Args:
        entropy, cfg, prediction: as of :func:`save_receiver`.
    """
    codec: Any = chain.codec
    alone = cfg.clone()
    alone.defrost()
    alone.MODEL.DETECTOR.META_ARCHITECTURE = "NoDetector"
    alone.MODEL.CODEC.DECODED = "picture"
    metadata = {**codec_metadata(codec), "config": _deployed_config(alone), "categories": []}
    save_model(path, "receiver", entropy, synthesis_arrays(codec), metadata, prediction)


def load_receiver(
    path: Path,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    dtype: torch.dtype = torch.float32,
) -> Receiver:
    """The receiver in a file of :func:`save_receiver`.

    Args:
        max_pixels: limit on the pictures it is willing to decode.
        dtype: of the synthesis transform's inner convolutions
            (:mod:`codec_det.codec.learned.precision`).

    Raises:
        WeightsError: if the file is missing, damaged or no receiver, or needs a detector that this
            program does not know.
        CodecDetError: if the device cannot be used.
    """
    file = load_model(path, "receiver", (*SYNTHESIS, "bridge", "detector"))
    try:
        categories = [{"id": c["id"], "name": c["name"]} for c in file.metadata["categories"]]
    except (KeyError, TypeError):
        raise WeightsError(f"'{path}' does not say what its detector's classes are") from None
    chain = _build_chain(file)
    decoder: PictureDecoder | LatentDecoder
    if chain.bridge is None:
        codec: LearnedCodec = chain.codec  # type: ignore[assignment]
        load_synthesis(codec, file)
        set_inner_dtype(codec.model.g_s, dtype)
        decoder = PictureDecoder(codec.model.g_s, file.entropy, max_pixels, codec.inverse_gains)
    else:
        load_arrays(chain.bridge, file, "bridge")
        levels, inverse_gains = file.entropy.expected.levels, None
        if levels > 1:
            inverse_gains = Gains(levels, file.entropy.channels)
            load_arrays(inverse_gains, file, SYNTHESIS[1])
        decoder = LatentDecoder(file.entropy, max_pixels, inverse_gains)
    load_arrays(chain.detector, file, "detector")
    move(chain, device).requires_grad_(False)
    return Receiver(decoder, categories, chain)


def dataset_categories(dataset: str) -> list[dict[str, Any]]:
    """{"id", "name"} of a registered data set's categories, by detectron2's contiguous class.

    Raises:
        DatasetError: if they can be had neither from its metadata nor by loading it.
    """
    metadata = MetadataCatalog.get(dataset)
    if not metadata.get("thing_classes"):
        # COCO's format brings its categories only when it is loaded.
        try:
            DatasetCatalog.get(dataset)
        except (KeyError, OSError, ValueError) as error:
            raise DatasetError(
                f"the categories of the data set '{dataset}' are in its annotations, which cannot "
                f"be read ({error}): set DATASETS.ROOT in the run's config.yaml to where they are"
            ) from None
    names = metadata.get("thing_classes")
    if not names:
        raise DatasetError(
            f"the data set '{dataset}' does not say what its classes are called: set thing_classes "
            "in its detectron2 metadata"
        )
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {i: i for i in range(len(names))}
    by_class = {number: own for own, number in ids.items()}
    return [{"id": by_class[number], "name": name} for number, name in enumerate(names)]


def _check_classes(
    detector: torch.nn.Module, dataset: str, categories: Sequence[dict[str, Any]]
) -> None:
    # Two-stage detectors have it in their heads, one-stage detectors themselves.
    holder = getattr(detector, "roi_heads", detector)
    count = getattr(holder, "num_classes", None)
    if count is not None and count != len(categories):
        raise DatasetError(
            f"the detector has {count} classes, but the data set '{dataset}' has "
            f"{len(categories)} categories: set DATASETS.TEST in the run's config.yaml to the data "
            "set that it was trained for"
        )


def _deployed_config(cfg: CfgNode) -> str:
    """The config as YAML, all of training and of this machine left at its defaults."""
    deployed = get_codec_det_cfg()
    codec = deployed.MODEL.CODEC.clone()
    for key in _DEPLOYED_OF_CODEC:
        codec[key] = cfg.MODEL.CODEC[key]
    for key in _DEPLOYED:
        deployed[key] = cfg[key].clone()
    deployed.defrost()
    deployed.MODEL.CODEC = codec
    deployed.MODEL.CODEC.WEIGHTS = deployed.MODEL.WEIGHTS = ""
    deployed.MODEL.DETECTOR.TRAINABLE = False
    deployed.MODEL.DEVICE = "cpu"
    return deployed.dump()


def _build_chain(file: ModelFile) -> CodecDetector:
    """The chain of a receiver's config, with random weights."""
    cfg = get_codec_det_cfg()
    try:
        cfg.merge_from_other_cfg(CfgNode.load_cfg(file.metadata["config"]))
        name = cfg.MODEL.CODEC.NAME
        if name != file.entropy.codec:
            # Before the check, which would make the folder that a conventional codec's cache names.
            raise ConfigError(
                f"its config is of the codec '{name}', but its entropy model of a "
                f"{file.entropy.codec}; export it again"
            )
        if file.entropy.expected.levels != cfg.MODEL.CODEC.LEVELS:
            raise ConfigError(
                f"its config has {cfg.MODEL.CODEC.LEVELS} levels, but its entropy model "
                f"{file.entropy.expected.levels}; export it again"
            )
        check_config(cfg, train=False)
    except ConfigError as error:
        raise WeightsError(f"'{file.path}' cannot be rebuilt: {error}") from None
    except (KeyError, AttributeError, AssertionError, ValueError, yaml.YAMLError) as error:
        raise WeightsError(
            f"'{file.path}' has a config that does not fit this version ({error}): export it again"
        ) from None
    cfg.freeze()
    if cfg.MODEL.CODEC.DECODED == "picture":
        return CodecDetector(cfg)
    # No transform of the codec is needed, nor built.
    chain = CodecDetector(cfg, codec=IdentityCodec())
    drop_replaced(chain.detector, chain.bridge)
    return chain
