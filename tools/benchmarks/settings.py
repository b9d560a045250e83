"""What all sections of the benchmark share: settings, pictures, chains."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances

from codec_det.config import load_config
from codec_det.config_checks import check_config
from codec_det.data.shapes import scenes


@dataclass(frozen=True)
class BenchmarkSettings:
    """How to measure.

    Attributes:
        config_file, opts: the chain's config, as of :func:`codec_det.config.load_config`.
        size: (height, width) of pictures, wherever a section does not vary it.
        batch_size: pictures per training step.
        pictures: in the data set that is evaluated.
        frames: of the sequence that is coded.
        detected: pictures with detections, whose box AP is computed.
        sides: of the square pictures whose coding and training times are compared.
        rounds: how often each side is timed.
        threads: of PyTorch, in each process.
        device: "cpu" or "cuda".
        memory_of: the training steps whose memory is measured, by name; (): all.
        codecs: those that are compared with CompressAI's.
        codec_size: (height, width) of the picture that these code.
        quality, weights: of these codecs; ``weights`` "": random ones.
    """

    config_file: str
    opts: tuple[str, ...] = ()
    size: tuple[int, int] = (480, 640)
    batch_size: int = 2
    pictures: int = 16
    frames: int = 10
    detected: int = 5000
    sides: tuple[int, ...] = (256, 512, 1024, 2048)
    rounds: int = 10
    threads: int = 1
    device: str = "cpu"
    memory_of: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")
    codec_size: tuple[int, int] = (512, 768)
    quality: int = 1
    weights: str = ""

    def config(self, *opts: Any) -> CfgNode:
        """The chain's config, with ``opts`` on top.

        Raises:
            ConfigError: if it cannot work.
        """
        cfg = load_config(
            self.config_file, [*self.opts, "MODEL.DEVICE", self.device, *map(str, opts)]
        )
        check_config(cfg)
        return cfg

    def clock(self) -> float:
        """Seconds, when the work of a GPU is done."""
        self.synchronize()
        return time.perf_counter()

    def synchronize(self) -> None:
        """Wait for the work of a GPU."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def training_batch(
    cfg: CfgNode, count: int, size: tuple[int, int], detector_size: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """Generated pictures with their truth, as the training loader gives them.

    Args:
        count: pictures.
        size: (height, width) that they are coded at.
        detector_size: (h, w) that the detector is to see; None: as ``INPUT.MIN_SIZE_TRAIN`` says,
            the last of them.
    """
    if detector_size is None:
        shortest, longest = cfg.INPUT.MIN_SIZE_TRAIN[-1], cfg.INPUT.MAX_SIZE_TRAIN
        detector_size = ResizeShortestEdge.get_output_shape(*size, shortest, longest)
    batch = []
    for picture, objects in scenes(count, size, seed=0):
        bgr = cfg.INPUT.FORMAT == "BGR"
        stored = np.ascontiguousarray((picture[:, :, ::-1] if bgr else picture).transpose(2, 0, 1))
        batch.append(
            {
                "image": torch.from_numpy(stored),
                "instances": _truth(cfg, objects, size, detector_size),
                "detector_size": detector_size,
                "height": size[0],
                "width": size[1],
            }
        )
    return batch


def _truth(
    cfg: CfgNode,
    objects: list[dict[str, Any]],
    size: tuple[int, int],
    detector_size: tuple[int, int],
) -> Instances:
    corners = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    boxes = Boxes(corners)
    boxes.scale(detector_size[1] / size[1], detector_size[0] / size[0])
    classes = torch.tensor([a["category_id"] - 1 for a in objects], dtype=torch.int64)
    truth = Instances(detector_size)
    truth.gt_boxes = boxes
    truth.gt_classes = classes % cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return truth
