"""Whether the margin of tiles is what a latent sees of a picture, for tests of encoders."""

import numpy as np
import pytest
import torch
from torch import nn

from codec_det.bitstream import tiles
from codec_det.bitstream.tiles import Tiling, by_tiles
from codec_det.codec.learned.geometry import geometry


def check_margin(g_a: nn.Module, size: tuple[int, int], step: int, margin: int) -> None:
    """Latents of tiles with this margin are those of the whole picture, with a narrower one not.

    With whole numbers, sums are exact in any order, so that equal means equal.

    Args:
        g_a: of the codec; it gets other weights.
        size: height and width of the picture in pixels: many times the margin.
        step: pixels from a latent to the next, that are expected.
        margin: of tiles, in latents, that is expected.
    """
    torch.manual_seed(0)
    for parameter in g_a.parameters():
        parameter.data = torch.randint(-1, 2, parameter.shape).to(parameter)
    x = np.random.default_rng(0).integers(0, 3, (1, 3, *size)).astype(np.float32)

    @torch.inference_mode()
    def transform(part):
        return [g_a(torch.from_numpy(part)).numpy()]

    (expected,) = transform(x)
    assert 1 < np.abs(expected).max() < 2**24
    assert geometry(g_a) == (step, margin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "POSITIONS", 36)
        for own in (margin, margin - 1):
            (found,) = by_tiles(transform, x, Tiling(step, (1,), own))
            assert (found == expected).all() == (own == margin), own
