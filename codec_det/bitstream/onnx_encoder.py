"""The encoder in ONNX Runtime: a camera needs this package, numpy, Pillow, constriction,
onnxruntime and safetensors.

The ONNX file is complete: its graph holds the analysis transforms, its metadata the entropy model
(under "codec_det" as in :mod:`codec_det.bitstream.model_file`, under "entropy" its arrays, as
safetensors in base 64, or under "entropy_xz" the same compressed, in base 85). The graph has the
stages of :class:`.encoder.Stages` beside each other, and the metadata, under "tilings", the
geometry of each. Of a model of variable rate, it has under "gains" what comes between them, as
arrays like the entropy model's.
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
from .encoder import PictureEncoder, Stages
from .entropy import EntropyModel, as_integers
from .model_file import parse_metadata, restore_entropy
from .tiles import Tiling

STAGES = {"picture": ("unrounded",), "latents": ("y", "z", "scales")}
"""Inputs of the graph, and the outputs that depend on each; without a hyperprior there is no z, and
scales are those of variable rate alone."""

GAINS = "gains"

PACKED_ENTROPY = "entropy_xz"


class OnnxFile(NamedTuple):
    """Content of an ONNX encoder.

    Attributes:
        session: runs its graph; an ``onnxruntime.InferenceSession``.
        metadata: as of :class:`codec_det.bitstream.model_file.ModelFile`.
        entropy: the entropy model, verified against its SHA-256.
        log_gains: of a model of variable rate, as of :class:`.encoder.PictureEncoder`.
    """

    session: Any
    metadata: dict[str, Any]
    entropy: EntropyModel
    log_gains: np.ndarray | None


def load_onnx_encoder(path: Path, threads: int = 0) -> PictureEncoder:
    """An encoder that runs the graph of an ONNX file on the CPU; raises as :func:`open_onnx`.

    Args:
        threads: per picture; 0: as many as there are cores.
    """
    return make_encoder(open_onnx(path, threads), path)


def make_encoder(file: OnnxFile, path: Path) -> PictureEncoder:
    """The same of a file that was opened.

    Raises:
        WeightsError: if it does not say how its graph works on tiles.
    """
    session, metadata, entropy, log_gains = file
    analyse, quantize = (partial(_run, session, name) for name in STAGES)
    if len(session.get_inputs()) == 1:
        # Files of earlier versions have both stages as one, of whole pictures.
        return PictureEncoder(
            lambda batch: [*map(as_integers, analyse(batch.astype(np.float32) / 255))], entropy
        )
    try:
        first, second = (
            Tiling(inputs, tuple(outputs), margin)
            for inputs, outputs, margin in metadata["tilings"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"'{path}' does not say what tiles it needs ({error!r})") from None
    return PictureEncoder(Stages(analyse, quantize, (first, second)), entropy, log_gains)


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
    # What is asked for does not depend on the other input, which must be there all the same.
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
        packed = found.get(PACKED_ENTROPY)
        state = safetensors.numpy.load(_unpack(packed) if packed else _plain(found["entropy"]))
        gains = (
            safetensors.numpy.load(_plain(found[GAINS]))["log_gains"] if GAINS in found else None
        )
    except WeightsError:
        raise
    except (KeyError, ValueError, lzma.LZMAError, SafetensorError) as error:
        raise WeightsError(f"'{path}' has a damaged entropy model ({error!r})") from None
    except Exception as error:  # onnxruntime's own classes, which derive from nothing narrower
        raise WeightsError(f"'{path}' is damaged or no ONNX model ({error})") from error
    entropy = restore_entropy(state, metadata, path)
    wanted = (entropy.expected.levels, entropy.channels)
    if (gains is None) != (wanted[0] == 1) or (gains is not None and gains.shape != wanted):
        raise WeightsError(f"'{path}' lacks the gains of its levels: export it again")
    return OnnxFile(session, metadata, entropy, gains)


def _plain(text: str) -> bytes:
    """Of base 64."""
    return base64.b64decode(text, validate=True)


def _unpack(text: str) -> bytes:
    """Of what was compressed by xz, in base 85."""
    return lzma.decompress(base64.b85decode(text))
