"""Frames of sequences to what is sent of them, by a trained codec, and evaluation by that."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...bitstream.ans import STREAM_BITS
from ...bitstream.encoder import PictureEncoder
from ...bitstream.entropy import Latents
from ...bitstream.expected import Size
from ...bitstream.frame_encoder import SequenceEncoder
from ...bitstream.prediction import Prediction, SequenceReader
from ...bitstream.stream import Sent
from ...pixels import to_uint8
from ...sequences import Frame
from ..base import Coded, join
from .bitstream_codec import BitstreamCodec, decoded_values
from .freeze import freeze_prediction
from .prediction import FramePrediction
from .quantization import bits_of
from .temporal_codec import TemporalCodec
from .transforms import FrameAnalysis, hyper_analysis_of


def sequence_encoder(
    pictures: PictureEncoder, model: FramePrediction, prediction: Prediction, key_interval: int
) -> SequenceEncoder:
    """An encoder of frames that runs the transforms of a model wherever its weights are.

    Args:
        model: float model of predicted frames, whose hyper-analysis it takes.
        pictures, prediction, key_interval: as of :class:`SequenceEncoder`.
    """
    hyper_analysis = hyper_analysis_of(FrameAnalysis(model, prediction.hyperprior))
    return SequenceEncoder(pictures, hyper_analysis, prediction, key_interval)


class TemporalBitstreamCodec(BitstreamCodec):
    """Evaluates a codec of sequences by what it sends: files of key frames, streams of others.

    All frames are charged what a stream of a sequence says of them besides, too.

    Args:
        codec, scale: as of :class:`BitstreamCodec`.

    Raises:
        WeightsError: if it cannot be written to files.
    """

    codec: TemporalCodec

    def __init__(self, codec: TemporalCodec, scale: float = 1.0) -> None:
        super().__init__(codec, scale)
        self.prediction = freeze_prediction(codec.name, codec.prediction, self.entropy)
        self.sender = sequence_encoder(
            self.encoder, codec.prediction, self.prediction, codec.key_interval
        )
        self.reader = SequenceReader(self.prediction, self.decoder.max_pixels)
        self._frames: Sequence[Frame | None] = ()

    def follow(self, frames: Sequence[Frame | None]) -> None:
        self._frames = frames

    def code_shrunk(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[Sequence[int]],
        pictures: bool = True,
        levels: Sequence[float] | None = None,
    ) -> Coded:
        frames, self._frames = self._frames, ()
        if not any(frames):
            return super().code_shrunk(images, sizes, pictures, levels)
        levels = levels or self.usual_levels(len(images))
        coded = [
            super(TemporalBitstreamCodec, self).code_shrunk([image], [size], pictures, [level])
            if frame is None
            else self._code_frame(image, (size[0], size[1]), frame, level, pictures)
            for image, size, frame, level in zip(images, sizes, frames, levels, strict=True)
        ]
        return join(coded)

    def _code_frame(
        self, image: Tensor, size: Size, frame: Frame, level: float, pictures: bool
    ) -> Coded:
        small = to_uint8(image).permute(1, 2, 0).cpu().numpy()
        start = time.perf_counter()
        is_key, data = self.sender.encode(small, size, frame, level)
        middle = time.perf_counter()
        before = self.reader.before
        decoded = self.reader.read(is_key, data, frame.number)
        # A copy: tensors of inference mode are refused wherever gradients may be kept.
        shown = [self.decoder.synthesize(decoded).clone()] if pictures else []
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
        end = time.perf_counter()
        besides = len(Sent(frame.number, is_key, data).pack()) - len(data)
        if is_key:
            estimated = self._estimate(decoded, image.device)
            header = besides + self.entropy.overhead_bytes(decoded)
        else:
            assert before is not None, "the reader has read what the sender has coded"
            estimated, header = self._estimate_predicted(decoded, before, image.device), besides
        figures = {
            "estimated_bits": estimated,
            "overhead_bits": 8.0 * header + STREAM_BITS,
            "encode_seconds": middle - start,
            "decode_seconds": end - middle,
            # Without the time that the estimate takes.
            "codec_seconds": end - start,
        }
        bits = torch.tensor([8.0 * (len(data) + besides)], dtype=torch.float64)
        latents = torch.from_numpy(decoded_values(decoded, self.codec.inverse_gains)).to(image)
        return Coded(shown, bits, bits, [latents], [figures])

    @torch.inference_mode()
    def _estimate_predicted(
        self, latents: Latents, before: np.ndarray, device: torch.device
    ) -> float:
        """Bits by the likelihoods of the float model."""
        model = self.codec.prediction
        y, z, seen = (
            torch.from_numpy(x).float()[None].to(device) for x in (latents.y, latents.z, before)
        )
        medians = model.entropy_bottleneck.quantiles[:, 0, 1][:, None, None]
        z_hat, of_z = model.entropy_bottleneck(z + medians)
        scales, _ = model.scales_and_means(z_hat, seen)
        _, of_y = model.gaussian_conditional(y, scales)
        return (bits_of(of_z) + bits_of(of_y)).item()
