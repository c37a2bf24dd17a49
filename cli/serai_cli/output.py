"""Writing to the terminal: text or JSON or YAML, colours only where somebody looks."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from serai.errors import ConfigError
from serai_cli.client import plain
from serai_cli.forms import Form
from serai_cli.tables import Look


def on_terminal() -> bool:
    """Say whether somebody looks at the output as it comes."""
    return sys.stdout.isatty()


def look() -> Look:
    """Return how wide lines may be, and whether in colour (https://no-color.org is followed)."""
    if not on_terminal():
        return Look()
    plain_wanted = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return Look(shutil.get_terminal_size().columns, not plain_wanted)


def write(lines: Sequence[str]) -> None:
    """Print lines."""
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell something beside the output."""
    print(text, file=sys.stderr, flush=True)


def show(value: object, lines: Sequence[str], form: Form) -> None:
    """Print an answer in the form that was asked for."""
    match form:
        case Form.TABLE:
            write(lines)
        case Form.JSON:
            write([json.dumps(plain(value), indent=2)])
        case Form.YAML:
            from serai.spec.write import to_yaml

            write([to_yaml(plain(value)).removesuffix("\n")])


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; without one `-y` is needed. ConfigError when the answer is not yes."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(f"{question} Confirm with -y")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was done")


NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
"""A line that wrapped would take two rows, and the next drawing would begin in the wrong one."""


class Redrawn:
    """Lines that are drawn over themselves, without flicker; plain new lines without a terminal.

    More lines than the terminal has are cut at its end, since what has scrolled away cannot be
    drawn over.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._drawn = 0
        self._last: list[str] = []
        self.live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines in place of those before."""
        fresh = self._fitting(lines) if self.live else list(lines)
        if fresh == self._last:
            return
        if self.live:
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            body = "".join(f"{line}\x1b[K\n" for line in fresh)
            self._stream.write(f"{NO_WRAP}{up}{body}\x1b[J{WRAP}")
            self._drawn = len(fresh)
        else:
            self._stream.write("".join(line + "\n" for line in fresh if line not in self._last))
        self._stream.flush()
        self._last = fresh

    def _fitting(self, lines: Sequence[str]) -> list[str]:
        room = shutil.get_terminal_size().lines - 1
        if len(lines) <= room:
            return list(lines)
        hidden = len(lines) - room + 1
        return [*lines[: room - 1], f"({hidden} more lines; make the window higher)"]
