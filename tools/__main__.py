"""The command ``codec-det``, which installing the package brings: every tool by its name."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from pathlib import Path
from typing import NoReturn


def find_tools() -> dict[str, Path]:
    """The programs beside this one, by name."""
    paths = sorted(Path(__file__).resolve().parent.glob("[!_]*.py"))
    return {path.stem: path for path in paths if path.stem != "command_line"}


def build_parser(tools: dict[str, Path]) -> argparse.ArgumentParser:
    """The command line, as far as the name of the tool."""
    width = max(map(len, tools))
    lines = [f"  {name:{width}}  {_summary(path)}" for name, path in tools.items()]
    parser = argparse.ArgumentParser(
        prog="codec-det",
        usage="%(prog)s [-h] TOOL ...",
        description="Run a tool of codec_det; `codec-det TOOL --help` explains it.",
        epilog="\n".join(["tools:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tool", choices=tools, metavar="TOOL", help="one of those below")
    return parser


def _summary(path: Path) -> str:
    # Read, not imported: some need libraries that are not installed.
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def main() -> NoReturn:
    """Become the tool that the command line names."""
    tools = find_tools()
    args = build_parser(tools).parse_args(sys.argv[1:2])
    # The program that it is in a checkout: some start others like themselves.
    os.execv(sys.executable, [sys.executable, str(tools[args.tool]), *sys.argv[2:]])


if __name__ == "__main__":
    main()
