"""From a tree of nodes to typed values: every unknown key, missing key and wrong type at once.

One walker over the types of a spec; it knows no key by name. What could not be read is replaced by
a default, and remembered as failed, so that the rules can still be applied to all the rest.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from msgspec import inspect

from serai.spec.constraints import bare, spec_type
from serai.spec.findings import Finding, Path, written
from serai.spec.nodes import Entry, Mapping, Mark, Node, Scalar, Sequence, resolve
from serai.spec.problems import nearest, shown

FAILED = object()
NO_VALUE = "has no value; give it one, or remove the key"
_LEAST_INT, _MOST_INT = -(2**63), 2**64 - 1
_EXPECTED: dict[type, str] = {
    inspect.StrType: "expected text",
    inspect.IntType: "expected a whole number",
    inspect.FloatType: "expected a number",
    inspect.BoolType: "expected true or false",
    inspect.StructType: "expected a mapping of keys to values",
    inspect.DictType: "expected a mapping of keys to values",
    inspect.VarTupleType: "expected a list",
}


class Reader:
    """Reads one API; afterwards it knows what failed, and where each key stands."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.notes: list[Finding] = []
        self.failed: set[Path] = set()
        self.values: dict[Path, Mark] = {}
        self.keys: dict[Path, Mark] = {}
        self.origins: dict[Path, str] = {}
        self.texts: dict[Path, str] = {}

    def read(self, node: Node, kind: inspect.Type, path: Path = ()) -> Any:
        """Return the value of a node as its type has it, or FAILED."""
        self.values[path] = node.mark
        if node.origin:
            self.origins[path] = node.origin
        inner, extra = bare(kind)
        if isinstance(node, Scalar) and node.value is None:
            return None if _optional(kind) else self._fail(path, NO_VALUE)
        match inner, node:
            case inspect.StructType(), Mapping():
                return self._struct(node, inner, path)
            case inspect.VarTupleType(), Sequence():
                return self._list(node, inner, path)
            case inspect.DictType(), Mapping():
                return self._dict(node, inner, path)
            case inspect.AnyType(), _:
                return self._anything(node, path)
            case _, Scalar() if type(inner) not in _COLLECTIONS:
                return self._scalar(node, inner, path)
        allowed, expected = _as_list(inner, node), _expected(inner)
        if isinstance(inner, inspect.StrType) and _may_be_number(kind) and "form" in extra:
            expected, allowed = "expected one value", extra["form"]
        return self._fail(path, expected, _found(node), allowed=allowed)

    def place(self, path: Path, at_key: bool = False) -> Mark:
        """Return where a key stands, or the nearest that holds it and is written."""
        places = self.keys if at_key else self.values
        while path not in places and path:
            path, places = path[:-1], self.values
        return places.get(path, Mark(1, 1))

    def name(self, path: Path) -> str:
        """Return the path of a key as its writer knows it, also where a conversion moved it."""
        for length in range(len(path), 0, -1):
            if origin := self.origins.get(path[:length]):
                rest = written(path[length:])
                return origin + ("" if not rest or rest.startswith("[") else ".") + rest
        return written(path)

    def _fail(self, path: Path, message: str, found: str = "", **more: Any) -> Any:
        self.findings.append(Finding(path, message, found, **more))
        self.failed.add(path)
        return FAILED

    def _struct(self, node: Mapping, kind: inspect.StructType, path: Path) -> Any:
        fields = {field.encode_name: field for field in kind.fields}
        values: dict[str, Any] = {}
        for entry in node.entries:
            inner = (*path, entry.key)
            self.keys[inner] = entry.mark
            if entry.key not in fields:
                self._unknown(entry, inner, list(fields))
                continue
            value = self.read(entry.value, fields[entry.key].type, inner)
            if value is not FAILED:
                values[entry.key] = value
        for field in kind.fields:
            if field.required and field.encode_name not in values:
                missing = (*path, field.encode_name)
                if missing not in self.failed:
                    self._fail(missing, "is missing" + _description(field.type))
                values[field.encode_name] = _stand_in(field.type)
        return kind.cls(**{fields[key].name: value for key, value in values.items()})

    def _unknown(self, entry: Entry, path: Path, known: list[str]) -> None:
        hint = nearest(entry.key, known) or _elsewhere(entry.key)
        if hint:  # What was meant is not missing as well.
            self.failed.add((*path[:-1], hint) if hint in known else tuple(hint.split(".")))
        self.findings.append(
            Finding(path, "unknown key", allowed=", ".join(known), hint=hint, at_key=True)
        )

    def _list(self, node: Sequence, kind: inspect.VarTupleType, path: Path) -> Any:
        items = [
            self.read(item, kind.item_type, (*path, index)) for index, item in enumerate(node.items)
        ]
        if any(item is FAILED for item in items):
            self.failed.add(path)
            return FAILED
        return tuple(items)

    def _dict(self, node: Mapping, kind: inspect.DictType, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for entry in node.entries:
            inner = (*path, entry.key)
            self.keys[inner] = entry.mark
            self._remark_key(entry, kind, inner)
            value = self.read(entry.value, kind.value_type, inner)
            if value is not FAILED:
                values[entry.key] = value
        return values

    def _remark_key(self, entry: Entry, kind: inspect.DictType, path: Path) -> None:
        if entry.typed and isinstance(kind.value_type, inspect.AnyType):
            message = f"keys are text here: the predictor gets {shown(entry.key)}"
            self.notes.append(Finding(path, message, at_key=True))

    def _anything(self, node: Node, path: Path) -> Any:
        match node:
            case Mapping():
                return self._dict(node, _ANYTHING, path)
            case Sequence():
                items = enumerate(node.items)
                values = [self._anything_in(item, (*path, index)) for index, item in items]
                return [value for value in values if value is not FAILED]
            case Scalar(value=float() as number) if not math.isfinite(number):
                return self._fail(path, "JSON cannot hold this number", node.text[:40])
            case Scalar(value=int() as number) if not _LEAST_INT <= number <= _MOST_INT:
                return self._fail(path, "too large for a 64-bit number; put it in quotes")
            case Scalar():
                return node.value

    def _anything_in(self, node: Node, path: Path) -> Any:
        self.values[path] = node.mark
        return self._anything(node, path)

    def _scalar(self, node: Scalar, kind: inspect.Type, path: Path) -> Any:
        value = node.value
        match kind:
            case inspect.StrType():
                return node.text
            case inspect.LiteralType() if node.text in kind.values:
                return node.text
            case inspect.LiteralType():
                allowed = [str(value) for value in kind.values]
                hint = nearest(node.text, allowed)
                message = f"{shown(value)} is not known"
                return self._fail(path, message, allowed=", ".join(allowed), hint=hint)
            case inspect.BoolType() if isinstance(value, bool):
                return value
            case inspect.IntType() if isinstance(value, int) and not isinstance(value, bool):
                return value
            case inspect.FloatType() if isinstance(value, int | float) and _is_number(value):
                return float(value)
            case inspect.CustomType():
                return self._quantity(node, kind.cls, path)
        quoted = isinstance(value, str) and not isinstance(resolve(value), str)
        expected = _expected(kind) + (", without quotes" if quoted else "")
        return self._fail(path, expected, _found(node))

    def _quantity(self, node: Scalar, cls: Any, path: Path) -> Any:
        try:
            value = cls.parse(node.value)
        except ValueError as error:
            return self._fail(path, str(error), _found(node))
        self.texts[path] = node.text
        return value


_COLLECTIONS = (inspect.StructType, inspect.DictType, inspect.VarTupleType)
_ANYTHING = inspect.DictType(inspect.StrType(), inspect.AnyType())


def _optional(kind: inspect.Type) -> bool:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return isinstance(kind, inspect.AnyType) or (
        isinstance(kind, inspect.UnionType)
        and any(isinstance(one, inspect.NoneType) for one in kind.types)
    )


def _may_be_number(kind: inspect.Type) -> bool:
    """Say whether a text may be written as a number, so that `text` is not the word for it."""
    if isinstance(kind, inspect.UnionType):
        return any(_may_be_number(one) for one in kind.types)
    if not isinstance(kind, inspect.Metadata):
        return False
    return "number" in (kind.extra_json_schema or {}).get("x-type", ()) or _may_be_number(kind.type)


def _stand_in(kind: inspect.Type) -> Any:
    """Return what stands for a required value that is missing, so that the rules can go on."""
    inner, _ = bare(kind)
    if isinstance(inner, inspect.CustomType):
        parse: Any = getattr(inner.cls, "parse")  # noqa: B009 - msgspec knows only a type
        return parse(0)
    return ""


def _is_number(value: int | float) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int) or math.isfinite(value))


