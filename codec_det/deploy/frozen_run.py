"""A run's chain with its codec frozen, as it is deployed."""

from __future__ import annotations

from pathlib import Path

from ..bitstream.entropy import EntropyModel
from ..bitstream.expected import DEFAULT, Expected
from ..codec.learned.freeze import freeze_entropy_model
from ..codec.table import find_codec, learned_codecs
from ..data.register import register_datasets
from ..errors import WeightsError
from ..meta_arch import CodecDetector
from ..runs import Run, open_run
from ..training.trainer import load_chain


def open_deployable(folder: Path) -> Run:
    """A run whose codec can be written to ``.cdet`` files, with its data sets registered.

    Raises:
        CodecDetError: if it is no run, its codec has no bitstream, or it codes at another scale.
    """
    run = open_run(folder)
    name = run.cfg.MODEL.CODEC.NAME
    reason = find_codec(name).no_files
    if reason:
        raise WeightsError(
            f"'{folder}' has the codec {name}, which cannot be deployed ({reason}): choose a run "
            f"with one of {', '.join(learned_codecs(files=True))}"
        )
    scale = run.cfg.MODEL.CODEC.SCALE
    if scale < 1:
        raise WeightsError(
            f"'{folder}' has MODEL.CODEC.SCALE {scale:g}, and exported encoders code pictures "
            "at the size they were taken at: choose a run of scale 1"
        )
    register_datasets(run.cfg)
    return run


def load_frozen(run: Run, expected: Expected = DEFAULT) -> tuple[CodecDetector, EntropyModel]:
    """A run's chain, on the CPU, and the entropy model of its codec.

    Args:
        expected: what files need not say of their pictures.

    Raises:
        WeightsError: if the weights cannot be loaded, or make no exact entropy model.
    """
    chain = load_chain(run.cfg, resume=True).cpu().eval()
    codec = chain.codec
    # The tables of the checkpoint are those its files were made with; only missing ones are made.
    codec.set_trainable(())
    codec.refresh_tables()
    return chain, freeze_entropy_model(run.cfg.MODEL.CODEC.NAME, codec.model, expected)
