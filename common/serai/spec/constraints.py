"""What a single value may be, read from its type: one check for files and for specs as JSON.

msgspec checks its own limits when it decodes JSON, but stops at the first fault and knows nothing
of quantities; here every value is looked at.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from msgspec import inspect

from serai.spec.findings import Finding, Path
from serai.spec.problems import nearest, shown
from serai.spec.types import ApiSpec

Extra = dict[str, Any]


@cache
def spec_type() -> inspect.StructType:
    """Return what msgspec knows of the type of a spec."""
    kind = inspect.type_info(ApiSpec)
    assert isinstance(kind, inspect.StructType)
    return kind


def bare(kind: inspect.Type) -> tuple[inspect.Type, Extra]:
    """Return a type without its annotations and without `| None`, and its own extra entries."""
    extra: Extra = {}
    while True:
        if isinstance(kind, inspect.Metadata):
            extra = {**(kind.extra or {}), **extra}
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        else:
            return kind, extra


def unfit(value: object, kind: inspect.Type, path: Path = ()) -> Iterator[Finding]:
    """Yield a finding for every value within `value` that its type does not allow."""
    inner, extra = bare(kind)
    if value is None:
        return
    match inner:
        case inspect.StructType():
            for field in inner.fields:
                inner_path = (*path, field.encode_name)
                yield from unfit(getattr(value, field.name), field.type, inner_path)
        case inspect.VarTupleType() if isinstance(value, tuple):
            yield from _too_many(value, inner, path)
            for index, item in enumerate(value):
                yield from unfit(item, inner.item_type, (*path, index))
        case inspect.DictType() if isinstance(value, dict) and _is_typed(inner):
            for key, item in value.items():
                for finding in unfit(key, inner.key_type, (*path, key)):
                    yield replace(finding, at_key=True)
                yield from unfit(item, inner.value_type, (*path, key))
        case _:
            yield from _unfit_value(value, inner, extra, path)


def _is_typed(kind: inspect.DictType) -> bool:
    return not isinstance(kind.value_type, inspect.AnyType)


def _unfit_value(value: object, kind: inspect.Type, extra: Extra, path: Path) -> Iterator[Finding]:
    match kind:
        case inspect.StrType() if isinstance(value, str):
            yield from _unfit_text(value, kind, extra, path)
        case inspect.IntType() | inspect.FloatType() if isinstance(value, int | float):
            low, high = kind.ge, kind.le
            if (low is not None and value < low) or (high is not None and value > high):
                word = "small" if low is not None and value < low else "large"
                yield Finding(path, f"too {word}", shown(value), f"{low} to {high}")
        case inspect.CustomType():
            yield from _unfit_quantity(value, kind.cls, extra, path)


def _unfit_text(value: str, kind: inspect.StrType, extra: Extra, path: Path) -> Iterator[Finding]:
    choices: tuple[str, ...] = extra.get("choices", ())
    if choices and value not in choices:
        allowed = ", ".join(choices)
        if value in extra.get("later", ()):
            yield Finding(path, f"{shown(value)} is not supported yet", allowed=allowed)
        else:
            hint = nearest(value, choices)
            yield Finding(path, f"{shown(value)} is not known", allowed=allowed, hint=hint)
    elif "\0" in value:
        yield Finding(path, "must not hold a NUL character", shown(value))
    elif kind.max_length is not None and len(value) > kind.max_length:
        most = f"at most {kind.max_length} characters"
        yield Finding(path, "too long", f"{len(value)} characters", most)
    elif kind.pattern and not re.search(kind.pattern, value):
        form = extra.get("form", kind.pattern)
        yield Finding(path, "not allowed" if value else "empty", shown(value), form)


def _unfit_quantity(value: Any, cls: Any, extra: Extra, path: Path) -> Iterator[Finding]:
    choices: tuple[str, ...] = extra.get("choices", ())
    if choices and value not in [cls.parse(choice) for choice in choices]:
        yield Finding(path, "not allowed", str(value), ", ".join(choices))
    least, most = extra.get("least"), extra.get("most")
    if least and most and not cls.parse(least) <= value <= cls.parse(most):
        word = "small" if value < cls.parse(least) else "large"
        yield Finding(path, f"too {word}", str(value), f"{least} to {most}")


def _too_many(
    value: tuple[object, ...], kind: inspect.VarTupleType, path: Path
) -> Iterator[Finding]:
    if kind.max_length is not None and len(value) > kind.max_length:
        yield Finding(path, "too many", str(len(value)), f"at most {kind.max_length}")
