"""ONNX encoders whose convolutions are computed with 8-bit integers.

Weights, with a scale per output channel, and maps, with a scale each that is found from the maps of
given pictures, are quantized by ONNX Runtime (Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", CVPR 2018). Only what the camera chooses
to send changes by it. The entropy model, whose hyper-synthesis is in integers already, is not
touched, so that files are as exact as ever, and any receiver of the float encoder reads them.

A layer is a convolution: of a GDN, the one over squares. Those that hurt stay in float: as long as
rate times error is above a bound, the layer goes back which is worst where it alone is quantized.
"""

from __future__ import annotations

import base64
import json
import logging
import lzma
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from ..bitstream.encoder import PictureEncoder, gain_at
from ..bitstream.model_file import ENTROPY, PREDICTION
from ..bitstream.onnx_encoder import FRAMES, PACKED, make_encoder, open_onnx
from ..coding_scale import shrink
from ..data.image_io import read_image
from ..errors import CodecDetError
from ..files import atomic_file

BOUND = 1.01
"""Rate times error that quantization may lead to, as a factor of the float encoder's. Codecs trade
one for the other at about that price: a per cent of error for a per cent of rate."""

KEY = "int8"
"""Of a model file's metadata: what :meth:`Outcome.facts` says."""


PIXELS = {"rmin": np.float32(0), "rmax": np.float32(1)}


class Outcome(NamedTuple):
    """What quantization led to, on the pictures that it was made with.

    Attributes:
        layers: in 8 bits, by name: "g_a.0" is the first of g_a.
        float_layers: the others.
        rate: bytes of files, as a factor of the float encoder's.
        error: the same of squared errors of decoded latents, against those that were not rounded.
        pictures: how many.
    """

    layers: tuple[str, ...]
    float_layers: tuple[str, ...]
    rate: float
    error: float
    pictures: int

    def facts(self) -> dict[str, Any]:
        """JSON-ready, for the metadata of a model file."""
        return self._asdict()


def save_int8_encoder(path: Path, source: Path, pictures: Sequence[Path]) -> Outcome:
    """Write the encoder of an ONNX file with its convolutions in 8 bits.

    Args:
        source: file of :func:`.model_files.save_onnx_encoder`.
        pictures: files of pictures like those that will be coded; some dozen show what their maps
            range over, what lies beyond is cut off.

    Raises:
        DatasetError: if a picture cannot be read.
        CodecDetError: if none of the layers can be in 8 bits within the bound.
    """
    reference = make_encoder(open_onnx(source), source)
    layers = find_layers(source)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.onnx"

        def measure(chosen: Sequence[str]) -> tuple[float, float]:
            quantize(source, trial, [node for layer in chosen for node in layers[layer]], pictures)
            return compare(make_encoder(open_onnx(trial), trial), reference, pictures)

        chosen, (rate, error) = choose_layers([*layers], measure)
        left = tuple(layer for layer in layers if layer not in chosen)
        outcome = Outcome(tuple(chosen), left, rate, error, len(pictures))
        _save(path, trial, outcome)
    return outcome


def choose_layers(
    layers: Sequence[str], measure: Callable[[Sequence[str]], tuple[float, float]]
) -> tuple[list[str], tuple[float, float]]:
    """The layers to quantize, and what ``measure`` says of them, which is called for them last.

    Args:
        measure: layers to rate and error, as factors.

    Raises:
        CodecDetError: if none can be.
    """
    chosen = list(layers)
    factors = measure(chosen)
    if np.prod(factors) > BOUND:
        best_first = sorted(layers, key=lambda layer: np.prod(measure([layer])))
        while np.prod(factors) > BOUND:
            chosen.remove(best_first.pop())
            if not chosen:
                raise CodecDetError(
                    "no layer of the encoder can be computed in 8 bits without its rate times its "
                    f"error growing by more than {BOUND - 1:.0%}: deploy it without --int8"
                )
            factors = measure(chosen)
    return chosen, factors


