"""The OUTPUT_DIR of tools/train_net.py: what is in it, what may begin in it, with which config."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detectron2.config import CfgNode

from .config import flatten, load_config
from .config_differences import training_differences
from .errors import ConfigError
from .evaluation.results import RESULTS_FILE
from .files import atomic_file
from .regimes import Regime

CONFIG_FILE, CHECKPOINT_TAG = "config.yaml", "last_checkpoint"
WEIGHTS = "model_*.pth"

# Everything that a run leaves; what else is in the folder is the user's.
_OWN = (
    *(CONFIG_FILE, RESULTS_FILE, CHECKPOINT_TAG, WEIGHTS, "inference", "metrics.json"),
    *("log.txt*", "events.out.tfevents.*", ".*.partial", ".*.partial.pth"),
)
_ASIDE = ".replaced"


def has_checkpoint(folder: Path) -> bool:
    """Whether a training has got as far as its first checkpoint."""
    try:
        return (folder / CHECKPOINT_TAG).is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def has_run(folder: Path) -> bool:
    """Whether there are weights or results that a new run would mix with, or put aside and lost."""
    names = (RESULTS_FILE, CHECKPOINT_TAG, _ASIDE)
    return any((folder / name).exists() for name in names) or any(folder.glob(WEIGHTS))


def check_unused(folder: Path) -> None:
    """Raise :class:`ConfigError` if a run is in ``folder``."""
    if has_run(folder):
        raise ConfigError(
            f"OUTPUT_DIR '{folder}' has a run in it: add --resume to go on with it, --overwrite to "
            "delete it and start over, or give another OUTPUT_DIR"
        )


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Deletes what earlier runs left in ``folder``, if the block ends without error.

    Else everything is as it was before.
    """
    aside = folder / _ASIDE
    if aside.is_dir():  # left by a process that was killed in here
        _restore(folder, aside)
    aside.mkdir()
    for path in _own_files(folder):
        path.rename(aside / path.name)
    try:
        yield
    except BaseException:
        _restore(folder, aside)
        raise
    shutil.rmtree(aside)


def _own_files(folder: Path) -> list[Path]:
    return [path for pattern in _OWN for path in folder.glob(pattern)]


def _restore(folder: Path, aside: Path) -> None:
    for path in _own_files(folder):
        _remove(path)
    for path in list(aside.iterdir()):
        path.rename(folder / path.name)
    aside.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def save_config(cfg: CfgNode) -> None:
    """Write the config into OUTPUT_DIR.

    Raises:
        CodecDetError: if it cannot be written.
    """
    with atomic_file(Path(cfg.OUTPUT_DIR, CONFIG_FILE)) as partial:
        partial.write_text(cfg.dump())


def config_file_of(opts: Sequence[str]) -> str:
    """The config file in the folder that KEY VALUE pairs name as OUTPUT_DIR; "": there is none."""
    folder = dict(zip(opts[::2], opts[1::2], strict=False)).get("OUTPUT_DIR", "")
    path = Path(folder, CONFIG_FILE)
    return str(path) if folder and path.is_file() else ""


def config_as_trained(cfg: CfgNode, opts: Sequence[str]) -> tuple[CfgNode, list[str]]:
    """``cfg`` for the evaluation of the last checkpoint in its OUTPUT_DIR.

    What the weights follow from is taken from the config of their training, and what evaluation can
    change from ``cfg``.

    Args:
        opts: KEY VALUE pairs of the command line, which must not contradict the training.

    Returns:
        The config, and its values that ``cfg`` has otherwise, in words.

    Raises:
        ConfigError: if ``cfg`` is of another regime, or ``opts`` contradict the training.
    """
    folder = Path(cfg.OUTPUT_DIR)
    path = folder / CONFIG_FILE
    if not path.is_file():
        return cfg, []
    trained = load_config(str(path), ["OUTPUT_DIR", str(folder)])
    values = dict(flatten(trained))
    keys = training_differences(dict(flatten(cfg)), values)
    typed = sorted(keys & set(opts[::2]))
    if typed:
        raise ConfigError(
            f"{typed[0]} was {values.get(typed[0])!r} when the weights in OUTPUT_DIR '{folder}' "
            f"were trained, and evaluation cannot change it: leave it out, or name weights by "
            "MODEL.WEIGHTS and give another OUTPUT_DIR"
        )
    regimes = [Regime.from_config(each).name for each in (trained, cfg)]
    if regimes[0] != regimes[1]:
        raise ConfigError(
            f"OUTPUT_DIR '{folder}' has a training of {regimes[0]}, and the config is of "
            f"{regimes[1]}: leave out --config-file to evaluate what was trained, or give another "
            "OUTPUT_DIR"
        )
    merged = cfg.clone()
    merged.defrost()
    known = sorted(keys & values.keys())
    merged.merge_from_list([word for key in known for word in (key, values[key])])
    merged.freeze()
    return merged, [f"{key} {values[key]}" for key in known]


def check_resumable(cfg: CfgNode, iterations: int) -> None:
    """Raise :class:`ConfigError` if more iterations have been trained than ``cfg`` wants."""
    if iterations > cfg.SOLVER.MAX_ITER:
        raise ConfigError(
            f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, but the last checkpoint in OUTPUT_DIR "
            f"'{cfg.OUTPUT_DIR}' has {iterations} iterations: raise it, or add --eval-only to "
            "evaluate what was trained"
        )
