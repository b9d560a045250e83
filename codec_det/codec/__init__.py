"""Image codecs behind one interface: RGB pictures in, reconstructions and bits per picture out."""

from .base import Codec, Coded
from .build import build_codec
from .names import CODEC_NAMES

__all__ = ["CODEC_NAMES", "Codec", "Coded", "build_codec"]
