"""Frames of sequences to what is sent of them, by a trained codec, and evaluation by that."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...bitstream.ans import STREAM_BITS
from ...bitstream.encoder import PictureEncoder
from ...bitstream.entropy import Latents, as_integers
from ...bitstream.expected import Picture, Size
from ...bitstream.prediction import Prediction, SequenceReader
from ...bitstream.stream import Sent
from ...pixels import to_uint8
from ...sequences import Frame, Reference
from ..base import Coded, join
from .bitstream_codec import BitstreamCodec
from .freeze import freeze_prediction
from .prediction import DEAD_ZONE, FramePrediction
from .quantization import bits_of
from .temporal_codec import TemporalCodec


class SequenceEncoder:
    """Codes frames one after another: files of key frames, streams of the others.

    Args:
        pictures: encoder of key frames, whose analysis transform it takes.
        model: float model of predicted frames, whose hyper-analysis it takes.
        prediction: its frozen entropy model.
        key_interval: frames from a key frame to the next.

    Attributes:
        pictures, prediction: these.
    """

    def __init__(
        self,
        pictures: PictureEncoder,
        model: FramePrediction,
        prediction: Prediction,
        key_interval: int,
    ) -> None:
        self.pictures = pictures
        self._model = model
        self.prediction = prediction
        bottleneck, tables = model.entropy_bottleneck, prediction.hyperprior.tables
        self._medians = bottleneck.quantiles[:, 0, 1].detach().cpu().numpy()[:, None, None]
        self._range = tables.lowest[:, None, None], tables.highest[:, None, None]
        self._reference: Reference[np.ndarray] = Reference(key_interval)

    def encode(self, small: np.ndarray, size: Size, frame: Frame) -> tuple[bool, bytes]:
        """Whether a frame is a key frame, and what is sent of it.

        Args:
            small: (H, W, 3) uint8 RGB, at its coded size.
            size: height and width that it was shrunk from.

        Raises:
            CodecDetError: if it cannot be coded.
        """
        previous = self._reference.of(frame, (*size, *small.shape))
        if previous is None:
            (data,) = self.pictures.encode_shrunk([small], [size])
            latents = self.pictures.entropy.read(data, small.size)
        else:
            data, latents = self._predict(small, size, previous)
        self._reference.keep(latents.values)
        return previous is None, data

    def _predict(
        self, small: np.ndarray, size: Size, previous: np.ndarray
    ) -> tuple[bytes, Latents]:
        height, width, _ = small.shape
        y = self.pictures.unrounded(small)[0]
        z = np.clip(np.rint(self._hyper_analysis(y, previous) - self._medians), *self._range)
        _, means = self.prediction.tables_and_means(z, previous)
        rest = y - means
        symbols = as_integers(np.sign(rest) * np.rint(np.maximum(abs(rest) - DEAD_ZONE, 0)))
        latents = Latents(symbols, as_integers(z), means, Picture(size, (height, width)))
        return self.prediction.write(latents, previous), latents

    @torch.inference_mode()
    def _hyper_analysis(self, y: np.ndarray, previous: np.ndarray) -> np.ndarray:
        device = next(self._model.parameters()).device
        both = (torch.from_numpy(x)[None].to(device) for x in (y, previous))
        return self._model.hyper_analysis(*both)[0].cpu().numpy()


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
        self.sender = SequenceEncoder(
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
        coded = [
            super(TemporalBitstreamCodec, self).code_shrunk([image], [size], pictures)
            if frame is None
            else self._code_frame(image, (size[0], size[1]), frame, pictures)
            for image, size, frame in zip(images, sizes, frames, strict=True)
        ]
        return join(coded)

    def _code_frame(self, image: Tensor, size: Size, frame: Frame, pictures: bool) -> Coded:
        small = to_uint8(image).permute(1, 2, 0).cpu().numpy()
        start = time.perf_counter()
        is_key, data = self.sender.encode(small, size, frame)
        middle = time.perf_counter()
        previous = self.reader.previous
        decoded = self.reader.read(is_key, data)
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
            assert previous is not None, "the reader has read what the sender has coded"
            estimated, header = self._estimate_predicted(decoded, previous, image.device), besides
        figures = {
            "estimated_bits": estimated,
            "overhead_bits": 8.0 * header + STREAM_BITS,
            "encode_seconds": middle - start,
            "decode_seconds": end - middle,
            # Without the time that the estimate takes.
            "codec_seconds": end - start,
        }
        bits = torch.tensor([8.0 * (len(data) + besides)], dtype=torch.float64)
        latents = torch.from_numpy(decoded.values).to(image)
        return Coded(shown, bits, bits, [latents], [figures])

    @torch.inference_mode()
    def _estimate_predicted(
        self, latents: Latents, previous: np.ndarray, device: torch.device
    ) -> float:
        """Bits by the likelihoods of the float model."""
        model = self.codec.prediction
        y, z, seen = (
            torch.from_numpy(x).float()[None].to(device) for x in (latents.y, latents.z, previous)
        )
        medians = model.entropy_bottleneck.quantiles[:, 0, 1][:, None, None]
        z_hat, of_z = model.entropy_bottleneck(z + medians)
        scales, _ = model.scales_and_means(z_hat, seen)
        _, of_y = model.gaussian_conditional(y, scales)
        return (bits_of(of_z) + bits_of(of_y)).item()