def _expected(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.CustomType):
        try:
            parse: Any = getattr(kind.cls, "parse")  # noqa: B009 - msgspec knows only a type
            parse(None)
        except ValueError as error:
            return str(error)
    return _EXPECTED.get(type(kind), "expected one value")


def _found(node: Node) -> str:
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar():
            return shown(node.value)


def _as_list(kind: inspect.Type, node: Node) -> str:
    """Return the words of a command as the list that they should be."""
    if not isinstance(kind, inspect.VarTupleType) or not isinstance(node, Scalar):
        return ""
    is_text = isinstance(bare(kind.item_type)[0], inspect.StrType)
    return f"a list, such as {shown(node.text.split())}" if is_text and node.text else ""


def _description(kind: inspect.Type) -> str:
    """Return in brackets what a key is for."""
    while isinstance(kind, inspect.Metadata):
        if kind.extra_json_schema and "description" in kind.extra_json_schema:
            text = str(kind.extra_json_schema["description"])
            return f" ({text[:1].lower()}{text[1:]})"
        kind = kind.type
    return ""


def _elsewhere(key: str) -> str:
    """Return the path of a key of this name anywhere in a spec, where there is just one."""
    places = _places_by_key().get(key, [])
    return places[0] if len(places) == 1 else ""


@cache
def _places_by_key() -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for path in all_keys(spec_type()):
        places.setdefault(path.rsplit(".", 1)[-1], []).append(path)
    return places


def all_keys(kind: inspect.StructType, before: str = "") -> Iterator[str]:
    """Yield the path of every key that a spec may hold, lists written with `[]`."""
    for field in kind.fields:
        inner, _ = bare(field.type)
        path = before + field.encode_name
        if isinstance(inner, inspect.VarTupleType):
            inner, path = bare(inner.item_type)[0], path + "[]"
        if isinstance(inner, inspect.StructType):
            yield path.removesuffix("[]")
            yield from all_keys(inner, path + ".")
        else:
            yield path.removesuffix("[]")
