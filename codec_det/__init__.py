"""A learned image codec in front of a detectron2 detector, trained for rate and accuracy.

Importing the package registers the meta-architecture ``CodecDetector``. Where detectron2 is not
installed, as on a camera, :mod:`codec_det.bitstream` and :mod:`codec_det.conventional` still work.
"""

from importlib.util import find_spec
from typing import NoReturn

__version__ = "0.1.0"
__all__ = ["CodecDetector", "NoDetector", "add_codec_det_config", "get_codec_det_cfg"]

if find_spec("detectron2") is not None:
    from .config import add_codec_det_config, get_codec_det_cfg
    from .meta_arch import CodecDetector, NoDetector
else:

    def __getattr__(name: str) -> NoReturn:
        if name not in __all__:
            raise AttributeError(f"module 'codec_det' has no attribute '{name}'")
        raise ImportError(
            f"codec_det.{name} needs detectron2, which is not installed: run "
            "`python tools/install_detectron2.py` in the codec_det checkout"
        )
