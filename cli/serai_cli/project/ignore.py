"""Which files a project leaves out: the rules of .gitignore files, exactly as git reads them.

Rules are judged here and not by a library: the one at hand takes `*` followed by `!*/` for "ignore
every folder", and cannot tell a folder that is named from what lies in it. Tests hold this module
against git itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~",
    "space": "\\s", "upper": "A-Z", "xdigit": "0-9a-fA-F",
}  # fmt: skip
_STAR = "[^/]*"
_DEEP = (".*", "(?:.*/)?")
_SPECIAL = re.compile(r"[*?\[\\]")
_STARS = re.compile(r"\*+")
_NAMED_CLASS = re.compile(r"\[:([a-z]+):\]")


@dataclass(frozen=True)
class Rule:
    """One line: `anchored` ones are held against the path below their file, others the name."""

    pattern: re.Pattern[str]
    negated: bool
    only_folders: bool
    anchored: bool


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules of an ignore file; lines that git cannot read match nothing there either."""
    rules = (_rule(line) for line in text.split("\n"))
    return tuple(rule for rule in rules if rule is not None)


def verdict(rules: Sequence[Rule], path: str, is_folder: bool) -> bool | None:
    """Say whether the last rule that matches ignores `path` (True) or keeps it (False).

    `path` is relative to the folder of the rules' file. None when no rule matches.
    """
    name = path.rpartition("/")[2]
    for rule in reversed(rules):
        if rule.only_folders and not is_folder:
            continue
        if rule.pattern.fullmatch(path if rule.anchored else name):
            return not rule.negated
    return None


def _rule(line: str) -> Rule | None:
    line = _without_trailing_spaces(line.removesuffix("\r"))
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    glob = line[1:] if negated else line
    only_folders = glob.endswith("/")
    glob = glob.removesuffix("/")
    anchored = "/" in glob
    if (expression := _translated(glob.removeprefix("/"), anchored)) is None:
        return None
    try:
        pattern = re.compile(expression, re.DOTALL)
    except re.error:
        return None
    return Rule(pattern, negated, only_folders, anchored)


def _without_trailing_spaces(line: str) -> str:
    """Remove spaces at the end but for one that a backslash keeps."""
    kept = line.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and len(kept) < len(line) else kept


def _translated(glob: str, anchored: bool) -> str | None:
    """Return a regular expression for a glob, None for one that can match nothing."""
    out: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        step: tuple[str, int] | None
        if char == "*":
            step = _stars(glob, at, anchored)
        elif char == "[":
            step = _bracket(glob, at)
        elif char == "\\":
            step = (re.escape(glob[at + 1]), at + 2) if at + 1 < len(glob) else None
        else:
            step = ("[^/]" if char == "?" else re.escape(char), at + 1)
        if step is None:
            return None
        out.append(step[0])
        at = step[1]
    return _joined(out) or None


def _joined(parts: Sequence[str]) -> str:
    """Join the parts of an expression so that many stars take no longer than a few.

    What stands between two stars may as well match where it does first; without being told so, the
    expression tries all places for all of them.
    """
    out: list[str] = []
    between: list[str] | None = None
    for part in parts:
        if part == _STAR:
            if between is not None:
                out.append(f"(?>[^/]*?{''.join(between)})")
            between = []
        elif between is None:
            out.append(part)
        else:
            between.append(part)
            if part in _DEEP:
                out += [_STAR, *between]
                between = None
    return "".join(out if between is None else [*out, _STAR, *between])


def _stars(glob: str, at: int, anchored: bool) -> tuple[str, int]:
    """Read `*` and `**`; two or more mean any depth only as a whole part of a path."""
    match = _STARS.match(glob, at)
    assert match is not None, "only called at a star"
    end = match.end()
    # Git cuts plain text off the beginning first, so stars right behind it count as a part too.
    begins = glob[at - 1 : at] in ("", "/") or not _SPECIAL.search(glob, 0, at)
    ends = end == len(glob) or glob[end] == "/"
    if not (anchored and end - at > 1 and begins and ends):
        return _STAR, end
    if end == len(glob):
        return _DEEP[0], end
    return _DEEP[1], end + 1


def _bracket(glob: str, at: int) -> tuple[str, int] | None:
    """Read a character class; None when it is not closed or names an unknown class."""
    start = at + 1
    negated = glob[start : start + 1] in ("!", "^")
    at = start + negated
    first = at
    out: list[str] = []
    while at < len(glob) and (glob[at] != "]" or at == first):
        if named := _NAMED_CLASS.match(glob, at):
            if named[1] not in _CLASSES:
                return None
            out.append(_CLASSES[named[1]])
            at = named.end()
            continue
        step = _member(glob, at)
        if step is None:
            return None
        out.append(step[0])
        at = step[1]
    if at >= len(glob):
        return None
    members = "".join(out)
    return (f"(?!/)[{'^' if negated else ''}{members}]" if members else "(?!)", at + 1)


def _member(glob: str, at: int) -> tuple[str, int] | None:
    """Read one character or one range of a class."""
    low = _literal(glob, at)
    if low is None:
        return None
    char, at = low
    if glob[at : at + 1] != "-" or glob[at + 1 : at + 2] in ("]", ""):
        return re.escape(char), at
    high = _literal(glob, at + 1)
    if high is None:
        return None
    # A range that runs backwards holds nothing.
    held = f"{re.escape(char)}-{re.escape(high[0])}" if char <= high[0] else ""
    return held, high[1]


def _literal(glob: str, at: int) -> tuple[str, int] | None:
    if glob[at] != "\\":
        return glob[at], at + 1
    return (glob[at + 1], at + 2) if at + 1 < len(glob) else None
