"""The reference table of every key of a spec, made from its types; docs/spec.md holds a copy."""

from collections.abc import Iterator
from typing import Any

from msgspec import NODEFAULT, inspect

from serai.spec import IDENTITY_KEYS, VERSION_KEYS
from serai.spec.constraints import Extra, bare, spec_type
from serai.spec.json_schema import default_of

_WORDS: dict[type, str] = {
    inspect.StrType: "text",
    inspect.BoolType: "true or false",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.AnyType: "anything",
}


def reference() -> str:
    """Return a Markdown table: key, what it takes, its default, what it is for, its change."""
    rows = ["| key | takes | default | meaning | a change |", "|---|---|---|---|---|"]
    return "\n".join([*rows, *_rows(spec_type(), "")]) + "\n"


def change_of(path: str) -> str:
    """Return what a change of this key makes: `a new API`, `new version` or `setting`."""
    for keys, word in ((IDENTITY_KEYS, "a new API"), (VERSION_KEYS, "new version")):
        if any(path == key or path.startswith((key + ".", key + "[")) for key in keys):
            return word
    return "setting"


def _rows(kind: inspect.StructType, before: str) -> Iterator[str]:
    for field in kind.fields:
        inner, extra = bare(field.type)
        path = before + field.encode_name
        part = inner
        if isinstance(inner, inspect.VarTupleType):
            part = bare(inner.item_type)[0]
        nested = isinstance(part, inspect.StructType)
        change = "" if path == "concurrency" else change_of(path)
        cells = (f"`{path}`", _takes(inner, extra), _default(field), _meaning(field.type), change)
        yield "| " + " | ".join(cells) + " |"
        if isinstance(part, inspect.StructType) and nested:
            yield from _rows(part, f"{path}[]." if part is not inner else f"{path}.")


def _takes(kind: inspect.Type, extra: Extra) -> str:
    choices = extra.get("choices")
    if isinstance(kind, inspect.LiteralType):
        choices = [str(value) for value in kind.values]
    if choices:
        return " ".join(f"`{choice}`" for choice in choices)
    if "form" in extra:
        return str(extra["form"])
    match kind:
        case inspect.CustomType():
            word = kind.cls.__name__.lower().replace("cpu", "processor time")
            return f"{word}, {extra['least']} to {extra['most']}"
        case inspect.IntType() | inspect.FloatType():
            return f"{_WORDS[type(kind)]}, {kind.ge} to {kind.le}"
        case inspect.VarTupleType():
            item, item_extra = bare(kind.item_type)
            one = "mappings" if isinstance(item, inspect.StructType) else _takes(item, item_extra)
            return f"list of {one}"
        case inspect.StructType() | inspect.DictType():
            return "mapping"
    return _WORDS[type(kind)]


def _default(field: inspect.Field) -> str:
    default: Any = default_of(field)
    if default is NODEFAULT:
        return "required"
    if default is None or default in ("", (), {}):
        return "none"
    if isinstance(bare(field.type)[0], inspect.StructType):
        return "see below"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _meaning(kind: inspect.Type) -> str:
    schema = kind.extra_json_schema or {} if isinstance(kind, inspect.Metadata) else {}
    return str(schema.get("description", "")).replace("|", "\\|")
