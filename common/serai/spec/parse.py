"""YAML text to trees of nodes, or a SpecError that says where it cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from serai.spec.nodes import (
    MOST_DEPTH,
    MOST_VALUES,
    Entry,
    Mapping,
    Mark,
    Node,
    Scalar,
    Sequence,
    mapping,
    resolve,
    sequence,
)
from serai.spec.problems import Problem, SpecError, shown

MOST_FILE_BYTES = 2**20
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TOO_DEEP = f"lists and mappings are nested more than {MOST_DEPTH} deep"
_CORE = "tag:yaml.org,2002:"
_TEXT_TAGS = ("!", _CORE + "str")
_PLAIN_TAGS = tuple(_CORE + name for name in ("int", "float", "bool", "null"))
_SHAPE_TAGS = (None, "!", _CORE + "map", _CORE + "seq")


def parse(text: str, file: str) -> tuple[list[Node], list[Problem]]:
    """Return the documents of a file and the faults that leave them readable.

    Raises SpecError where the text is too large or is no YAML at all.
    """
    builder = _Builder(file)
    builder.refuse_unless_readable(text)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.fail(_mark(error.problem_mark or error.context_mark), *_syntax(error, text))
    except yaml.YAMLError as error:
        builder.fail(Mark(1, 1), f"this is not YAML: {' '.join(str(error).split())[:200]}")
    return builder.documents, builder.problems


@dataclass
class _Frame:
    """A list or mapping that is still open; a mapping's keys and values alternate in `nodes`."""

    mark: Mark
    anchor: str | None
    is_mapping: bool
    nodes: list[Node] = field(default_factory=list)
    plain_keys: set[int] = field(default_factory=set)


