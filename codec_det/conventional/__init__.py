"""Conventional still-picture codecs behind one interface; needs numpy and Pillow alone.

``build_picture_codec("hevc", 32).encode(picture)`` gives bytes, and ``.decode(bytes)`` a picture.
JPEG XL, AVC, HEVC and VVC also need ``pip install 'codec_det[conventional]'``.
"""

from .base import PictureCodec, QualityRange
from .build import add_picture_codec, build_picture_codec, picture_codecs
from .cache import CodedCache

__all__ = [
    "CodedCache",
    "PictureCodec",
    "QualityRange",
    "add_picture_codec",
    "build_picture_codec",
    "picture_codecs",
]
