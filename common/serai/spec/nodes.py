"""YAML as a tree of values that remember where they stand, built within fixed limits.

The tree is built from the parser's events in one loop: no recursion for a deep file to exhaust,
and an alias is charged with all that it stands for, so that a small file cannot grow into a large
one. Only plain data is read; tags that name other types are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

MOST_DEPTH = 32
MOST_VALUES = 100_000

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: as YAML understands it, and as it is written (for keys that take text)."""

    mark: Mark
    value: Plain
    text: str
    origin: str = ""
    weight: int = 1
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: tuple["Node", ...]
    origin: str = ""
    weight: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order of the file; no key stands twice."""

    mark: Mark
    entries: tuple["Entry", ...]
    origin: str = ""
    weight: int = 1
    depth: int = 1

    def get(self, key: str) -> "Node | None":
        """Return the value of a key, or None where it is not written."""
        return next((entry.value for entry in self.entries if entry.key == key), None)


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value; `typed` says that the key was not written as text."""

    key: str
    mark: Mark
    value: Node
    typed: bool = False


def moved(node: Node, origin: str) -> Node:
    """Return the node as one that was written under another key, for messages."""
    return replace(node, origin=origin)


def sequence(mark: Mark, items: list[Node]) -> Sequence:
    """Return a list with its weight and depth."""
    weight = 1 + sum(item.weight for item in items)
    return Sequence(mark, tuple(items), "", weight, 1 + max((i.depth for i in items), default=0))


def mapping(mark: Mark, entries: list[Entry]) -> Mapping:
    """Return a mapping with its weight and depth."""
    weight = 1 + sum(1 + entry.value.weight for entry in entries)
    depth = 1 + max((entry.value.depth for entry in entries), default=0)
    return Mapping(mark, tuple(entries), "", weight, depth)


def with_entries(node: Mapping, entries: Iterator[Entry] | list[Entry]) -> Mapping:
    """Return the mapping with other entries, in its old place."""
    return replace(mapping(node.mark, list(entries)), origin=node.origin)


_INT = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}|0o[0-7]{1,22}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")
_SPECIAL: dict[str, Plain] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def resolve(text: str) -> Plain:
    """Return what an unquoted scalar means.

    As YAML 1.2 has it, with the yes/no/on/off of YAML 1.1; its base-60 numbers (1:30), octals
    with a bare 0 and dates stay text, for nobody means them here.
    """
    if text in _SPECIAL:
        return _SPECIAL[text]
    if _INT.fullmatch(text) and len(text) <= 400:
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 0)
    return float(text) if len(text) <= 400 and _FLOAT.fullmatch(text) else text
