"""A run's chain with its codec frozen, as it is deployed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..bitstream.entropy import EntropyModel
from ..bitstream.expected import DEFAULT, Expected
from ..codec.learned.freeze import freeze_entropy_model
from ..codec.table import find_codec, learned_codecs
from ..coding_scale import as_ratio
from ..data.register import register_datasets
from ..errors import WeightsError
from ..evaluation.results import RESULTS_FILE
from ..meta_arch import CodecDetector
from ..rate_accuracy.records import read_results
from ..runs import Run, open_run
from ..training.trainer import load_chain


def open_deployable(folder: Path) -> Run:
    """A run whose codec can be written to ``.cdet`` files, with its data sets registered.

    Raises:
        CodecDetError: if it is no run, or its codec has no bitstream.
    """
    run = open_run(folder)
    name = run.cfg.MODEL.CODEC.NAME
    reason = find_codec(name).no_files
    if reason:
        raise WeightsError(
            f"'{folder}' has the codec {name}, which cannot be deployed ({reason}): choose a run "
            f"with one of {', '.join(learned_codecs(files=True))}"
        )
    register_datasets(run.cfg)
    return run


def rates_of(run: Run) -> dict[str, float]:
    """Bits per pixel of a run of variable rate, by level, as far as it was evaluated."""
    if run.level is None or not (run.folder / RESULTS_FILE).is_file():
        return {}
    results = [one for one in read_results([run.folder]) if one.dataset == run.dataset]
    return {f"{one.level:.10g}": one.figure("bpp") for one in results if one.level is not None}


def load_frozen(run: Run, expected: Expected = DEFAULT) -> tuple[CodecDetector, EntropyModel]:
    """A run's chain, on the CPU, and the entropy model of its codec.

    Args:
        expected: what files need not say of their pictures; scale and levels are the run's.

    Raises:
        WeightsError: if the weights cannot be loaded, or make no exact entropy model.
    """
    chain = load_chain(run.cfg, resume=True).cpu().eval()
    codec: Any = chain.codec
    # The tables of the checkpoint are those its files were made with; only missing ones are made.
    codec.set_trainable(())
    codec.refresh_tables()
    scale = as_ratio(run.cfg.MODEL.CODEC.SCALE)
    expected = replace(expected, scale=scale, levels=codec.levels)
    return chain, freeze_entropy_model(run.cfg.MODEL.CODEC.NAME, codec.model, expected)
