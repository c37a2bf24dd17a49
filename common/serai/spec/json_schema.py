"""The JSON Schema of a spec file, made from the types of a spec, for editors and other checkers."""

from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from serai.spec.codec import enc_hook, schema_hook
from serai.spec.constraints import bare, spec_type
from serai.spec.types import MOST_APIS, ApiSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `serai.yaml`: one API, or a list of them."""
    (root,), parts = msgspec.json.schema_components(
        [ApiSpec], schema_hook=schema_hook, ref_template="#/$defs/{name}"
    )
    for part in parts.values():
        part.pop("title", None)
    _add_defaults(spec_type(), parts)
    parts["ApiSpec"]["oneOf"] = [{"required": ["predictor"]}, {"required": ["pod"]}]
    # Through JSON, so that defaults that are quantities or tuples are what a file would hold.
    whole = {
        "$schema": DIALECT,
        "title": "serai.yaml",
        "description": "One API, or a list of APIs that are deployed together.",
        "anyOf": [root, {"type": "array", "items": root, "minItems": 1, "maxItems": MOST_APIS}],
        "$defs": parts,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole, enc_hook=enc_hook))
    widen(plain)
    return plain


def widen(part: Any) -> None:
    """Put `x-type` in place of `type`, which msgspec lets nobody set."""
    if isinstance(part, dict):
        if "x-type" in part:
            part["type"] = part.pop("x-type")
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            widen(inner)


def default_of(field: inspect.Field) -> Any:
    """Return the default of a field, or NODEFAULT where it has none."""
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _add_defaults(kind: inspect.StructType, parts: dict[str, Any]) -> None:
    """Write the defaults that msgspec leaves out, down to the last key."""
    properties = parts[kind.cls.__name__]["properties"]
    for field in kind.fields:
        inner, _ = bare(field.type)
        if isinstance(inner, inspect.VarTupleType):
            inner, _ = bare(inner.item_type)
        if isinstance(inner, inspect.StructType):
            _add_defaults(inner, parts)
        elif (default := default_of(field)) is None:
            properties[field.encode_name].pop("default", None)
        elif default is not NODEFAULT:
            properties[field.encode_name]["default"] = default
