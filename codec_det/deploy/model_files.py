"""Trained codecs as deployed models: written once from a checkpoint, then loaded to code pictures.

An encoder has the analysis transforms, a receiver the synthesis transform (and, where
:mod:`codec_det.deploy.receiver` wrote it, a detector). Both have the frozen entropy model.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import platform
import warnings
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor, nn

from .. import __version__
from ..bitstream.container import MAX_PIXELS
from ..bitstream.encoder import PictureEncoder
from ..bitstream.entropy import EntropyModel
from ..bitstream.model_file import ModelFile, load_model, save_model
from ..bitstream.onnx_encoder import STAGES, load_onnx_encoder
from ..codec.learned.bitstream_codec import PictureDecoder
from ..codec.learned.complexity import complexity
from ..codec.learned.fast_transforms import set_inner_dtype
from ..codec.learned.learned_codec import LearnedCodec
from ..codec.learned.transforms import Analysis, run_analysis
from ..codec.table import find_codec
from ..errors import CodecDetError, ConfigError, WeightsError
from ..files import atomic_file

Module = TypeVar("Module", bound=nn.Module)

# Of the ONNX operators; ONNX Runtime has it, and the format of the file, since 1.18.
OPSET = 18


def save_encoder(path: Path, codec: LearnedCodec, entropy: EntropyModel) -> None:
    """Write what a camera needs."""
    parts = {"analysis": to_arrays(Analysis(codec.model, entropy))}
    save_model(path, "encoder", entropy, parts, codec_metadata(codec))


def check_onnx_export() -> None:
    """Check that what writes ONNX files is there.

    Raises:
        CodecDetError: if not.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise CodecDetError(
            f"writing ONNX files needs {' and '.join(missing)}: pip install 'codec_det[onnx]'"
        )


def save_onnx_encoder(path: Path, codec: LearnedCodec, entropy: EntropyModel) -> None:
    """Write the same as one ONNX file, for pictures of any size; raises as its check."""
    check_onnx_export()
    stages = _Stages(Analysis(codec.model, entropy)).cpu().eval()
    state, settings = entropy.state()
    described = {
        "kind": "encoder",
        "version": entropy.version,
        "entropy": {**settings, "sha256": entropy.sha256},
        "tilings": stages.analysis.tilings(),
        **codec_metadata(codec),
    }
    outputs = [*STAGES["picture"], *STAGES["latents"][: 2 if entropy.hyperprior else 1]]
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    # Examples whose sides all differ, so that none is taken for a constant.
    picture = torch.zeros(2, 3, 3 * entropy.stride, 4 * entropy.stride)
    latents = torch.zeros(3, entropy.channels, 5, 7)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            stages,
            (picture, latents),
            input_names=[*STAGES],
            output_names=outputs,
            dynamic_shapes=(dynamic, dynamic),
            opset_version=OPSET,
            dynamo=True,
        )
    assert program is not None
    program.model.metadata_props.update(
        {
            "codec_det": json.dumps(described),
            "entropy": base64.b64encode(safetensors.numpy.save(state)).decode(),
        }
    )
    with atomic_file(path) as unfinished:
        program.save(unfinished, external_data=False)


class _Stages(nn.Module):
    """The stages of an analysis beside each other, each with its own input: one graph of both."""

    def __init__(self, analysis: Analysis) -> None:
        super().__init__()
        self.analysis = analysis

    def forward(self, picture: Tensor, latents: Tensor) -> tuple[Tensor, ...]:
        return self.analysis.g_a(picture), *self.analysis.quantize(latents)


def load_encoder(
    path: Path, device: str = "cpu", threads: int = 0, dtype: torch.dtype = torch.float32
) -> PictureEncoder:
    """The encoder in a file of :func:`save_encoder` or :func:`save_onnx_encoder` (``.onnx``).

    Args:
        device: of the transforms; ONNX files run on the CPU.
        threads: per picture, of ONNX files; 0: as many as there are cores.
        dtype: of the inner convolutions (:mod:`..codec.learned.precision`), not of ONNX files.

    Raises:
        WeightsError: if the file is missing, damaged or no encoder.
        CodecDetError: if the device cannot be used.
    """
    if path.suffix == ".onnx":
        return load_onnx_encoder(path, threads)
    file = load_model(path, "encoder", ("analysis",))
    codec = restore_codec(file)
    analysis = Analysis(codec.model, file.entropy)
    load_arrays(analysis, file, "analysis")
    set_inner_dtype(analysis, dtype)
    return PictureEncoder(partial(run_analysis, move(analysis, device)), file.entropy)


def load_decoder(
    path: Path,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    dtype: torch.dtype = torch.float32,
) -> PictureDecoder:
    """The decoder in a receiver file; its detector is not read.

    Args:
        max_pixels: limit on the pictures it is willing to decode.
        dtype: of the inner convolutions (:mod:`codec_det.codec.learned.precision`).

    Raises:
        WeightsError: if the file is missing, damaged or no receiver.
        CodecDetError: if the device cannot be used.
    """
    file = load_model(path, "receiver", ("g_s",))
    if not file.part("g_s"):
        raise WeightsError(
            f"'{path}' detects in latents, and has no synthesis transform to decode pictures with: "
            "give the decoder.safetensors that was exported with it, or another of its fingerprint"
        )
    g_s = restore_codec(file).model.g_s
    load_arrays(g_s, file, "g_s")
    set_inner_dtype(g_s, dtype)
    return PictureDecoder(move(g_s, device), file.entropy, max_pixels)


def codec_metadata(codec: LearnedCodec) -> dict[str, Any]:
    """What a model file says of its codec, its cost and its making."""
    return {
        "codec": {"name": codec.name, "widths": list(codec.widths)},
        "complexity": complexity(codec.model),
        "made": {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "codec_det": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "compressai", "constriction")},
        },
    }


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """State of a module as arrays."""
    # safetensors writes the memory of an array as it lies, and channels-last memory lies otherwise.
    return {k: v.detach().cpu().contiguous().numpy() for k, v in module.state_dict().items()}


def load_arrays(module: nn.Module, file: ModelFile, part: str) -> None:
    """Load a part of a model file into ``module``, of which nothing may be missing.

    Raises:
        WeightsError: if it does not fit.
    """
    tensors = {k: torch.from_numpy(v) for k, v in file.part(part).items()}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"'{file.path}' has weights of {part} that do not fit the architecture it names "
            f"({error}): export it again"
        ) from None


def restore_codec(file: ModelFile) -> LearnedCodec:
    """A codec of the architecture that a model file names, with random weights.

    Raises:
        WeightsError: if it is not known.
    """
    try:
        codec = file.metadata["codec"]
        n, m = codec["widths"]
        if codec["name"] != file.entropy.codec:
            raise ValueError(f"its entropy model is of a {file.entropy.codec}")
        quality = min(find_codec(codec["name"]).widths)
        return LearnedCodec(codec["name"], quality, n=n, m=m)
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise WeightsError(f"'{file.path}' names no codec that is known ({error})") from None


def move(module: Module, device: str) -> Module:
    """Put a module where a user wants it, for inference.

    Raises:
        CodecDetError: if the device cannot be used.
    """
    try:
        return module.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise CodecDetError(
            f"the device '{device}' cannot be used ({str(error).splitlines()[0]}): give cpu, or "
            "cuda where PyTorch finds a GPU"
        ) from None
