#!/usr/bin/env python
"""Run the grid of a study: regimes x codecs at several rates x seeds, from one YAML file.

Each point is one run of tools/train_net.py, in a folder of its own below the study's output_dir;
its console is there in console.txt. Points that are done are not run again, so that the same
command goes on after an interruption, in the middle of a training from its last checkpoint. A point
whose config has changed, or that starts from weights newer than it, is run again, and its earlier
folder is renamed to <point>.old-<time>; where keys of evaluation alone have changed (DATASETS.TEST,
MODEL.CODEC.BITSTREAM, ..._TEST), its weights are evaluated again, not trained again. All configs
are checked before the first point runs. Points that fail are tried again, and reported at the end;
the others run all the same, and the exit status is then 1. codec_det/sweep/study.py says what the
YAML may have.

With --address, points run on the machines of a Ray cluster, as many at a time as there is room for:
one GPU each (or num_gpus) and one core. Points of a lost machine are run on others. The current
folder, output_dir and the data sets must be on a file system that all machines share, under the
same paths, and each machine needs this package with its libraries. A cluster that checks tokens
(`ray start --head` says so) is reached by HOST:PORT with RAY_AUTH_MODE=token in the environment.
"""

from __future__ import annotations

from command_line import not_negative, run_command, run_program

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

# codec_det is imported where it is used: --help need not wait for PyTorch.
if TYPE_CHECKING:
    from codec_det.sweep.progress import Progress
    from codec_det.sweep.study import Study

TRAIN_NET = Path(__file__).resolve().with_name("train_net.py")
EPILOG = """
examples:
  what there is to do, and how long it will take
    tools/sweep.py configs/study/shapes.yaml --dry-run
  do it, here, one point after the other
    tools/sweep.py configs/study/shapes.yaml
  with a config key for all points
    tools/sweep.py configs/study/bccd.yaml DATASETS.ROOT /data/bccd
  the same grid on other data, into a folder of its own
    tools/sweep.py configs/study/shapes_video.yaml --output-dir output/study/shapes_video_moving \\
        DATASETS.TRAIN "('shapes_video_moving_train',)" DATASETS.TEST "('shapes_video_moving_val',)"
  on all GPUs of this machine, one point on each
    tools/sweep.py configs/study/shapes.yaml --address local
  on a cluster, after `ray start --head` on one machine, `ray start --address HOST:6379` on others
    tools/sweep.py configs/study/shapes.yaml --address HOST:6379 --num-gpus 8
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("study", type=Path, metavar="YAML", help="the study, e.g. configs/study/shapes.yaml")
    add(
        "--output-dir",
        type=Path,
        metavar="FOLDER",
        help="of the points' folders, as where config keys are given that make it another study "
        "(default: the YAML's output_dir)",
    )
    add("--dry-run", action="store_true", help="show all points and their states; run none")
    add(
        "--address",
        metavar="ADDRESS",
        help="run on a Ray cluster: HOST:PORT, ray://HOST:PORT, auto for the one that this machine "
        "is part of, or local for this machine's GPUs or cores alone (default: without Ray)",
    )
    add(
        "--num-gpus",
        type=not_negative,
        metavar="N",
        help="GPUs of each point; 0: the CPU (default: the YAML's, else 1 if there is one)",
    )
    add(
        "--retries",
        type=not_negative,
        default=2,
        metavar="N",
        help="how often a point that fails is tried again (default: %(default)s)",
    )
    add("opts", nargs="*", metavar="KEY VALUE", help="config keys for all points")
    return parser


def sweep(args: argparse.Namespace) -> int:
    """Run the tool; returns the exit status.

    Raises:
        CodecDetError: if something is wrong with anything but a point.
    """
    from dataclasses import replace

    from codec_det.lock import locked
    from codec_det.sweep.overview import summary, table
    from codec_det.sweep.points import check_data, expand, read_overrides
    from codec_det.sweep.progress import Progress
    from codec_det.sweep.state import states_of
    from codec_det.sweep.study import read_study

    study = read_study(args.study)
    if args.output_dir:
        study = replace(study, output_dir=args.output_dir)
    if args.num_gpus is None:
        args.num_gpus = study.num_gpus
    points = expand(study, read_overrides(args.opts), args.num_gpus)
    if args.dry_run:
        progress = Progress(points, states_of(points))
        print(table(progress), summary(progress), sep="\n\n")
        return 0
    with locked(study.output_dir, "output_dir") as lock_file:
        # Not before: another sweep may have just done some.
        progress = Progress(points, states_of(points))
        print(summary(progress))
        if progress.left:
            check_data(progress.left)
            run(args, progress, lock_file)
    print(report(study, progress))
    return 1 if progress.failures else 0


def run(args: argparse.Namespace, progress: Progress, lock_file: Path) -> None:
    """Run what is left, here or on a cluster."""
    from codec_det.config_checks import check_devices
    from codec_det.sweep.machines import RayCluster, ThisMachine
    from codec_det.sweep.schedule import Schedule

    machines: RayCluster | ThisMachine = ThisMachine()
    if args.address:
        machines = RayCluster(args.address, args.num_gpus)
    elif args.num_gpus:
        check_devices(args.num_gpus, progress.left[0].cfg.MODEL.DEVICE)
    with machines:
        if isinstance(machines, RayCluster):
            configs = dict.fromkeys(Path(point.config_file) for point in progress.points)
            machines.check_files([TRAIN_NET, lock_file, *configs])
        schedule = Schedule(
            progress,
            machines,
            train_net=TRAIN_NET,
            num_gpus=args.num_gpus,
            retries=args.retries,
            say=lambda line: print(line, flush=True),
        )
        schedule.run()


def report(study: Study, progress: Progress) -> str:
    """What failed, where the results are and how to see them."""
    from codec_det.sweep.launch import CONSOLE

    folders = {point.name: point.folder for point in progress.points}
    lines = []
    if progress.failures:
        lines.append(f"{len(progress.failures)} of {len(progress.points)} points failed:")
        for name, reason in progress.failures.items():
            lines.append(f"  {name}: {reason}; console: {folders[name] / CONSOLE}")
    done = len(progress.points) - len(progress.failures)
    lines.append(f"{done} of {len(progress.points)} points are done, in {study.output_dir}")
    if done:
        lines.append(f"curves: tools/plot_rate_accuracy.py {study.output_dir}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(
        build_parser().parse_intermixed_args,
        sweep,
        argv,
        interrupted="what is done is kept; run the same command again to go on",
    )


if __name__ == "__main__":
    run_program(main)
