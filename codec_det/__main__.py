"""The command ``codec-det``: every program of tools/ by its name, wherever the package is.

A wheel has the programs inside the package, a checkout beside it.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from pathlib import Path
from typing import NoReturn

_PACKAGE = Path(__file__).parent


def find_tools() -> dict[str, Path]:
    """The programs by name."""
    places = (_PACKAGE / "tools", _PACKAGE.parent / "tools")
    folder = next(place for place in places if place.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "command_line"}


def build_parser(tools: dict[str, Path]) -> argparse.ArgumentParser:
    """The command line, as far as the name of the program."""
    width = max(map(len, tools))
    lines = [f"  {name:{width}}  {_summary(path)}" for name, path in tools.items()]
    parser = argparse.ArgumentParser(
        prog="codec-det",
        usage="%(prog)s [-h] TOOL ...",
        description="Run a program of codec_det; `codec-det TOOL --help` explains it.",
        epilog="\n".join(["tools:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tool", choices=tools, metavar="TOOL", help="one of those below")
    return parser


def _summary(path: Path) -> str:
    # Read, not imported: that would take seconds and libraries.
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def main() -> NoReturn:
    """Become the program that the command line names."""
    tools = find_tools()
    args = build_parser(tools).parse_args(sys.argv[1:2])
    # As a process of its own, as each is in a checkout: some start others like themselves.
    os.execv(sys.executable, [sys.executable, str(tools[args.tool]), *sys.argv[2:]])


if __name__ == "__main__":
    main()
