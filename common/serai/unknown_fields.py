"""Takes out of decoded JSON what a type does not have: fields that a newer release has added."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect


def strip(found: object, kind: type) -> Iterator[str]:
    """Remove the unknown fields of structs from `found`, in place; yield the path of each.

    Structs are looked for where lists, tuples, dicts and unions with one of them hold them.
    """
    yield from _strip(found, inspect.type_info(kind), "")


def _strip(found: Any, info: inspect.Type, path: str) -> Iterator[str]:
    match info:
        case inspect.Metadata(type=inner):
            yield from _strip(found, inner, path)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _strip(found, one, path)
        case inspect.StructType(cls=cls) if isinstance(found, dict):
            yield from _strip_struct(found, cls, path)
        case inspect.DictType(value_type=inner) if isinstance(found, dict):
            for name, value in found.items():
                yield from _strip(value, inner, f"{path}.{name}")
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner) if (
            isinstance(found, list)
        ):
            for index, value in enumerate(found):
                yield from _strip(value, inner, f"{path}[{index}]")


def _strip_struct(found: dict[str, Any], cls: type, path: str) -> Iterator[str]:
    fields = {one.encode_name: one.type for one in msgspec.structs.fields(cls)}
    for name in [name for name in found if name not in fields]:
        del found[name]
        yield f"{path}.{name}".removeprefix(".")
    for name, value in found.items():
        yield from _strip(value, inspect.type_info(fields[name]), f"{path}.{name}")
