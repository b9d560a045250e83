"""Pictures as files: a container, exact entropy coding, and models to deploy.

Nothing here imports torch or detectron2, so that a camera needs neither: numpy and constriction
do the entropy coding, and ONNX Runtime can run the transforms. docs/bitstream.md specifies the
file byte by byte.
"""

from .container import MAX_PIXELS, Header
from .encoder import PictureEncoder
from .entropy import EntropyModel
from .expected import Expected, Picture
from .ids import CODEC_IDS

__all__ = [
    "CODEC_IDS",
    "MAX_PIXELS",
    "EntropyModel",
    "Expected",
    "Header",
    "Picture",
    "PictureEncoder",
]
