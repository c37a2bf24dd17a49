"""Writing to the terminal: text or JSON or YAML, colours only where somebody looks."""

import json
import os
import shutil
import sys
from collections.abc import Sequence

from serai.errors import ConfigError
from serai_cli.client import plain

FORMATS = ("table", "json", "yaml")


def on_terminal() -> bool:
    return sys.stdout.isatty()


def width() -> int:
    """Return the width of the terminal, or 0 where there is none."""
    return shutil.get_terminal_size().columns if on_terminal() else 0


def write(lines: Sequence[str]) -> None:
    """Print lines."""
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell something beside the output."""
    print(text, file=sys.stderr, flush=True)


def show(value: object, lines: Sequence[str], form: str) -> None:
    """Print an answer in the form that was asked for."""
    if form == "table":
        write(lines)
    elif form == "json":
        write([json.dumps(plain(value), indent=2)])
    elif form == "yaml":
        import yaml

        write([yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True).rstrip()])
    else:
        raise ConfigError(f"-o {form} is not known; use one of {', '.join(FORMATS)}")


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; without one `-y` is needed. ConfigError when the answer is not yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Confirm with -y")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was done")


class Redrawn:
    """Lines that are drawn over themselves, without flicker; plain new lines without a terminal."""

    def __init__(self) -> None:
        self._drawn = 0
        self._last: list[str] = []
        self._live = on_terminal() and os.environ.get("TERM", "dumb") != "dumb"

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines in place of those before."""
        fresh = list(lines)
        if fresh == self._last:
            return
        if self._live:
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            body = "".join(f"{line}\x1b[K\n" for line in fresh)
            sys.stdout.write(f"{up}{body}\x1b[J")
            self._drawn = len(fresh)
        else:
            sys.stdout.write("".join(line + "\n" for line in fresh if line not in self._last))
        sys.stdout.flush()
        self._last = fresh
