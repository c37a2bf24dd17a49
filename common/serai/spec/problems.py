"""What reading a spec tells its writer: all problems at once, each with its place, and notes."""

import difflib
import json
from collections.abc import Iterable

import msgspec

from serai.errors import ConfigError
from serai.spec.types import ApiSpec

MOST_SHOWN = 60


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: where (line and column count from 1, 0 is unknown), what, and what would do.

    `found` and `allowed` are text ready to be shown, `hint` is the word that was probably meant;
    each is empty where it says nothing.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    message: str
    found: str = ""
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        text = _placed(self.file, self.line, self.column, self.path, self.message)
        text += f"; found {self.found}" if self.found else ""
        text += f"; did you mean `{self.hint}`?" if self.hint else ""
        separator = "" if not self.allowed else " " if self.hint else "; "
        return text + (f"{separator}allowed: {self.allowed}" if self.allowed else "")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something accepted that does less than its writer may expect."""

    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    message: str

    def __str__(self) -> str:
        return _placed(self.file, self.line, self.column, self.path, self.message)


class LoadedSpecs(msgspec.Struct, frozen=True, kw_only=True):
    """The APIs of one file, valid, defaults filled in, with notes for their writer."""

    apis: tuple[ApiSpec, ...]
    notes: tuple[Note, ...] = ()


class SpecError(ConfigError):
    """A spec cannot be used; `problems` holds every reason, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def shown(value: object) -> str:
    """Write a value as JSON on one line, shortened, so that no input can disturb a terminal."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that `word` was probably meant to be, or an empty text."""
    by_lower = {known.lower(): known for known in words}
    found = difflib.get_close_matches(word.lower()[:100], by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def _placed(file: str, line: int, column: int, path: str, message: str) -> str:
    place = f"{file}:{line}:{column}" if line else file
    return ": ".join(part for part in (place, path, message) if part)
