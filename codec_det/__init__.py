"""A learned image codec in front of a detectron2 detector, trained for rate and accuracy.

Importing the package registers the meta-architectures ``CodecDetector`` and ``NoDetector``, but
loads neither PyTorch nor detectron2: :mod:`codec_det.bitstream` and :mod:`codec_det.conventional`
work without them, as on a camera.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .registration import register_with_detectron2

if TYPE_CHECKING:
    from .config import add_codec_det_config, get_codec_det_cfg
    from .meta_arch import CodecDetector, NoDetector

__version__ = "0.1.0"
__all__ = ["CodecDetector", "NoDetector", "add_codec_det_config", "get_codec_det_cfg"]

register_with_detectron2()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'codec_det' has no attribute '{name}'")
    if find_spec("detectron2") is None:
        raise ImportError(
            f"codec_det.{name} needs detectron2, which is not installed: run "
            "`codec-det install_detectron2` (in a checkout, tools/install_detectron2.py)"
        )
    home = import_module(".config" if name.endswith(("config", "cfg")) else ".meta_arch", __name__)
    return getattr(home, name)
