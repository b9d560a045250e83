#!/usr/bin/env python
"""Train, resume and evaluate a codec and a detector together."""

from __future__ import annotations

from command_line import (
    not_negative,
    positive,
    prepare_process,
    run_command,
    run_program,
    say_after_ctrl_c,
)

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from detectron2.config import CfgNode

EPILOG = """
The regime is part of the config: configs/{baseline,tft,cft,jft,eft,etft,dft}_R50.yaml; of detectors
in latents, configs/{bridge,ltft,left,ljft}_R50.yaml.

examples:
  fine-tune codec and detector together on COCO, on 8 GPUs
    tools/train_net.py --config-file configs/jft_R50.yaml --num-gpus 8
  continue after an interruption
    tools/train_net.py --config-file configs/jft_R50.yaml --num-gpus 8 --resume
  evaluate what was trained: box AP, bits per pixel, PSNR; then with the bits of real files
    tools/train_net.py --eval-only OUTPUT_DIR output/jft_R50
    tools/train_net.py --eval-only OUTPUT_DIR output/jft_R50 MODEL.CODEC.BITSTREAM True
  another operating point, or a rate to end at instead of a weight
    tools/train_net.py --config-file configs/jft_R50.yaml MODEL.CODEC.QUALITY 3 MODEL.CODEC.BETA 0.5
    tools/train_net.py --config-file configs/jft_R50.yaml MODEL.CODEC.TARGET_BPP 0.1
  two processes on a machine without a GPU
    tools/train_net.py --config-file configs/shapes/jft.yaml --num-gpus 2 MODEL.DEVICE cpu

Evaluation can change what the weights do not follow from: DATASETS.TEST, MODEL.CODEC.BITSTREAM,
TEST.*, and keys that end in _TEST. Those of the last evaluation stay in config.yaml.

Every key is explained in codec_det/config.py. Logs, metrics.json, TensorBoard events, checkpoints,
detections and results.jsonl go to OUTPUT_DIR.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line: the options of detectron2's own tools."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--config-file",
        default="",
        metavar="FILE",
        help="one of configs/, or one based on it (default with --eval-only or --resume: "
        "config.yaml in OUTPUT_DIR)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR, if there is one",
    )
    start.add_argument(
        "--overwrite",
        action="store_true",
        help="start over where OUTPUT_DIR has a run in it, which is deleted; else that is refused",
    )
    add(
        "--eval-only",
        action="store_true",
        help="train nothing; evaluate MODEL.WEIGHTS where they are among the keys, else the last "
        "checkpoint in OUTPUT_DIR, else, where nothing trains, the weights of the config",
    )
    add(
        "--num-gpus",
        type=positive,
        metavar="N",
        help="processes per machine, one GPU each (CPU with MODEL.DEVICE cpu). Default: 1, on the "
        "GPU if the machine has one",
    )
    add(
        "--num-machines",
        type=positive,
        default=1,
        metavar="N",
        help="that run this command, all with the same options but --machine-rank "
        "(default: %(default)s)",
    )
    add(
        "--machine-rank",
        type=not_negative,
        default=0,
        metavar="I",
        help="which of them this is, from 0 (default: %(default)s)",
    )
    add(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where processes meet: of several machines tcp://HOST:PORT, a free port of machine 0; "
        "on one machine a free port is found (default: %(default)s)",
    )
    add(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to change, at the end",
    )
    return parser


def run(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Train or evaluate in one process.

    Raises:
        CodecDetError: if weights do not fit, or OUTPUT_DIR cannot be written to.
        FloatingPointError: if training diverges.
    """
    from contextlib import nullcontext

    from detectron2.utils import comm

    from codec_det.data.register import register_datasets
    from codec_det.files import check_written
    from codec_det.run_folder import replacing, save_config
    from codec_det.training.freed_memory import keep_freed_memory
    from codec_det.training.trainer import Trainer, load_chain, set_up

    if args.num_gpus > 1:
        prepare_process()  # which launch has started
    register_datasets(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    replaces = args.starts and comm.is_main_process()
    with check_written(folder):
        with replacing(folder) if replaces else nullcontext():
            set_up(cfg, vars(args))
            if args.eval_only:
                chain = load_chain(cfg, resume=args.own_weights)
            else:
                trainer = Trainer(cfg)
                trainer.resume_or_load(resume=not args.starts)
        if args.keeps_config and comm.is_main_process():
            save_config(cfg)
        if args.eval_only:
            Trainer.test(cfg, chain)
        else:
            keep_freed_memory()
            trainer.train()


def read_config(args: argparse.Namespace) -> CfgNode:
    """The config of a command line; what it makes of OUTPUT_DIR is noted in ``args``.

    Raises:
        CodecDetError: if config or options cannot be used.
    """
    import torch

    from codec_det.config import load_config
    from codec_det.config_checks import check_batch, check_config, check_devices
    from codec_det.errors import ConfigError
    from codec_det.run_folder import config_as_trained, config_file_of, has_checkpoint

    opts = list(args.opts)
    if args.num_gpus is None and not torch.cuda.is_available() and "MODEL.DEVICE" not in opts:
        # In front: behind a key without its value it would be taken for one.
        opts = ["MODEL.DEVICE", "cpu", *opts]
        print("No GPU: running on the CPU.")
    if not args.config_file and (args.eval_only or args.resume):
        args.config_file = config_file_of(opts)
        if args.eval_only and "OUTPUT_DIR" in opts[::2] and not args.config_file:
            folder = opts[opts.index("OUTPUT_DIR") + 1]
            raise ConfigError(f"OUTPUT_DIR '{folder}' has no config: add --config-file")
    cfg = load_config(args.config_file, opts)
    args.num_gpus = args.num_gpus or 1
    trained = has_checkpoint(Path(cfg.OUTPUT_DIR))
    args.own_weights = args.eval_only and trained and "MODEL.WEIGHTS" not in opts[::2]
    args.starts = not args.eval_only and not (args.resume and trained)
    # Of weights from elsewhere, the config of the training in OUTPUT_DIR would say what is wrong.
    args.keeps_config = args.own_weights or not (args.eval_only and trained)
    if args.own_weights:
        cfg, kept = config_as_trained(cfg, opts)
        if kept:
            print(f"As in the training of OUTPUT_DIR '{cfg.OUTPUT_DIR}': {', '.join(kept)}")
    check_config(cfg, train=not args.eval_only)
    check_devices(args.num_gpus, cfg.MODEL.DEVICE)
    if args.eval_only:
        check_evaluation(cfg, named="MODEL.WEIGHTS" in opts[::2] or trained)
    else:
        check_batch(cfg, args.num_gpus * args.num_machines)
    return cfg


def check_evaluation(cfg: CfgNode, *, named: bool) -> None:
    """Check that there is something to evaluate, and something to evaluate it on.

    Args:
        named: whether it is known which weights are meant. Those that a training starts from are
            not what it makes.

    Raises:
        ConfigError: if not.
    """
    from codec_det.errors import ConfigError
    from codec_det.regimes import Regime

    regime = Regime.from_config(cfg)
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: there is nothing to evaluate on")
    if not named and regime.trains:
        raise ConfigError(
            f"OUTPUT_DIR '{cfg.OUTPUT_DIR}' has no checkpoint of {regime.name} to evaluate: train "
            "first, or name the weights by MODEL.WEIGHTS"
        )


def train_net(args: argparse.Namespace) -> None:
    """Check everything, then train or evaluate in as many processes as are wanted.

    Raises:
        CodecDetError: if options, config, data or weights cannot be used, or OUTPUT_DIR is in use.
        FloatingPointError: if training diverges.
        KeyboardInterrupt: saying how to go on.
    """
    from contextlib import nullcontext

    from codec_det.data.classes import match_classes
    from codec_det.data.register import check_datasets, register_datasets
    from codec_det.lock import locked
    from codec_det.run_folder import check_unused
    from codec_det.training.launch import launch

    cfg = read_config(args)
    register_datasets(cfg)
    check_datasets(cfg, train=not args.eval_only)
    cfg = match_classes(cfg, train=not args.eval_only)
    folder = Path(cfg.OUTPUT_DIR)
    # Of several machines, which share it, the first answers for the folder.
    with locked(folder, "OUTPUT_DIR") if args.machine_rank == 0 else nullcontext():
        if args.starts and not args.overwrite and args.machine_rank == 0:
            check_unused(folder)
        remains = partial(how_to_go_on, folder, trains=not args.eval_only)
        say_after_ctrl_c(remains)
        try:
            launch(
                run,
                args.num_gpus,
                (args, cfg),
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
            )
        except KeyboardInterrupt:
            logging.shutdown()  # what the log has not written yet would be lost
            raise KeyboardInterrupt(remains()) from None


def how_to_go_on(folder: Path, *, trains: bool) -> str:
    """What an interrupted command has left, and the next one."""
    from codec_det.run_folder import CHECKPOINT_TAG, has_checkpoint

    if trains and has_checkpoint(folder):
        last = (folder / CHECKPOINT_TAG).read_text().strip()
        return f"run the same command with --resume to go on from {folder / last}"
    return "run the same command again" + " to start over: no checkpoint was saved yet" * trains


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line ``argv``, checked as far as no config need be read."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.machine_rank >= args.num_machines:
        parser.error(f"argument --machine-rank: it is below --num-machines, {args.num_machines}")
    if args.num_machines > 1 and args.dist_url == "auto":
        parser.error("argument --dist-url: several machines need one, tcp://HOST:PORT")
    if args.overwrite and args.eval_only:
        parser.error("argument --overwrite: not allowed with argument --eval-only")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(parse_args, train_net, argv)


if __name__ == "__main__":
    run_program(main)
