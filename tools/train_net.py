#!/usr/bin/env python
"""Train, resume and evaluate a codec and a detector together."""

from __future__ import annotations

from command_line import not_negative, positive, prepare_process, run_command, run_program

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from detectron2.config import CfgNode

EPILOG = """
The regime is part of the config: configs/{baseline,tft,cft,jft,eft,etft,dft}_R50.yaml.

examples:
  fine-tune codec and detector together on COCO, on 8 GPUs
    tools/train_net.py --config-file configs/jft_R50.yaml --num-gpus 8
  continue after an interruption
    tools/train_net.py --config-file configs/jft_R50.yaml --num-gpus 8 --resume
  evaluate what was trained: box AP, bits per pixel, PSNR
    tools/train_net.py --config-file configs/jft_R50.yaml --eval-only \\
        MODEL.WEIGHTS output/jft_R50/model_final.pth
  another operating point, or a rate to end at instead of a weight
    tools/train_net.py --config-file configs/jft_R50.yaml MODEL.CODEC.QUALITY 3 MODEL.CODEC.BETA 0.5
    tools/train_net.py --config-file configs/jft_R50.yaml MODEL.CODEC.TARGET_BPP 0.1
  two processes on a machine without a GPU
    tools/train_net.py --config-file configs/shapes/jft.yaml --num-gpus 2 MODEL.DEVICE cpu

Every key is explained in codec_det/config.py. Logs, metrics.json, TensorBoard events, checkpoints,
detections and results.jsonl go to OUTPUT_DIR.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line: the options of detectron2's own tools."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="one of configs/, or one based on it")
    add(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR, if there is one, or evaluate it",
    )
    add("--eval-only", action="store_true", help="evaluate, train nothing")
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
    """Train or evaluate in one process."""
    from detectron2.engine import default_setup
    from detectron2.utils import comm
    from detectron2.utils.logger import setup_logger

    from codec_det.data.register import register_datasets
    from codec_det.training.trainer import Trainer, evaluate

    if args.num_gpus > 1:
        prepare_process()  # which launch has started
    register_datasets(cfg)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="codec_det")
    if args.eval_only:
        evaluate(cfg, resume=args.resume)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


def train_net(args: argparse.Namespace) -> None:
    """Check everything, then train or evaluate in as many processes as are wanted.

    Raises:
        CodecDetError: if options, config, data or weights cannot be used.
        FloatingPointError: if training diverges.
    """
    import torch
    from detectron2.engine import launch

    from codec_det.config import load_config
    from codec_det.config_checks import check_batch, check_config, check_devices
    from codec_det.data.register import check_datasets, register_datasets
    from codec_det.files import make_folder

    opts = list(args.opts)
    if args.num_gpus is None and not torch.cuda.is_available() and "MODEL.DEVICE" not in opts:
        opts += ["MODEL.DEVICE", "cpu"]
        print("No GPU: running on the CPU.")
    cfg = load_config(args.config_file, opts)
    args.num_gpus = args.num_gpus or 1
    check_config(cfg, train=not args.eval_only)
    check_devices(args.num_gpus, cfg.MODEL.DEVICE)
    if not args.eval_only:
        check_batch(cfg, args.num_gpus * args.num_machines)
    register_datasets(cfg)
    check_datasets(cfg, train=not args.eval_only)
    make_folder(Path(cfg.OUTPUT_DIR), "OUTPUT_DIR")
    try:
        launch(
            run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, cfg),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("" if args.eval_only else how_to_go_on(cfg.OUTPUT_DIR)) from None


def how_to_go_on(output_dir: str) -> str:
    """What Ctrl-C leaves of a training."""
    tag = Path(output_dir) / "last_checkpoint"
    if not tag.is_file():
        return f"'{output_dir}' has no checkpoint yet"
    return f"add --resume to go on from '{tag.with_name(tag.read_text())}'"


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line ``argv``, checked as far as no config need be read."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.machine_rank >= args.num_machines:
        parser.error(f"argument --machine-rank: it is below --num-machines, {args.num_machines}")
    if args.num_machines > 1 and args.dist_url == "auto":
        parser.error("argument --dist-url: several machines need one, tcp://HOST:PORT")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(parse_args, train_net, argv)


if __name__ == "__main__":
    run_program(main)