def find_layers(source: Path) -> dict[str, list[str]]:
    """Names of the nodes that can be quantized, by layer, in order.

    The hyper-analysis of predicted frames, a thirtieth of their transforms, stays in float: what is
    measured is pictures.
    """
    import onnx

    layers: dict[str, list[str]] = {}
    for node in onnx.load(source, load_external_data=False).graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and not node.name.startswith(FRAMES):
            layers.setdefault(node.name.split("/")[0], []).append(node.name)
    return layers


def quantize(source: Path, target: Path, nodes: Sequence[str], pictures: Sequence[Path]) -> None:
    """Quantize the nodes of these names, and the maps that they take and give."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _no_warnings():
        quantize_static(
            source,
            target,
            _Reader(source, pictures),
            # Operators between such nodes are then fused with them when the file is opened.
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # Signed maps would take another kernel, which is slower than float32 is.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[*nodes],
            # Pixels are 8-bit integers: so they stay exact.
            extra_options={"TensorQuantOverrides": {"picture": [PIXELS]}},
        )


def compare(
    encoder: PictureEncoder, reference: PictureEncoder, pictures: Sequence[Path]
) -> tuple[float, float]:
    """Rate and error of ``encoder`` as factors of those of the reference, as of :class:`Outcome`.

    Of a model of variable rate, those of its lowest and highest level together.
    """
    rates, errors = np.zeros(2), np.zeros(2)
    for path in pictures:
        picture = read_image(path, "RGB")
        unrounded = reference.unrounded(shrink(picture, reference.entropy.expected.scale))[0]
        for level in _levels(reference):
            gains = reference.log_gains
            exact = unrounded if gains is None else unrounded * gain_at(gains, level)
            for i, each in enumerate((encoder, reference)):
                data = each.encode(picture, level)
                latents = reference.entropy.read(data, sys.maxsize)
                rates[i] += len(data)
                errors[i] += np.square(latents.y + latents.means - exact, dtype=np.float64).sum()
    return float(rates[0] / rates[1]), float(errors[0] / errors[1])


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Within it, logging is left to errors: graphs are as they should be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _levels(encoder: PictureEncoder) -> list[float]:
    return sorted({0.0, float(encoder.levels - 1)})


class _Reader:
    """What ONNX Runtime's calibration runs a graph on: what coding the pictures feeds it with."""

    def __init__(self, source: Path, pictures: Sequence[Path]) -> None:
        self._file = open_onnx(source)
        self._encoder = make_encoder(self._file._replace(session=self), source)
        self._fed: list[dict[str, np.ndarray]] = []
        self._inputs = self._gather(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next inputs, by name."""
        return next(self._inputs, None)

    def run(self, names: Any, fed: dict[str, np.ndarray], options: Any) -> Any:
        """As of the session, which the encoder takes this for."""
        self._fed.append(fed)
        return self._file.session.run(names, fed, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file.session, name)

    def _gather(self, pictures: Sequence[Path]) -> Iterator[dict[str, np.ndarray]]:
        for path in pictures:
            picture = read_image(path, "RGB")
            for level in _levels(self._encoder):
                self._encoder.encode(picture, level)
            yield from self._fed
            self._fed.clear()


def _save(path: Path, quantized: Path, outcome: Outcome) -> None:
    """Write a quantized graph with the metadata of an encoder, its entropy models compressed.

    They would be the larger part of the file. Float encoders leave it as it is, for programs of
    earlier versions, which read them.
    """
    import onnx

    model = onnx.load(quantized)
    metadata = {each.key: each.value for each in model.metadata_props}
    for name in {ENTROPY, PREDICTION} & metadata.keys():
        arrays = base64.b64decode(metadata.pop(name))
        metadata[name + PACKED] = base64.b85encode(lzma.compress(arrays)).decode()
    described = json.loads(metadata["codec_det"])
    metadata["codec_det"] = json.dumps({**described, KEY: outcome.facts()})
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    with atomic_file(path) as unfinished:
        onnx.save(model, unfinished)
