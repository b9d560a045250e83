"""Runs of tools/train_net.py, and what each makes of single pictures.

Pictures are (H, W, 3) uint8 RGB of original size. Boxes are (n, 4) x0, y0, x1, y1 in its pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from .bitstream.expected import LEVEL_STEPS
from .codec.table import find_codec
from .config import load_config
from .data.image_io import read_image
from .data.mapper import CodecDetectorMapper
from .errors import CodecDetError
from .evaluation.objects import NOTHING, Objects, ground_truth
from .evaluation.picture_ap import box_ap
from .evaluation.rate import distortion
from .evaluation.results import RESULTS_FILE, Record, changed_keys, describe_regime
from .levels import is_level, levels_of, levels_to_test
from .meta_arch import CodecDetector
from .pixels import to_codec
from .regimes import Regime
from .run_folder import CHECKPOINT_TAG, CONFIG_FILE
from .sequences import Frame, frame_of
from .training.trainer import as_evaluated, load_chain

if TYPE_CHECKING:
    from .codec.base import Codec
    from .pictures.bit_map import BitMap


@dataclass(frozen=True)
class Run:
    """A run folder and the config it was made with.

    Attributes:
        level: at which pictures are coded by a codec of variable rate; None of a fixed rate.
    """

    folder: Path
    cfg: CfgNode
    level: float | None = None

    @property
    def dataset(self) -> str:
        """The first test set."""
        return self.cfg.DATASETS.TEST[0]

    @property
    def regime(self) -> str:
        """Name of what was trained."""
        said = self.describe()
        return describe_regime(said["regime"], self.codec, said["detector"])

    @property
    def codec(self) -> str:
        """Name of the codec."""
        return self.cfg.MODEL.CODEC.NAME

    def describe(self) -> Record:
        """What a record of its evaluation says of the run itself."""
        cfg, codec = self.cfg, self.cfg.MODEL.CODEC
        quality = dict(codec.SETTINGS).get("quality", codec.QUALITY)
        return {
            "regime": Regime.from_config(cfg).name,
            "codec": {"name": codec.NAME, "quality": quality},
            "detector": cfg.MODEL.DETECTOR.META_ARCHITECTURE,
            "config": changed_keys(cfg),
            "level": self.level,
        }


@dataclass(frozen=True)
class Original:
    """A picture of the test set and its ground truth."""

    image_id: int
    picture: np.ndarray
    truth: Objects


@dataclass(frozen=True)
class CodedPicture:
    """What a run makes of a picture.

    Attributes:
        picture: reconstruction, rounded to 8 bits.
        found: all detections.
        bpp: bits per pixel.
        psnr: dB, inf where nothing is lost.
        ap: box AP of this picture in percent, nan where there is nothing to find or no detector.
        bit_map: where its bits went; None where nobody asked, or the codec is not a learned one.
    """

    picture: np.ndarray
    found: Objects
    bpp: float
    psnr: float
    ap: float
    bit_map: BitMap | None = None


def open_run(folder: str | Path, level: float | None = None) -> Run:
    """Read the config of a run folder; without a GPU, for the CPU.

    Args:
        level: of a codec of variable rate, None: the highest that it is evaluated at; runs of a
            fixed rate have none whatever it is.

    Raises:
        CodecDetError: if it is no run folder, its config does not fit this version, its run has
            neither saved nor evaluated any model, or its codec has no such level.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CodecDetError(
            f"'{folder}' has no {CONFIG_FILE}: give the OUTPUT_DIR of a run of tools/train_net.py"
        )
    if not any((folder / name).exists() for name in (CHECKPOINT_TAG, RESULTS_FILE)):
        raise CodecDetError(
            f"'{folder}' has neither a checkpoint nor results: its run has not got that far"
        )
    # The folder may have been moved, and the run made on another machine.
    opts = ["OUTPUT_DIR", str(folder)]
    if not torch.cuda.is_available():
        opts += ["MODEL.DEVICE", "cpu"]
    cfg = load_config(str(path), opts)
    count, highest = levels_of(cfg), levels_to_test(cfg)[-1]
    if level is not None and count > 1 and not is_level(level, count):
        raise CodecDetError(
            f"the codec of '{folder}' has no level {level:g}: levels are 0 to {count - 1}, in "
            f"steps of 1/{LEVEL_STEPS}"
        )
    run = Run(folder, cfg, highest if level is None or count == 1 else level)
    if not run.cfg.DATASETS.TEST:
        raise CodecDetError(f"'{path}' has an empty DATASETS.TEST: there is nothing to show")
    return run


