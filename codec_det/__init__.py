"""A learned image codec in front of a detectron2 detector, trained for rate and accuracy.

Importing the package registers the meta-architecture ``CodecDetector``.
"""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("detectron2") is None:
    raise ImportError(
        "codec_det needs detectron2, which is not installed: run "
        "`python tools/install_detectron2.py` in the codec_det checkout"
    )

from .config import add_codec_det_config, get_codec_det_cfg
from .meta_arch import CodecDetector, NoDetector

__all__ = ["CodecDetector", "NoDetector", "add_codec_det_config", "get_codec_det_cfg"]
