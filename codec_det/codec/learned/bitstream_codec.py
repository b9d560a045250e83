"""A learned codec that codes every picture into a file and back: real bits instead of estimates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from compressai.models import CompressionModel
from torch import Tensor, nn

from ...bitstream.ans import STREAM_BITS
from ...bitstream.container import MAX_PIXELS
from ...bitstream.encoder import PictureEncoder, gain_at
from ...bitstream.entropy import EntropyModel, Latents
from ...bitstream.expected import LEVEL_STEPS, Expected
from ...coding_scale import as_ratio
from ...errors import BitstreamError
from ...pixels import to_uint8
from ..base import Codec, Coded
from .freeze import freeze_entropy_model
from .gains import Gains
from .learned_codec import LearnedCodec
from .transforms import Analysis, estimated_bits, stages_of, synthesize


class PictureDecoder:
    """Files to pictures.

    Args:
        g_s: synthesis transform.
        entropy: the entropy model that belongs to it.
        max_pixels: limit on the pictures it is willing to decode.
        inverse_gains: of a model of variable rate.
    """

    def __init__(
        self,
        g_s: nn.Module,
        entropy: EntropyModel,
        max_pixels: int = MAX_PIXELS,
        inverse_gains: Gains | None = None,
    ) -> None:
        self.g_s = g_s
        self.entropy = entropy
        self.max_pixels = max_pixels
        self.inverse_gains = inverse_gains

    def decode(self, data: bytes) -> Tensor:
        """The picture in a file, (3, H, W) RGB in [0, 1] of the coded size, where ``g_s`` is.

        Raises:
            BitstreamError: if ``data`` is no intact file of this codec.
        """
        # Nothing large is allocated before the whole stream has proven sound.
        return self.synthesize(self.entropy.read(data, self.max_pixels))

    def synthesize(
        self, latents: Latents, finish: Callable[[Tensor], Tensor] = lambda pixels: pixels
    ) -> Tensor:
        """The picture of decoded latents, as :meth:`decode` returns it.

        Args:
            finish: what is done with pixels, so that a large picture is never held without it.

        Raises:
            BitstreamError: if they are so large that there is none.
        """

        def check(pixels: Tensor) -> Tensor:
            if pixels.isnan().any():
                raise BitstreamError(
                    "the latents decode to values that are no numbers: the file was not made by "
                    "an encoder, or the model's weights have diverged"
                )
            return finish(pixels)

        y = decoded_values(latents, self.inverse_gains)
        height, width = latents.picture.coded_size
        return synthesize(self.g_s, y[None], check)[0, :, :height, :width]


def decoded_values(latents: Latents, inverse_gains: Gains | None = None) -> np.ndarray:
    """ŷ (M, h, w), float32: what a synthesis transform or a bridge takes.

    Args:
        inverse_gains: of a model of variable rate.
    """
    y = latents.values
    if inverse_gains is not None:
        y *= gain_at(inverse_gains.as_array(), latents.picture.level / LEVEL_STEPS)
    return y


def picture_encoder(
    model: CompressionModel, entropy: EntropyModel, gains: Gains | None = None
) -> PictureEncoder:
    """An encoder that runs a CompressAI model's transforms where its weights are."""
    analysis = Analysis(model, entropy).to(next(model.parameters()).device)
    log_gains = None if gains is None else gains.as_array()
    return PictureEncoder(stages_of(analysis.eval()), entropy, log_gains)


class BitstreamCodec(Codec):
    """Evaluates a learned codec by the files it makes.

    Besides the usual, "measured" of each picture has "estimated_bits" (by the likelihoods of the
    same latents), "overhead_bits" (container and start of the stream, constant per picture),
    "encode_seconds", "decode_seconds" and "codec_seconds", which both took together.

    Args:
        codec: trained, with its tables up to date; it is used as it is, not copied.
        scale: coding scale that files need not say, as those of a model exported for it.

    Raises:
        WeightsError: if it cannot be written to files.
    """

    def __init__(self, codec: LearnedCodec, scale: float = 1.0) -> None:
        super().__init__()
        self.codec = codec.eval()
        self.levels, self.level = codec.levels, codec.level
        expected = Expected(scale=as_ratio(scale), levels=codec.levels)
        self.entropy = freeze_entropy_model(codec.name, codec.model, expected)
        self.stride = codec.stride
        self.encoder = picture_encoder(codec.model, self.entropy, codec.gains)
        # An evaluation codes what its data set has, however large.
        self.decoder = PictureDecoder(codec.model.g_s, self.entropy, 2**62, codec.inverse_gains)

    def forward(
        self,
        images: Sequence[Tensor],
        pictures: bool = True,
        levels: Sequence[float] | None = None,
    ) -> Coded:
        """As :meth:`Codec.forward`, of pictures rounded to 8 bits, as a camera gives them.

        Args:
            levels: as of :meth:`BatchedCodec.forward`, in steps of 1/64.
        """
        return self.code_shrunk(images, [image.shape[-2:] for image in images], pictures, levels)

    def code_shrunk(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[Sequence[int]],
        pictures: bool = True,
        levels: Sequence[float] | None = None,
    ) -> Coded:
        reconstructions, bits, latents, measured = [], [], [], []
        levels = levels or self.usual_levels(len(images))
        for image, (height, width), level in zip(images, sizes, levels, strict=True):
            picture = to_uint8(image).permute(1, 2, 0).cpu().numpy()
            start = time.perf_counter()
            (data,) = self.encoder.encode_shrunk([picture], [(height, width)], level)
            middle = time.perf_counter()
            decoded = self.entropy.read(data, self.decoder.max_pixels)
            if pictures:
                # A copy: tensors of inference mode are refused wherever gradients may be kept.
                reconstructions.append(self.decoder.synthesize(decoded).clone())
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            end = time.perf_counter()
            bits.append(8.0 * len(data))
            latents.append(
                torch.from_numpy(decoded_values(decoded, self.codec.inverse_gains)).to(image)
            )
            measured.append(
                {
                    "estimated_bits": self._estimate(decoded, image.device),
                    "overhead_bits": 8.0 * self.entropy.overhead_bytes(decoded) + STREAM_BITS,
                    "encode_seconds": middle - start,
                    "decode_seconds": end - middle,
                    # Without the time that the estimate takes.
                    "codec_seconds": end - start,
                }
            )
        spent = torch.tensor(bits, dtype=torch.float64)
        return Coded(reconstructions, spent, spent, latents, measured)

    def _estimate(self, latents: Latents, device: torch.device) -> float:
        y, z = (torch.from_numpy(x).float()[None].to(device) for x in (latents.y, latents.z))
        return estimated_bits(self.codec.model, y, z if self.entropy.hyperprior else None)
