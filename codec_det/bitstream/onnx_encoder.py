"""The encoder in ONNX Runtime: a camera needs this package, numpy, Pillow, constriction,
onnxruntime and safetensors.

The ONNX file is complete: its graph holds the analysis transforms, its metadata the entropy models
(under "codec_det" as in :mod:`codec_det.bitstream.model_file`, under "entropy" and, of a codec of
sequences, "prediction" their arrays, as safetensors in base 64, or under "entropy_xz" and
"prediction_xz" the same compressed, in base 85). The graph has the stages of
:class:`.encoder.Stages` beside each other, with the hyper-analysis of predicted frames, and the
metadata, under "tilings", the geometry of each. Of a model of variable rate, it has under "gains"
what comes between them, as arrays like the entropy model's.
"""

from __future__ import annotations

import base64
import lzma
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from ..errors import CodecDetError, WeightsError
from .encoder import PictureEncoder, Stages, tiled
from .entropy import EntropyModel, as_integers
from .frame_encoder import SequenceEncoder
from .model_file import ENTROPY, PREDICTION, of_sequences, parse_metadata, restore_models
from .prediction import Prediction
from .tiles import Tiling

STAGES = {
    "picture": ("unrounded",),
    "latents": ("y", "z", "scales"),
    "change": ("z_of_change",),
}
"""Inputs of the graph, and the outputs that depend on each; without a hyperprior there is no z,
scales are those of variable rate alone, and the last stage that of a codec of sequences."""

GAINS = "gains"

FRAMES = "frames"
"""What an encoder has in float for predicted frames."""

PACKED = "_xz"
"""After the name of an entropy model whose arrays are compressed."""


class OnnxFile(NamedTuple):
    """Content of an ONNX encoder.

    Attributes:
        session: runs its graph; an ``onnxruntime.InferenceSession``.
        metadata: as of :class:`codec_det.bitstream.model_file.ModelFile`.
        entropy: the entropy model, verified against its SHA-256.
        prediction: the same of predicted frames; None of a codec of single pictures.
        log_gains: of a model of variable rate, as of :class:`.encoder.PictureEncoder`.
    """

    session: Any
    metadata: dict[str, Any]
    entropy: EntropyModel
    prediction: Prediction | None
    log_gains: np.ndarray | None


def load_onnx_encoder(path: Path, threads: int = 0) -> PictureEncoder:
    """An encoder that runs the graph of an ONNX file on the CPU; raises as :func:`open_onnx`.

    Args:
        threads: per picture; 0: as many as there are cores.
    """
    return make_encoder(open_onnx(path, threads), path)


def load_onnx_sequence_encoder(path: Path, threads: int = 0) -> SequenceEncoder:
    """The encoder of frames in an ONNX file, as :func:`load_onnx_encoder` has one of pictures.

    Raises:
        WeightsError: as that, or if it codes single pictures alone.
    """
    file = open_onnx(path, threads)
    prediction = of_sequences(path, file.entropy, file.prediction)
    pictures = make_encoder(file, path)
    try:
        interval, (tiling,) = file.metadata["codec"]["key_interval"], _tilings(file)[2:]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"'{path}' does not say how it codes frames ({error!r})") from None
    hyper_analysis = tiled(partial(_run, file.session, "change"), tiling)
    return SequenceEncoder(pictures, hyper_analysis, prediction, interval)


def make_encoder(file: OnnxFile, path: Path) -> PictureEncoder:
    """The same of a file that was opened.

    Raises:
        WeightsError: if it does not say how its graph works on tiles.
    """
    session, entropy = file.session, file.entropy
    analyse, quantize = (partial(_run, session, name) for name in ("picture", "latents"))
    if len(session.get_inputs()) == 1:
        # Files of earlier versions have both stages as one, of whole pictures.
        return PictureEncoder(
            lambda batch: [*map(as_integers, analyse(batch.astype(np.float32) / 255))], entropy
        )
    try:
        first, second = _tilings(file)[:2]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"'{path}' does not say what tiles it needs ({error!r})") from None
    return PictureEncoder(Stages(analyse, quantize, (first, second)), entropy, file.log_gains)


def _tilings(file: OnnxFile) -> list[Tiling]:
    """Of the stages; raises KeyError, TypeError or ValueError if it does not say them."""
    return [
        Tiling(inputs, tuple(outputs), margin)
        for inputs, outputs, margin in file.metadata["tilings"]
    ]


def _run(session: Any, name: str, maps: np.ndarray) -> list[np.ndarray]:
    """Outputs of the stage whose input has this ``name``.

    Raises:
        CodecDetError: if it cannot be computed.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    there = outputs if len(inputs) == 1 else [own for own in outputs if own in STAGES[name]]
    # What is asked for does not depend on other inputs, which must be there all the same.
    fed = {
        each.name: np.ascontiguousarray(maps)
        if each.name == name
        else np.zeros([1 if isinstance(side, str) else side for side in each.shape], np.float32)
        for each in inputs
    }
    try:
        return session.run(there, fed, options)
    except Exception as error:  # onnxruntime's own classes; most likely memory
        raise CodecDetError(f"ONNX Runtime cannot code it: {error}") from error


def open_onnx(path: Path, threads: int = 0) -> OnnxFile:
    """Read an ONNX encoder.

    Args:
        threads: per picture; 0: as many as there are cores.

    Raises:
        WeightsError: if the file is missing, damaged or no encoder, or onnxruntime is missing.
    """
    if not path.is_file():
        raise WeightsError(f"'{path}' does not exist: make it with tools/export_model.py --onnx")
    try:
        import onnxruntime
    except ImportError:
        raise WeightsError(
            f"'{path}' needs ONNX Runtime, which is not installed: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # It plans a run's memory as one block, which takes twice as much, and saves no time.
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map
        metadata = parse_metadata(found.get("codec_det"), path, "encoder")
        names = (ENTROPY, PREDICTION) if PREDICTION in metadata else (ENTROPY,)
        states = {name: _state(found, name) for name in names}
        gains = _state(found, GAINS)["log_gains"] if GAINS in found else None
    except WeightsError:
        raise
    except (KeyError, ValueError, lzma.LZMAError, SafetensorError) as error:
        raise WeightsError(f"'{path}' has a damaged entropy model ({error!r})") from None
    except Exception as error:  # onnxruntime's own classes, which derive from nothing narrower
        raise WeightsError(f"'{path}' is damaged or no ONNX model ({error})") from error
    entropy, prediction = restore_models(states, metadata, path)
    wanted = (entropy.expected.levels, entropy.channels)
    if (gains is None) != (wanted[0] == 1) or (gains is not None and gains.shape != wanted):
        raise WeightsError(f"'{path}' lacks the gains of its levels: export it again")
    return OnnxFile(session, metadata, entropy, prediction, gains)


def _state(found: dict[str, str], name: str) -> dict[str, np.ndarray]:
    """Arrays of a name, compressed or not."""
    packed = found.get(name + PACKED)
    return safetensors.numpy.load(
        lzma.decompress(base64.b85decode(packed))
        if packed
        else base64.b64decode(found[name], validate=True)
    )
