"""Loading and saving the chain: any detectron2 weights, any codec weights, safe against crashes."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from fvcore.common.checkpoint import _IncompatibleKeys, _strip_prefix_if_present
from iopath.common.file_io import PathHandler
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..bitstream.model_file import parse_metadata
from ..codec.base import Codec
from ..codec.table import find_codec
from ..errors import CodecDetError, ConfigError, WeightsError
from ..files import system_error
from ..run_folder import CONFIG_FILE

logger = logging.getLogger(__name__)

# What torch.load and pickle raise on truncated or foreign files.
UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError),
    *(AttributeError, ImportError, IndexError, TypeError),
)


class _PackagedWeights(PathHandler):
    """Resolves ``codec_det://name`` to the weights that come with the package."""

    def _get_supported_prefixes(self) -> list[str]:
        return ["codec_det://"]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return str(Path(__file__).parents[1] / "weights" / path.removeprefix("codec_det://"))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return Path(self._get_local_path(path)).open(mode, buffering)


PathManager.register_handler(_PackagedWeights(), allow_override=True)


class MisfitError(WeightsError):
    """Weights of another model than the config's."""


class ChainCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer for a :class:`codec_det.CodecDetector`.

    Loads a detector's weights (``detectron2://``, ``.pkl``, ``.pth``) into the detector, and a
    checkpoint of the whole chain, or of its codec, into the parts it holds. A file appears under
    its final name only when it is complete.

    Args:
        strict: every detector weight must be found, as evaluation and going on need; training may
            start from a backbone alone or with another number of classes.

    Attributes:
        loaded: the file that was loaded last.
    """

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.strict = strict
        self.found_codec = False
        self.loaded = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a checkpoint.

        Raises:
            CodecDetError: if it cannot be written; those before it are as they were.
        """
        try:
            super().save(f".{name}.partial", **kwargs)
        except (OSError, RuntimeError) as error:
            system = system_error(error)
            reason = (system and system.strerror) or _first_line(error)
            kept = self.get_checkpoint_file() if self.has_checkpoint() else "none yet"
            raise CodecDetError(
                f"cannot write the checkpoint '{Path(self.save_dir, name)}.pth' "
                f"({reason}): make room for it. Last checkpoint: {kept}"
            ) from None
        finally:
            Path(self.save_dir, f".{name}.partial.pth").unlink(missing_ok=True)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        partial = Path(self.save_dir, last_filename_basename)
        final = last_filename_basename.removeprefix(".").removesuffix(".partial.pth") + ".pth"
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(partial.with_name(final))
        tag = Path(self.save_dir, ".last_checkpoint.partial")
        tag.write_text(final)
        tag.replace(tag.with_name("last_checkpoint"))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Like detectron2's; where the last checkpoint is damaged, the newest readable one serves.

        Raises:
            WeightsError: if there are checkpoints and none can be read, or the newest does not fit.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        # Weights that do not fit would be left random.
        self.strict = True
        tagged = self.get_checkpoint_file()
        # Neither partial files nor exports of a codec or detector.
        others = [f for f in self.get_all_checkpoint_files() if Path(f).name.startswith("model_")]
        others.sort(key=os.path.getmtime, reverse=True)
        for file in [tagged, *(f for f in others if f != tagged)]:
            try:
                return self.load(file)
            except MisfitError as error:
                raise WeightsError(f"cannot go on from '{file}': {error}") from None
            except WeightsError as error:
                logger.error("Cannot resume from %s: %s", file, error)
            except ValueError as error:
                raise WeightsError(
                    f"cannot resume from '{file}' ({error}): another regime or optimizer wrote it. "
                    "To start from its weights, set MODEL.WEIGHTS to it, give another OUTPUT_DIR "
                    "and leave out --resume"
                ) from None
        raise WeightsError(
            f"no checkpoint in '{self.save_dir}' can be read: start over with --overwrite in place "
            "of --resume, or with another OUTPUT_DIR"
        )

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a file.

        Raises:
            WeightsError: if it is missing, unreadable, or mostly made for another model.
        """
        self.found_codec = False
        self.loaded = path
        try:
            return super().load(path, *args, **kwargs)
        except (AssertionError, FileNotFoundError) as error:
            raise WeightsError(
                f"weights '{path}' not found ({error}): set MODEL.WEIGHTS to an existing file"
            ) from None
        except OSError as error:
            raise WeightsError(
                f"weights '{path}' cannot be downloaded ({error}): download the file by "
                "other means and set MODEL.WEIGHTS to it"
            ) from None
        finally:
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict[str, Any]:
        refuse_export(filename)
        try:
            checkpoint = super()._load_file(filename)
            self._convert_ndarray_to_tensor(checkpoint["model"])
            return checkpoint
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            raise WeightsError(
                f"weights '{filename}' cannot be read ({_first_line(error)}): the file is damaged "
                "or no checkpoint"
            ) from None

    def _load_model(self, checkpoint: dict[str, Any]) -> _IncompatibleKeys:
        weights = checkpoint["model"]
        _strip_prefix_if_present(weights, "module.")
        if checkpoint.pop("matching_heuristics", False):
            weights = align_and_update_state_dicts(
                self.model.detector.state_dict(),
                weights,
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        if not any(key.startswith(("detector.", "codec.")) for key in weights):
            weights = {f"detector.{key}": value for key, value in weights.items()}
        self.found_codec = any(key.startswith("codec.") for key in weights)
        if self.found_codec:
            check_grid(self.loaded, self.model.codec, strict=self.strict)
        # fvcore drops tensors whose shape differs before load_state_dict could adapt the tables.
        self.model.codec.adapt_state_dict(weights, "codec.")
        checkpoint["model"] = weights
        count = len(weights)
        incompatible = super()._load_model(checkpoint)
        self._refuse_mismatch(incompatible, count)
        return incompatible

    def _refuse_mismatch(self, keys: _IncompatibleKeys, count: int) -> None:
        misfit = [k for k, _, _ in keys.incorrect_shapes]
        # pixel_mean and pixel_std follow from the config.
        missing = [
            k
            for k in keys.missing_keys
            if k.startswith(("detector.", "bridge."))
            and not k.endswith(("pixel_mean", "pixel_std"))
            and k not in misfit
        ]
        other = [k for k in keys.missing_keys + keys.unexpected_keys if k.startswith("codec.")]
        keys.missing_keys[:] = missing
        if other and self.found_codec and self.model.codec.state_dict():
            raise MisfitError(
                f"the weights hold another codec ({_some(other)}): set MODEL.CODEC.NAME, QUALITY, "
                "N, M, LEVELS and GATED to those it was made with, or take the detector out of the "
                "file with tools/export_codec.py --part detector"
            )
        unused = [*keys.unexpected_keys, *misfit]
        if 2 * len(unused) > count:
            raise MisfitError(
                f"{len(unused)} of {count} tensors in the weights do not fit the model "
                f"({_some(unused)}): they were made for another architecture"
            )
        if self.strict and (missing or misfit):
            raise MisfitError(
                f"the weights lack {len(missing)} tensors of the model and {len(misfit)} differ in "
                f"shape ({_some(missing + misfit)}): evaluating and going on need them all; check "
                "MODEL.WEIGHTS and the keys of the detector, MODEL.ROI_HEADS.NUM_CLASSES first (of "
                "a bridge: MODEL.CODEC.DECODED and MODEL.BRIDGE)"
            )


def check_grid(path: str, codec: Codec, *, strict: bool) -> None:
    """Compare where a codec's latents lie with where they lay when weights were trained.

    Neither names nor shapes of weights tell a centred codec from the usual one, and each would give
    the other's pictures, only worse. The config of the run that they are of tells, if it is there.

    Args:
        strict: they are not to be trained on.

    Raises:
        WeightsError: if they lie elsewhere and no training will change that, or the weights are
            those of a teacher.
    """
    config = Path(path).with_name(CONFIG_FILE)
    own = getattr(codec, "entry", None)
    if own is None or not config.is_file():
        return
    try:
        theirs = find_codec(yaml.safe_load(config.read_text())["MODEL"]["CODEC"]["NAME"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ConfigError):
        return  # another program's
    if not theirs.is_learned or theirs.is_centred == own.is_centred:
        return
    difference = (
        f"'{path}' was trained as {theirs.name}, whose latents lie elsewhere than those of "
        f"{own.name}"
    )
    if strict or codec.teacher:
        raise WeightsError(f"{difference}: set MODEL.CODEC.NAME to the codec that it was made with")
    logger.warning("%s: they are a start, which training has to move", difference)


def load_codec_weights(codec: Codec, cfg: CfgNode, *, strict: bool = True) -> None:
    """Load ``MODEL.CODEC.WEIGHTS`` into ``codec``.

    Args:
        strict: as of :func:`check_grid`.

    Raises:
        WeightsError: if they are missing, unreadable or of another codec or other widths.
    """
    node = cfg.MODEL.CODEC
    if not find_codec(node.NAME).is_learned:
        return
    if not node.WEIGHTS:
        logger.warning("MODEL.CODEC.WEIGHTS is '': the codec starts from random weights")
        return
    # Imports CompressAI.
    from ..codec.learned.state import codec_weights

    zoo = node.WEIGHTS == "zoo"
    check_grid(node.WEIGHTS, codec, strict=strict)
    weights = codec_weights(
        _zoo_weights(find_codec(node.NAME).receiver, node.QUALITY, node.METRIC)
        if zoo
        else read_checkpoint(node.WEIGHTS)
    )
    try:
        codec.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(
            f"codec weights '{node.WEIGHTS}' do not fit {node.NAME} with widths {codec.widths} "
            f"({_first_line(error)}): set MODEL.CODEC.NAME, QUALITY, N, M, LEVELS and GATED to "
            "those they were made for"
        ) from None
    logger.info("Codec weights: %s", node.WEIGHTS)


def _zoo_weights(name: str, quality: int, metric: str) -> dict[str, Tensor]:
    # CompressAI takes seconds to import.
    from compressai.zoo import image, image_models, image_vbr, video, video_models

    variable = image_vbr.model_urls.get(name, {})
    urls = {quality: variable[metric]} if metric in variable else {}
    for kind in (image, video):
        urls = kind.model_urls.get(name, {}).get(metric, urls)
    if quality not in urls:
        raise WeightsError(
            f"CompressAI publishes no weights for {name}, trained for {metric}: set "
            "MODEL.CODEC.WEIGHTS to a file"
        )
    models = {**image_models, **video_models}
    load = getattr(image_vbr, name.replace("-", "_")) if variable else models[name]
    try:
        model = load(quality=quality, metric=metric, pretrained=True)
    except URLError as error:
        raise WeightsError(
            f"the zoo weights of {name}, quality {quality}, cannot be downloaded ({error.reason}): "
            f"put the file of {urls[quality]} into "
            f"{torch.hub.get_dir()}/checkpoints, or set MODEL.CODEC.WEIGHTS to it"
        ) from None
    except UNREADABLE as error:
        raise WeightsError(
            f"the zoo weights of {name}, quality {quality}, cannot be read ({_first_line(error)}): "
            f"delete {Path(urls[quality]).name} from "
            f"{torch.hub.get_dir()}/checkpoints, so that it is downloaded again"
        ) from None
    return model.state_dict()


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a PyTorch file, anything PathManager can find, to the CPU.

    Raises:
        WeightsError: if it is missing or unreadable.
    """
    try:
        local = PathManager.get_local_path(path)
        refuse_export(local)
        checkpoint = torch.load(local, map_location="cpu")
        if isinstance(checkpoint, dict):
            return checkpoint
    except FileNotFoundError:
        raise WeightsError(f"weights '{path}' not found: give an existing file") from None
    except UNREADABLE as error:
        raise WeightsError(
            f"weights '{path}' cannot be read ({_first_line(error)}): the file is damaged or no "
            "checkpoint"
        ) from None
    raise WeightsError(f"'{path}' holds a {type(checkpoint).__name__} instead of weights by name")


def refuse_export(path: str) -> None:
    """Raise :class:`WeightsError` for a model of tools/export_model.py: it is half a chain."""
    if Path(path).suffix not in (".safetensors", ".onnx"):
        return
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        kind = parse_metadata(metadata.get("codec_det"), Path(path), None)["kind"]
    except (SafetensorError, OSError, WeightsError):
        return
    missing = "a decoder" if kind == "encoder" else "an analysis transform"
    raise WeightsError(
        f"weights '{path}' are an exported {kind}, which has no {missing} to evaluate or train: "
        "give the checkpoint of the run that it was exported from (with MODEL.CODEC.BITSTREAM True "
        "the evaluation codes as it does); tools/detect.py runs an exported receiver"
    )


def _first_line(error: BaseException) -> str:
    if "weights_only" in str(error):
        # PyTorch's own text advises to run the code that a file may hold.
        return "not a file of weights alone"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # PyTorch's key errors start with a line that says no more than "Error(s) in loading".
    return " ".join(lines[:2])[:300] or type(error).__name__


def _some(names: list[str], limit: int = 5) -> str:
    more = f", ... {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
