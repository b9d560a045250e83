"""The encoder in ONNX Runtime: a camera needs this package, numpy, Pillow, constriction,
onnxruntime and safetensors.

The ONNX file is complete: its graph holds the analysis transforms, its metadata the entropy model
(under "codec_det" as in :mod:`codec_det.bitstream.model_file`, under "entropy" its arrays, as
safetensors in base 64).
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from ..errors import CodecDetError, WeightsError
from .encoder import PictureEncoder
from .entropy import EntropyModel
from .model_file import parse_metadata, restore_entropy


class OnnxFile(NamedTuple):
    """Content of an ONNX encoder.

    Attributes:
        session: runs its graph; an ``onnxruntime.InferenceSession``.
        metadata: as of :class:`codec_det.bitstream.model_file.ModelFile`.
        entropy: the entropy model, verified against its SHA-256.
    """

    session: Any
    metadata: dict[str, Any]
    entropy: EntropyModel


def load_onnx_encoder(path: Path, threads: int = 0) -> PictureEncoder:
    """An encoder that runs the graph of an ONNX file on the CPU; raises as :func:`open_onnx`.

    Args:
        threads: per picture; 0: as many as there are cores.
    """
    session, _, entropy = open_onnx(path, threads)

    def analysis(batch: np.ndarray) -> list[np.ndarray]:
        try:
            return session.run(None, {"picture": batch})
        except Exception as error:  # onnxruntime's own classes; most likely memory
            raise CodecDetError(f"ONNX Runtime cannot code it: {error}") from error

    return PictureEncoder(analysis, entropy)


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
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map
        metadata = parse_metadata(found.get("codec_det"), path, "encoder")
        state = safetensors.numpy.load(base64.b64decode(found["entropy"], validate=True))
    except WeightsError:
        raise
    except (KeyError, binascii.Error, SafetensorError) as error:
        raise WeightsError(f"'{path}' has a damaged entropy model ({error!r})") from None
    except Exception as error:  # onnxruntime's own classes, which derive from nothing narrower
        raise WeightsError(f"'{path}' is damaged or no ONNX model ({error})") from error
    return OnnxFile(session, metadata, restore_entropy(state, metadata, path))