def check_same_dataset(runs: Sequence[Run]) -> None:
    """Raise :class:`CodecDetError` unless all runs have the same first test set."""
    if len({run.dataset for run in runs}) > 1:
        sets = ", ".join(f"{run.folder}: {run.dataset}" for run in runs)
        raise CodecDetError(
            f"the runs have different test sets ({sets}): give runs with the same DATASETS.TEST"
        )


def read_original(entry: dict[str, Any]) -> Original:
    """The picture of a data set entry and its ground truth."""
    return Original(entry["image_id"], read_image(entry["file_name"], "RGB"), ground_truth(entry))


def code_pictures(
    run: Run, entries: Sequence[dict[str, Any]], *, bit_maps: bool = False
) -> Iterator[CodedPicture]:
    """Rebuild a run's chain from its last checkpoint and pass pictures through, one at a time.

    Their rate is estimated or real, as in the run's evaluation. Frames of a sequence are what a
    receiver shows that has had all before them since their key frame.

    A run without checkpoint was only evaluated: it has the weights of its config.

    Args:
        run: of an :func:`open_run`, with its data sets registered.
        entries: of detectron2's data set, the run's first test set.
        bit_maps: whether to find out where the bits go, which takes a second pass of the codec.

    Raises:
        WeightsError: if the weights cannot be loaded.
        DatasetError: if a picture cannot be read.
    """
    model = load_chain(run.cfg, resume=True).eval()
    mapper = CodecDetectorMapper(run.cfg, is_train=False)
    with as_evaluated(model, run.cfg, run.level, pictures=True):
        # Of frames it has a state, which is another than that of what is coded.
        of_maps = copy.deepcopy(model.codec) if bit_maps else None
        predicted, last = _predicted_frames(run), None
        for entry in entries:
            frame = frame_of(entry)
            for one in [*_frames_before(frame, last, predicted, run), entry]:
                coded = _code(model, of_maps, mapper(one), ground_truth(one))
            last = frame
            yield coded


def _predicted_frames(run: Run) -> dict[Frame | None, dict[str, Any]]:
    """A run's data set by frame, if its codec predicts frames."""
    if not find_codec(run.cfg.MODEL.CODEC.NAME).predicts_frames:
        return {}
    return {frame_of(entry): entry for entry in DatasetCatalog.get(run.dataset)}


def _frames_before(
    frame: Frame | None,
    last: Frame | None,
    frames: Mapping[Frame | None, dict[str, Any]],
    run: Run,
) -> Sequence[dict[str, Any]]:
    """What has to be coded before a frame, the first of it a key frame.

    Args:
        last: the frame that was coded before.
        frames: of :func:`_predicted_frames`.
    """
    if frame is None or not frames or last == (frame.sequence, frame.number - 1):
        return []
    first = frame.number
    while Frame(frame.sequence, first - 1) in frames:
        first -= 1
    key = frame.number - (frame.number - first) % run.cfg.MODEL.CODEC.KEY_INTERVAL
    return [frames[Frame(frame.sequence, number)] for number in range(key, frame.number)]


def _code(
    model: CodecDetector, of_maps: Codec | None, mapped: dict[str, Any], truth: Objects
) -> CodedPicture:
    (output,) = model([mapped])
    decoded = output["reconstruction"].cpu()
    original = to_codec(mapped["image"], model.image_format)
    found = _found(output)
    return CodedPicture(
        picture=decoded.permute(1, 2, 0).numpy(),
        found=found,
        bpp=output["bits"] / math.prod(decoded.shape[-2:]),
        psnr=distortion(original, decoded.float() / 255)["psnr"],
        ap=box_ap(truth, found) if "instances" in output else math.nan,
        bit_map=_map_bits(of_maps, mapped, model.image_format) if of_maps else None,
    )


def _map_bits(codec: Codec, mapped: dict[str, Any], image_format: str) -> BitMap | None:
    # Imported here because CompressAI takes seconds to import, and only learned codecs need it.
    from .pictures.bit_map import map_bits

    picture = to_codec(mapped.get("small", mapped["image"]), image_format)
    device = next((p.device for p in codec.parameters()), picture.device)
    bit_map = map_bits(codec, picture.to(device), frame_of(mapped))
    return bit_map.enlarge(*mapped["image"].shape[-2:]) if bit_map else None


def _found(output: dict[str, Any]) -> Objects:
    if "instances" not in output:
        return NOTHING
    return Objects.found(output["instances"])
