#!/usr/bin/env python
"""The whole pipeline on generated pictures: fine-tune three regimes at one rate and compare them.

Fine-tunes detector (T-FT), codec (C-FT) and both (J-FT) from the weights that come with the
package, evaluates them and the off-the-shelf chain, and ends with curves, pictures and a report.
Some minutes on two cores. Every step is a run of another tool, shown with its full command line.
"""

from __future__ import annotations

from command_line import run_command, run_program

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent
REGIMES = ("jft", "cft", "tft")
# Of a training log: losses with ETA, rates, evaluation progress, and where results went.
SHOWN = re.compile(r"eta: |iter: |Inference done|Regime|appended to|Drawing|rror|%\|")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("output/demo"), metavar="FOLDER")
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys for all runs, such as SOLVER.MAX_ITER 300",
    )
    return parser


def run_tool(name: str, *arguments: str, log: Path | None = None) -> None:
    """Run ``tools/name.py``; with ``log``, write its output there and show the gist of it.

    Raises:
        CodecDetError: if it fails.
    """
    from codec_det.errors import CodecDetError

    command = [sys.executable, "-W", "ignore", str(TOOLS / f"{name}.py"), *arguments]
    print(f"\n$ {shlex.join(['python', f'tools/{name}.py', *arguments])}", flush=True)
    if log is None:
        status = subprocess.call(command)
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with (
            log.open("w", encoding="utf-8") as file,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="backslashreplace",
            ) as process,
        ):
            for line in process.stdout or ():
                file.write(line)
                if SHOWN.search(line):
                    print(f"  {line.rstrip()[:160]}", flush=True)
        status = process.returncode
    if status:
        raise CodecDetError(
            f"tools/{name}.py failed with status {status}" + f"; see {log}" * bool(log)
        )


def demo(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        CodecDetError: if a step fails.
    """
    from codec_det.rate_accuracy.records import read_results

    folders = {name: args.output_dir / name for name in ("baseline", "tft", "cft", "jft")}

    def train(regime: str, *arguments: str) -> None:
        config = str(TOOLS.parent / "configs" / "shapes" / f"{regime}.yaml")
        output = ["OUTPUT_DIR", str(folders[regime]), *args.opts]
        log = folders[regime] / "console.txt"
        run_tool("train_net", "--config-file", config, *arguments, *output, log=log)

    train("baseline", "--eval-only")
    (baseline,) = read_results([folders["baseline"]])
    bpp = baseline.figure("bpp")
    for regime in REGIMES:
        # The rates must be equal for the accuracies to compare.
        target = [] if regime == "tft" else ["MODEL.CODEC.TARGET_BPP", f"{bpp:.4f}"]
        train(regime, "--overwrite", *target)
    runs = [str(folder) for folder in folders.values()]
    run_tool("visualize", *runs, "--output-dir", str(args.output_dir / "pictures"))
    run_tool("plot_rate_accuracy", *runs, "--output-dir", str(args.output_dir / "curves"))
    run_tool("report", str(args.output_dir))


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv``; returns the exit status."""
    return run_command(build_parser().parse_args, demo, argv)


if __name__ == "__main__":
    run_program(main)
