"""Deployed models as files: safetensors with JSON metadata, which run no code when they are read.

What a file holds is said by its metadata under "codec_det": a JSON object with "kind" ("encoder" or
"receiver"), "version" of the format that encoders write with it, "codec" (name, widths and, where
it codes sequences, key interval), "entropy" (settings, and the SHA-256 of the entropy model), where
it codes sequences "prediction" (the same of the model of predicted frames) and, for people, who
made it. Arrays are named by part: ``entropy.*``, ``prediction.*``, ``analysis.*``, ``g_s.*``,
``detector.*``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import WeightsError
from ..files import atomic_file
from .container import FINGERPRINT_BYTES
from .entropy import EntropyModel, sha256_of_state
from .prediction import MEANS, Prediction

ENTROPY, PREDICTION = "entropy", "prediction"
"""Names of the entropy models: of pictures, and of predicted frames."""

States = dict[str, dict[str, np.ndarray]]
"""Arrays of entropy models, by their names."""


class ModelFile(NamedTuple):
    """Content of a deployed model.

    Attributes:
        path: where it was read.
        metadata: see the module.
        arrays: by name.
        entropy: the entropy model, verified against its SHA-256.
        prediction: the same of predicted frames; None of a codec of single pictures.
    """

    path: Path
    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]
    entropy: EntropyModel
    prediction: Prediction | None = None

    def part(self, name: str) -> dict[str, np.ndarray]:
        """Arrays of a part, without its prefix."""
        prefix = f"{name}."
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}


def save_model(
    path: Path,
    kind: str,
    entropy: EntropyModel,
    parts: dict[str, dict[str, np.ndarray]],
    metadata: dict[str, Any],
    prediction: Prediction | None = None,
) -> None:
    """Write a deployed model: ``parts`` are its arrays by part, the entropy models' excepted."""
    states, described = describe_models(kind, entropy, prediction)
    named = {f"{part}.{k}": v for part, own in {**parts, **states}.items() for k, v in own.items()}
    with atomic_file(path) as partial:
        # Not by save_file, whose files their owner alone may read.
        text = json.dumps({**described, **metadata})
        partial.write_bytes(save(named, metadata={"codec_det": text}))


def describe_models(
    kind: str, entropy: EntropyModel, prediction: Prediction | None
) -> tuple[States, dict[str, Any]]:
    """What a model file has of its entropy models: arrays, and the first of its metadata."""
    models = {ENTROPY: entropy.state()}
    if prediction is not None:
        models[PREDICTION] = prediction.state()
    settings = {
        name: {**settings, "sha256": sha256_of_state(state, settings)}
        for name, (state, settings) in models.items()
    }
    states = {name: state for name, (state, _) in models.items()}
    return states, {"kind": kind, "version": entropy.version, **settings}


def load_model(path: Path, kind: str | None, parts: tuple[str, ...] = ()) -> ModelFile:
    """Read a deployed model: its entropy models and, of the rest, the named parts.

    Args:
        kind: that it must be of; None: any.

    Raises:
        WeightsError: if ``path`` is missing, damaged, or not of this ``kind``.
    """
    if not path.is_file():
        raise WeightsError(f"'{path}' does not exist: make it with tools/export_model.py")
    try:
        with safe_open(path, framework="np") as file:
            metadata = parse_metadata((file.metadata() or {}).get("codec_det"), path, kind)
            wanted = tuple(f"{part}." for part in (ENTROPY, PREDICTION, *parts))
            arrays = {key: file.get_tensor(key) for key in file.keys() if key.startswith(wanted)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"'{path}' is damaged or no model of tools/export_model.py ({error})"
        ) from None
    states = {
        name: {k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")}
        for name in (ENTROPY, PREDICTION)
    }
    return ModelFile(path, metadata, arrays, *restore_models(states, metadata, path))


def parse_metadata(text: str | None, path: Path, kind: str | None) -> dict[str, Any]:
    """Metadata of a model file, checked to be of this ``kind``, if any, and a known version.

    Raises:
        WeightsError: if it is not.
    """
    try:
        metadata = json.loads(text or "null")
        found, version = metadata["kind"], metadata["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(
            f"'{path}' is no model of tools/export_model.py: it has no codec_det metadata"
        ) from None
    if kind and found != kind:
        raise WeightsError(f"'{path}' is a model of kind '{found}': give the {kind}")
    if version not in (*FINGERPRINT_BYTES,):
        raise WeightsError(
            f"'{path}' is for version {version} of the format, and this program knows "
            f"{' and '.join(map(str, FINGERPRINT_BYTES))}: export it again"
        )
    return dict(metadata)


def restore_models(
    states: States, metadata: dict[str, Any], path: Path
) -> tuple[EntropyModel, Prediction | None]:
    """The entropy models of a model file: of pictures and, if it has one, of predicted frames.

    Raises:
        WeightsError: if something is missing or was changed.
    """
    settings = _checked_settings(ENTROPY, states[ENTROPY], metadata, path)
    with _damage_said(path):
        entropy = EntropyModel.from_state(states[ENTROPY], settings)
    if PREDICTION not in metadata:
        return entropy, None
    settings = _checked_settings(PREDICTION, states[PREDICTION], metadata, path)
    if settings.get("means") != MEANS:
        raise WeightsError(
            f"'{path}' predicts frames as an earlier version of codec_det did: export its run "
            "again, for both ends"
        )
    with _damage_said(path):
        return entropy, Prediction.from_state(entropy, states[PREDICTION], settings)


def of_sequences(path: Path, entropy: EntropyModel, prediction: Prediction | None) -> Prediction:
    """The model of predicted frames of a model file that must have one.

    Raises:
        WeightsError: if it has none.
    """
    if prediction is None:
        raise WeightsError(
            f"'{path}' is of the codec {entropy.codec}, which codes single pictures: for "
            "sequences, export a run whose MODEL.CODEC.NAME ends in -temporal"
        )
    return prediction


def _checked_settings(
    name: str, state: dict[str, np.ndarray], metadata: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Settings of an entropy model, before anything is made of them.

    A changed one could ask for anything.
    """
    with _damage_said(path):
        settings = dict(metadata[name])
        if settings.pop("sha256") != sha256_of_state(state, settings):
            raise WeightsError(f"'{path}' has an entropy model that was changed: export it again")
        return settings


@contextmanager
def _damage_said(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError:
        raise
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise WeightsError(f"'{path}' has a damaged entropy model ({error!r})") from None
