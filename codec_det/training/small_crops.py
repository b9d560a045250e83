"""Crops so small that a codec cannot learn from them what it does near the sides of pictures."""

from __future__ import annotations

from detectron2.config import CfgNode

from ..codec.table import find_codec
from ..coding_scale import coded_size

# Four convolutions of 5x5 with strides of 2 make latents every 16 pixels that see 61 each.
_STRIDES_SEEN = 4


def small_crops_warning(cfg: CfgNode) -> str | None:
    """What is wrong with training a codec on the crops of a config; None if nothing is known.

    In a crop that is smaller than what a latent sees, each latent sees two opposite sides, which in
    pictures of usual sizes none does.
    """
    crop, codec = cfg.INPUT.CROP, cfg.MODEL.CODEC
    # Other types are shares of pictures, whose sizes are not known yet.
    if not (crop.ENABLED and crop.TYPE.startswith("absolute") and codec.TRAINABLE):
        return None
    high, wide = crop.SIZE if crop.TYPE == "absolute" else (crop.SIZE[0], crop.SIZE[0])
    height, width = coded_size(high, wide, codec.SCALE)
    seen = _STRIDES_SEEN * find_codec(codec.NAME).stride
    if min(height, width) >= seen:
        return None
    at_scale = f" at MODEL.CODEC.SCALE {codec.SCALE:g}" if codec.SCALE < 1 else ""
    return (
        f"INPUT.CROP.SIZE {list(crop.SIZE)}: crops of {width}x{height} pixels{at_scale} show each "
        f"latent two opposite sides at once, for it sees {seen}: the codec will not learn what it "
        "does at the sides of pictures; make crops larger, and check with "
        "tools/rate_distortion.py --borders"
    )
