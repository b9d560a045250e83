"""Trained codecs as deployed models: written once from a checkpoint, then loaded to code pictures.

An encoder has the analysis transforms, a receiver the synthesis transform (and, where
:mod:`codec_det.deploy.receiver` wrote it, a detector). Both have the frozen entropy model.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import platform
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
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
from ..bitstream.frame_encoder import SequenceEncoder
from ..bitstream.model_file import (
    ModelFile,
    describe_models,
    load_model,
    of_sequences,
    save_model,
)
from ..bitstream.onnx_encoder import (
    FRAMES,
    GAINS,
    STAGES,
    load_onnx_encoder,
    load_onnx_sequence_encoder,
)
from ..bitstream.prediction import Prediction
from ..codec.learned.bitstream_codec import PictureDecoder
from ..codec.learned.complexity import complexity
from ..codec.learned.export_layers import for_export
from ..codec.learned.fast_transforms import set_inner_dtype
from ..codec.learned.frame_coding import sequence_encoder
from ..codec.learned.learned_codec import LearnedCodec
from ..codec.learned.temporal_codec import TemporalCodec
from ..codec.learned.transforms import Analysis, FrameAnalysis, stages_of
from ..codec.table import find_codec
from ..errors import CodecDetError, ConfigError, WeightsError
from ..files import atomic_file

Module = TypeVar("Module", bound=nn.Module)

# What a receiver has to decode latents with; the second of a model of variable rate alone.
SYNTHESIS = ("g_s", "inverse_gains")
# Of the ONNX operators; ONNX Runtime has it, and the format of the file, since 1.18.
OPSET = 18
# Where PyTorch's exporter says what module a node is of, and the modules that are exported.
_SCOPES, _ANALYSIS = "pkg.torch.onnx.name_scopes", "analysis."


Rates = Mapping[str, float]
"""Bits per pixel that a model of variable rate had at each level where it was evaluated."""


def save_encoder(
    path: Path,
    codec: LearnedCodec,
    entropy: EntropyModel,
    rates: Rates | None = None,
    prediction: Prediction | None = None,
) -> None:
    """Write what a camera needs.

    Args:
        prediction: of a codec of sequences, its frozen model of predicted frames.
    """
    parts = {"analysis": to_arrays(Analysis(codec.model, entropy))}
    if codec.gains is not None:
        parts[GAINS] = to_arrays(codec.gains)
    frames = _analysis_of_frames(codec, prediction)
    if frames is not None:
        parts[FRAMES] = to_arrays(frames)
    save_model(path, "encoder", entropy, parts, codec_metadata(codec, rates), prediction)


def _analysis_of_frames(codec: LearnedCodec, prediction: Prediction | None) -> FrameAnalysis | None:
    """What an encoder computes of predicted frames; None of a codec of single pictures."""
    if prediction is None:
        return None
    assert isinstance(codec, TemporalCodec), f"{codec.name} predicts no frames"
    return FrameAnalysis(codec.prediction, prediction.hyperprior)


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


def save_onnx_encoder(
    path: Path,
    codec: LearnedCodec,
    entropy: EntropyModel,
    rates: Rates | None = None,
    prediction: Prediction | None = None,
) -> None:
    """Write the same as one ONNX file, for pictures of any size; raises as its check."""
    check_onnx_export()
    analysis, frames = Analysis(codec.model, entropy), _analysis_of_frames(codec, prediction)
    stages = _Stages(for_export(analysis), frames and for_export(frames)).cpu().eval()
    states, described = describe_models("encoder", entropy, prediction)
    tilings = [*analysis.tilings(), *([frames.tiling()] if frames else [])]
    described |= {"tilings": tilings, **codec_metadata(codec, rates)}
    of_latents = (2 + (codec.levels > 1)) if entropy.hyperprior else 1
    outputs = [*STAGES["picture"], *STAGES["latents"][:of_latents]]
    # Examples whose sides all differ, so that none is taken for a constant.
    examples = [
        torch.zeros(2, 3, 3 * entropy.stride, 4 * entropy.stride),
        torch.zeros(3, entropy.channels, 5, 7),
    ]
    if frames:
        outputs += STAGES["change"]
        examples.append(torch.zeros(5, entropy.channels, 9, 11))
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            stages,
            tuple(examples),
            input_names=[*STAGES][: len(examples)],
            output_names=outputs,
            dynamic_shapes=(dynamic,) * len(examples),
            opset_version=OPSET,
            dynamo=True,
        )
    assert program is not None
    metadata = {"codec_det": json.dumps(described)}
    metadata |= {name: in_base_64(state) for name, state in states.items()}
    if codec.gains is not None:
        metadata[GAINS] = in_base_64(to_arrays(codec.gains))
    program.model.metadata_props.update(metadata)
    _name_by_layer(program.model.graph)
    with atomic_file(path) as unfinished:
        program.save(unfinished, external_data=False)


def _name_by_layer(nodes: Iterable[Any]) -> None:
    """Name nodes LAYER/NAME, as "g_a.2/node_conv2d_1" or "frames.h_a.0/node_conv2d_9", and drop
    what else says where they are from, which is much: lines of source files on this machine."""
    for node in nodes:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        layers = [scope for scope in scopes if scope.startswith((_ANALYSIS, FRAMES))]
        if layers:
            node.name = f"{layers[-1].removeprefix(_ANALYSIS)}/{node.name}"
        node.metadata_props.clear()


def in_base_64(arrays: dict[str, np.ndarray]) -> str:
    """Arrays as safetensors, as text."""
    return base64.b64encode(safetensors.numpy.save(arrays)).decode()


class _Stages(nn.Module):
    """The stages of encoders beside each other, each with its own input: one graph of all."""

    def __init__(self, analysis: Analysis, frames: FrameAnalysis | None) -> None:
        super().__init__()
        self.analysis = analysis
        self.frames = frames

    def forward(
        self, picture: Tensor, latents: Tensor, change: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        of_pictures = self.analysis.g_a(picture), *self.analysis.quantize(latents)
        return of_pictures if self.frames is None else (*of_pictures, self.frames(change))


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
    file = load_model(path, "encoder", ("analysis", GAINS))
    codec = restore_codec(file)
    analysis = Analysis(codec.model, file.entropy)
    load_arrays(analysis, file, "analysis")
    set_inner_dtype(analysis, dtype)
    log_gains = None
    if codec.gains is not None:
        load_arrays(codec.gains, file, GAINS)
        log_gains = codec.gains.as_array()
    return PictureEncoder(stages_of(move(analysis, device)), file.entropy, log_gains)


def load_sequence_encoder(
    path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> SequenceEncoder:
    """The encoder of frames in a file; for the rest :func:`load_encoder`.

    Raises:
        WeightsError: as that, or if it codes single pictures alone.
    """
    if path.suffix == ".onnx":
        return load_onnx_sequence_encoder(path)
    prediction = load_prediction(path, "encoder")
    pictures = load_encoder(path, device, dtype=dtype)
    file = load_model(path, "encoder", (FRAMES,))
    codec = restore_codec(file)
    assert isinstance(codec, TemporalCodec), "a file with a prediction names such a codec"
    load_arrays(FrameAnalysis(codec.prediction, prediction.hyperprior), file, FRAMES)
    return sequence_encoder(
        pictures, move(codec.prediction, device), prediction, codec.key_interval
    )


def load_prediction(path: Path, kind: str = "receiver") -> Prediction:
    """The model of predicted frames in a file.

    Raises:
        WeightsError: if the file is missing, damaged, of another kind, or of single pictures.
    """
    file = load_model(path, kind)
    return of_sequences(path, file.entropy, file.prediction)


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
    file = load_model(path, "receiver", SYNTHESIS)
    if not file.part("g_s"):
        raise WeightsError(
            f"'{path}' detects in latents, and has no synthesis transform to decode pictures with: "
            "give the decoder.safetensors that was exported with it, or another of its fingerprint"
        )
    codec = restore_codec(file)
    load_synthesis(codec, file)
    set_inner_dtype(codec.model.g_s, dtype)
    move(codec, device)
    return PictureDecoder(codec.model.g_s, file.entropy, max_pixels, codec.inverse_gains)


def codec_metadata(codec: LearnedCodec, rates: Rates | None = None) -> dict[str, Any]:
    """What a model file says of its codec, its cost and its making."""
    described: dict[str, Any] = {"name": codec.name, "widths": list(codec.widths)}
    if isinstance(codec, TemporalCodec):
        described["key_interval"] = codec.key_interval
    if codec.gated:
        described["gated"] = True
    return {
        **({"rates": dict(rates)} if rates else {}),
        "codec": described,
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


def synthesis_arrays(codec: LearnedCodec) -> dict[str, dict[str, np.ndarray]]:
    """Those of :data:`SYNTHESIS` that a codec has, for :func:`load_synthesis`."""
    modules = zip(SYNTHESIS, (codec.model.g_s, codec.inverse_gains), strict=True)
    return {name: to_arrays(module) for name, module in modules if module is not None}


def load_synthesis(codec: LearnedCodec, file: ModelFile) -> None:
    """Load what decodes latents; raises as :func:`load_arrays`."""
    for name, module in zip(SYNTHESIS, (codec.model.g_s, codec.inverse_gains), strict=True):
        if module is not None:
            load_arrays(module, file, name)


def restore_codec(file: ModelFile) -> LearnedCodec:
    """A codec of the architecture that a model file names, with random weights.

    Raises:
        WeightsError: if it is not known.
    """
    try:
        codec = file.metadata["codec"]
        n, m = codec["widths"]
        if find_codec(codec["name"]).receiver != file.entropy.codec:
            raise ValueError(f"its entropy model is of a {file.entropy.codec}")
        quality = min(find_codec(codec["name"]).widths)
        levels, gated = file.entropy.expected.levels, codec.get("gated", False)
        options = {"n": n, "m": m, "levels": levels, "gated": gated}
        if file.prediction is not None:
            interval = codec["key_interval"]
            return TemporalCodec(codec["name"], quality, key_interval=interval, **options)
        return LearnedCodec(codec["name"], quality, **options)
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
