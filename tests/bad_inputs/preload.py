"""Imported once, by the process that all rows are forked from: whatever tools import."""

import contextlib
import importlib
import pkgutil
import warnings

import codec_det

OTHERS = (
    "compressai.zoo",
    "detectron2.engine",
    "faster_coco_eval",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "onnxruntime",
    "pycocotools.coco",
    "torch.utils.cpp_extension",
    "torch.utils.tensorboard",
    "torchvision",
    "tests.bad_inputs.process",
)

warnings.simplefilter("ignore")
for name in (
    *OTHERS,
    *(module.name for module in pkgutil.walk_packages(codec_det.__path__, "codec_det.")),
):
    # What is not installed, the tools must do without.
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
warnings.resetwarnings()