class _Builder:
    """Takes parser events one by one; `documents` and `problems` are the result."""

    def __init__(self, file: str) -> None:
        self.documents: list[Node] = []
        self.problems: list[Problem] = []
        self._file = file
        self._open: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}
        self._weight = 0

    def take(self, event: Any) -> None:
        """Add what one event says; raise SpecError when a limit is passed."""
        mark = _mark(event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case yaml.ScalarEvent():
                self._spend(1, mark)
                self._add(self._scalar(event, mark), event.anchor, _is_plain(event))
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._spend(1, mark)
                self._open_frame(event, mark)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close_frame()
            case yaml.AliasEvent():
                self._add(self._aliased(event.anchor, mark), None, False)

    def fail(self, mark: Mark, message: str, hint: str = "") -> NoReturn:
        """Raise SpecError with this problem after all that were found before it."""
        self._note(mark, message, hint)
        raise SpecError(self.problems)

    def refuse_unless_readable(self, text: str) -> None:
        """Raise SpecError for text that the parser must not see."""
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            before = text[: error.start]
            place = Mark(before.count("\n") + 1, error.start - before.rfind("\n"))
            self.fail(place, "this character is half of a pair and cannot be written as UTF-8")
        else:
            if size > MOST_FILE_BYTES:
                self.fail(Mark(1, 1), f"the file is {size} bytes long; at most 1 MiB is read")

    def _note(self, mark: Mark, message: str, hint: str = "") -> None:
        message += f"; {hint}" if hint else ""
        self.problems.append(
            Problem(file=self._file, line=mark.line, column=mark.column, message=message)
        )

    def _spend(self, weight: int, mark: Mark) -> None:
        self._weight += weight
        if self._weight > MOST_VALUES:
            self.fail(mark, f"more than {MOST_VALUES} values, counting what aliases stand for")

    def _open_frame(self, event: Any, mark: Mark) -> None:
        self._check_tag(event.tag, _SHAPE_TAGS, mark)
        if len(self._open) >= MOST_DEPTH:
            self.fail(mark, _TOO_DEEP)
        self._open.append(_Frame(mark, event.anchor, isinstance(event, yaml.MappingStartEvent)))
        if event.anchor:
            self._anchors[event.anchor] = None

    def _close_frame(self) -> None:
        frame = self._open.pop()
        if frame.is_mapping:
            node: Node = mapping(frame.mark, self._entries(frame))
        else:
            node = sequence(frame.mark, frame.nodes)
        self._add(node, frame.anchor, False)

    def _add(self, node: Node, anchor: str | None, plain: bool) -> None:
        if anchor:
            self._anchors[anchor] = node
        if len(self._open) + node.depth > MOST_DEPTH:
            self.fail(node.mark, _TOO_DEEP)
        if not self._open:
            self.documents.append(node)
            return
        frame = self._open[-1]
        if plain and frame.is_mapping:
            frame.plain_keys.add(len(frame.nodes))
        frame.nodes.append(node)

    def _scalar(self, event: Any, mark: Mark) -> Scalar:
        text: str = event.value
        if event.tag is None or (event.tag == "!" and event.implicit[0]):
            return Scalar(mark, resolve(text) if _is_plain(event) else text, text)
        if event.tag in _PLAIN_TAGS:
            return Scalar(mark, resolve(text), text)
        self._check_tag(event.tag, _TEXT_TAGS, mark)
        return Scalar(mark, text, text)

    def _check_tag(self, tag: str | None, known: tuple[str | None, ...], mark: Mark) -> None:
        if tag not in known:
            self._note(mark, f"the tag {shown(tag)} is not supported; write plain YAML")

    def _aliased(self, anchor: str | None, mark: Mark) -> Node:
        if anchor is None or anchor not in self._anchors:
            self.fail(mark, f"`*{anchor}` refers to an anchor that is not written before it")
        node = self._anchors[anchor]
        if node is None:
            self.fail(mark, f"`*{anchor}` stands inside of what it refers to")
        self._spend(node.weight, mark)
        return node

    def _entries(self, frame: _Frame) -> list[Entry]:
        """Pair keys with values, fold `<<` in, and refuse keys that stand twice."""
        entries: dict[str, Entry] = {}
        merges: list[Node] = []
        for index in range(0, len(frame.nodes) - 1, 2):
            key, value = frame.nodes[index], frame.nodes[index + 1]
            if not isinstance(key, Scalar):
                self._note(key.mark, "a key must be text, not a list or a mapping")
            elif key.text == "<<" and index in frame.plain_keys:
                merges.append(value)
            elif key.text in entries:
                first = entries[key.text].mark.line
                self._note(key.mark, f"{_quoted(key.text)} is written twice, first in line {first}")
            else:
                typed = not isinstance(key.value, str)
                entries[key.text] = Entry(key.text, key.mark, value, typed)
        for extra in merges[1:]:
            self._note(extra.mark, "`<<` is written twice; write `<<: [*first, *second]`")
        for entry in self._merged(merges[:1]):
            entries.setdefault(entry.key, entry)
        return list(entries.values())

    def _merged(self, merges: list[Node]) -> Iterator[Entry]:
        for value in merges:
            for source in value.items if isinstance(value, Sequence) else (value,):
                if isinstance(source, Mapping):
                    yield from source.entries
                else:
                    self._note(source.mark, "`<<` takes a mapping, such as an alias of one")


def _is_plain(event: Any) -> bool:
    return not event.style or event.style == ""


def _quoted(key: str) -> str:
    return f"`{key}`" if key.isprintable() and len(key) <= 40 else shown(key)


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[str, str]:
    """Return the message of a syntax error, and what most often causes it."""
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    since = ""
    if began is not None and mark is not None and began.line != mark.line:
        since = f"(begun in line {began.line + 1})"
    if "maximum nesting depth" in str(error.problem):
        return _TOO_DEEP, ""
    context = " ".join(part for part in (error.context, since, error.problem) if part)
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "YAML is indented with spaces, not tabs"
    elif "mapping values are not allowed" in context:
        hint = "put text that holds `: ` in quotes, and check the indentation"
    return f"this is not YAML: {context}", hint
