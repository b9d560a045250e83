"""detectron2's trainer for the chain: repeatable, resumable, and honest when it diverges."""

from __future__ import annotations

import copy
import logging
import math
import random
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventWriter, get_event_storage, has_event_storage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..codec.table import find_codec
from ..data.loader import build_test_loader, build_train_loader
from ..errors import WeightsError
from ..evaluation.metrics import figures_in_words
from ..evaluation.rate import RateEvaluator
from ..evaluation.results import RESULTS_FILE, append_record, build_record
from ..evaluation.tasks import build_evaluators
from ..files import repair_last_line
from ..levels import inference_folder, levels_of, levels_to_test, name_level
from ..meta_arch import CodecDetector
from ..run_folder import check_resumable
from .bfloat16 import train_in_bfloat16
from .checkpoint import ChainCheckpointer, load_codec_weights
from .console import set_up_loggers
from .launch import EXPECTED
from .small_crops import small_crops_warning
from .solver import build_optimizer
from .target_rate import TargetRate, adapted_betas

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """``DefaultTrainer`` with codec_det's loader, optimizer, checkpoints, evaluation and hooks."""

    def __init__(self, cfg: CfgNode) -> None:
        # Not DefaultTrainer's own: it fixes the checkpointer, and DDP for GPUs alone.
        TrainerBase.__init__(self)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        self.chain: CodecDetector = model
        on_cpu = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        # What key frames alone need has no gradient where clips have none.
        unused = {"find_unused_parameters": bool(cfg.INPUT.BURN_IN)}
        parallel = create_ddp_model(model, broadcast_buffers=False, **unused, **on_cpu)
        # The loader starts where training does, which is known only after loading.
        if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE == "cpu":
            train_in_bfloat16(model)
            self._trainer = SimpleTrainer(parallel, None, optimizer)
        elif cfg.SOLVER.AMP.ENABLED:
            # GDN squares activations, which float16 cannot hold.
            self._trainer = AMPTrainer(parallel, None, optimizer, precision=torch.bfloat16)
        else:
            self._trainer = SimpleTrainer(parallel, None, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = ChainCheckpointer(parallel, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the weights and, to go on with a run, the state of its training.

        Learning rates and the like are the config's, which may have changed since.

        Raises:
            CodecDetError: if they cannot be loaded, or more has been trained than the config wants.
        """
        hyperparameters = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]
        self._load_references()
        super().resume_or_load(resume)
        if self.start_iter:
            check_resumable(self.cfg, self.start_iter)
            self._set_hyperparameters(hyperparameters)
        if not self.checkpointer.found_codec:
            load_codec_weights(self.chain.codec, self.cfg, strict=False)
        self.data_loader = build_train_loader(self.cfg, start=self.start_iter)

    def _load_references(self) -> None:
        """Load what training compares with: weights that it began from, also where it goes on.

        Raises:
            WeightsError: if they cannot be loaded, or have no encoder to learn from.
        """
        teacher = self.chain.codec.teacher
        references = [x for x in (self.chain.features, self.chain.labels) if x]
        if not self.cfg.MODEL.DETECTOR.TRAINABLE:
            references = []  # the detector stays what it is compared with
        if not (teacher or references):
            return
        self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
        if teacher and not self.checkpointer.found_codec:
            load_codec_weights(self.chain.codec, self.cfg, strict=False)
        if teacher and not teacher.is_loaded:
            raise WeightsError(
                "MODEL.CODEC.DISTILLATION_WEIGHT is set, but neither MODEL.WEIGHTS nor "
                "MODEL.CODEC.WEIGHTS has the encoder of a "
                f"{find_codec(self.cfg.MODEL.CODEC.NAME).full} to learn from: set one to a file "
                "that has, or the weight to 0"
            )
        for reference in references:
            reference.keep_reference()

    def _set_hyperparameters(self, groups: list[dict[str, Any]]) -> None:
        self.scheduler.base_lrs = [group["initial_lr"] for group in groups]
        rates = self.scheduler.get_lr()
        for group, values, rate in zip(self.optimizer.param_groups, groups, rates, strict=True):
            group.update({**values, "lr": rate})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict["_trainer"]["optimizer"]["param_groups"]
        # PyTorch takes over the state of any optimizer with as many parameters, and fails later.
        if saved and saved[0].keys() != self.optimizer.state_dict()["param_groups"][0].keys():
            raise ValueError(f"its optimizer is not SOLVER.OPTIMIZER {self.cfg.SOLVER.OPTIMIZER}")
        super().load_state_dict(state_dict)

    def train(self) -> Any:
        """Train, evaluate, and return the results of the last evaluation on the main process."""
        logger.info(self.chain.describe())
        if warning := small_crops_warning(self.cfg):
            logger.warning(warning)
        try:
            super().train()
        except FloatingPointError as error:
            raise FloatingPointError(self._divergence(error)) from None
        return getattr(self, "_last_eval_results", None)

    def build_hooks(self) -> list[HookBase | None]:
        registered = super().build_hooks()
        first: list[HookBase] = [SeedIterations(self.cfg.SEED)]
        targets = targets_of(self.cfg)
        if targets and self.chain.regime.trades_rate:
            first.append(TargetRate(self.chain, targets, self.max_iter))
        # On every process: solving the quantiles changes parameters, which must stay equal.
        first.append(RefreshTables(self.chain, self.cfg.SOLVER.CHECKPOINT_PERIOD))
        return first + registered

    def build_writers(self) -> list[EventWriter]:
        # detectron2's writer imports it at the first record, amid training, where programs that
        # end at Ctrl-C while modules load would say nothing of how to go on.
        import_module("torch.utils.tensorboard")
        repair_last_line(Path(self.cfg.OUTPUT_DIR, "metrics.json"))
        return [*super().build_writers(), ChainMetricPrinter()]

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: CodecDetector) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        (level,) = levels_to_test(cfg)
        folder = str(inference_folder(Path(cfg.OUTPUT_DIR), dataset_name, level))
        rate = RateEvaluator(cfg.INPUT.FORMAT, folder, cfg.INPUT.FPS)
        return DatasetEvaluators([rate, *build_evaluators(cfg, dataset_name, folder)])

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> dict[str, Any]:
        """Evaluate on ``DATASETS.TEST`` and append a record per set to the results file.

        A codec of variable rate is evaluated at each of its ``LEVELS_TEST``, with a record of each;
        results are then by level.
        """
        results = {}
        for level in levels_to_test(cfg):
            if level is None:
                return cls._test(cfg, cfg, model, evaluators)
            own = cfg.clone()
            own.defrost()
            own.MODEL.CODEC.LEVELS_TEST = [level]
            own.freeze()
            logger.info("Evaluating at %s", name_level(level))
            results[name_level(level)] = cls._test(cfg, own, model, evaluators)
        return results

    @classmethod
    def _test(
        cls,
        cfg: CfgNode,
        own: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None,
    ) -> dict[str, Any]:
        """Evaluate at the only level of ``own``, and append records of ``cfg``."""
        chain: Any = model.module if isinstance(model, DistributedDataParallel) else model
        (level,) = levels_to_test(own)
        with as_evaluated(chain, cfg, level):
            results = super().test(own, model, evaluators)
        if comm.is_main_process():
            # detectron2 leaves out the name of a single set, and evaluates one named twice once.
            names = set(cfg.DATASETS.TEST)
            by_name = {cfg.DATASETS.TEST[0]: results} if len(names) == 1 else results
            path = Path(cfg.OUTPUT_DIR, RESULTS_FILE)
            for name, figures in by_name.items():
                append_record(path, build_record(cfg, chain, name, figures, level))
                logger.info("%s: %s; appended to %s", name, figures_in_words(figures), path)
        return results

    def _divergence(self, error: FloatingPointError) -> str:
        kept = self.checkpointer.get_checkpoint_file() if self.checkpointer.has_checkpoint() else ""
        losses = {
            key: value
            for key, (value, _) in self.storage.latest().items()
            if "loss" in key and not math.isfinite(value)
        }
        go_on = "continue from it with --resume" if kept else "start again"
        return (
            f"training diverged at iteration {self.iter}: {error}\n"
            f"Last good checkpoint: {kept or 'none yet'}. Lower SOLVER.BASE_LR or SOLVER.CODEC_LR"
            f" and {go_on}. {losses or ''}"
        ).rstrip()


def targets_of(cfg: CfgNode) -> list[float]:
    """Bits per pixel to end at, at each level of a config's codec; none where β is fixed."""
    codec = cfg.MODEL.CODEC
    if levels_of(cfg) > 1:
        return list(codec.LEVEL_TARGETS)
    return [codec.TARGET_BPP] if codec.TARGET_BPP > 0 else []


@contextmanager
def as_evaluated(
    chain: CodecDetector, cfg: CfgNode, level: float | None = None, *, pictures: bool = False
) -> Iterator[None]:
    """Within it, the chain codes pictures into files if ``MODEL.CODEC.BITSTREAM`` says so.

    Args:
        level: at which they are coded by a codec of variable rate; None: the highest.
        pictures: decode them even if the detector needs none and ``TEST.DECODE_PICTURES`` is False.
    """
    # Conventional codecs make files anyway.
    by_files = cfg.MODEL.CODEC.BITSTREAM and find_codec(cfg.MODEL.CODEC.NAME).is_learned
    before = chain.shows_pictures
    chain.shows_pictures = pictures or cfg.TEST.DECODE_PICTURES
    chain.codec.level = level
    try:
        with real_bits(chain) if by_files else nullcontext():
            yield
    finally:
        chain.shows_pictures = before
        chain.codec.level = None


@contextmanager
def real_bits(chain: CodecDetector) -> Iterator[None]:
    """Within it, the chain codes pictures into files, with a copy of its codec.

    Raises:
        WeightsError: if the codec cannot be written to files.
    """
    from ..codec.learned.bitstream_codec import BitstreamCodec
    from ..codec.learned.frame_coding import TemporalBitstreamCodec
    from ..codec.learned.temporal_codec import TemporalCodec

    trained = chain.codec
    deployed: Any = copy.deepcopy(trained)
    if not has_event_storage():
        # Outside training, the tables that came with the weights are the ones in use.
        deployed.set_trainable(())
    deployed.refresh_tables()
    by_files = TemporalBitstreamCodec if isinstance(deployed, TemporalCodec) else BitstreamCodec
    chain.codec = by_files(deployed, chain.scale)
    try:
        yield
    finally:
        chain.codec = trained


def load_chain(cfg: CfgNode, *, resume: bool = False) -> CodecDetector:
    """Build the chain of a config and load all of its weights.

    Args:
        resume: take the last checkpoint in ``OUTPUT_DIR`` where there is one, instead of
            ``MODEL.WEIGHTS``.

    Raises:
        WeightsError: if weights are missing, unreadable or do not fit.
    """
    model: CodecDetector = Trainer.build_model(cfg)
    checkpointer = ChainCheckpointer(model, cfg.OUTPUT_DIR, strict=True)
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if not checkpointer.found_codec:
        load_codec_weights(model.codec, cfg)
    if resume and "iteration" in loaded:
        model.iteration = loaded["iteration"] + 1
        logger.info("Weights: %s, iteration %d", checkpointer.loaded, model.iteration)
    adapted = loaded.get("trainer", {}).get("hooks", {}).get(TargetRate.__qualname__)
    if adapted:
        model.betas = adapted_betas(adapted)
    return model


def set_up(cfg: CfgNode, arguments: dict[str, Any]) -> None:
    """Loggers and random generators of a process, as detectron2's ``default_setup`` has them.

    The config is not written before its weights are loaded: they may not fit, and there may be the
    config of an earlier run.

    Args:
        arguments: of the command line, for the log.
    """
    rank = comm.get_rank()
    set_up_loggers(cfg.OUTPUT_DIR, rank)
    logging.getLogger(TrainerBase.__module__).addFilter(_is_unexpected)
    logger.debug("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.debug("Environment info:\n%s", collect_env_info())
    logger.debug("Command line arguments: %s", arguments)
    logger.debug("Running with full config:\n%s", cfg.dump())
    seed_all_rng(cfg.SEED + rank)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not arguments["eval_only"]


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Whether a logged traceback is worth reading: others end in an error of one line."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (*EXPECTED, OSError))


class SeedIterations(HookBase):
    """Seeds every generator from (seed, iteration, process), so that resuming changes nothing."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        key = (self._seed, self.trainer.iter, comm.get_rank())
        state = np.random.SeedSequence(key).generate_state(3)
        torch.manual_seed(int(state[0]))
        np.random.seed(state[1])  # noqa: NPY002
        random.seed(int(state[2]))


class RefreshTables(HookBase):
    """Brings the codec's CDF tables up to date before each checkpoint is written."""

    def __init__(self, model: CodecDetector, period: int) -> None:
        self._model = model
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            self._model.codec.refresh_tables()


_PRINTED = {"bpp": "{:.4f}", "psnr": "{:.2f}", "beta": "{:.4g}", "codec_grad_norm": "{:.3g}"}


class ChainMetricPrinter(EventWriter):
    """Prints what detectron2's own printer leaves out: rate, estimated PSNR, gradient norm."""

    def write(self) -> None:
        storage = get_event_storage()
        latest = storage.latest_with_smoothing_hint(20)
        shown = [f"{k}: {f.format(latest[k][0])}" for k, f in _PRINTED.items() if k in latest]
        if shown:
            logger.info(" iter: %d  %s", storage.iter, "  ".join(shown))
