"""Specs as JSON and back: quantities travel in their written form (30s, 32Mi, 200m)."""

from typing import Any

import msgspec

from serai.spec.types import ApiSpec
from serai.units import Cpu, Duration, Size

QUANTITIES = (Duration, Size, Cpu)
_NUMBER = r"[0-9]+(\.[0-9]+)?"
_SCHEMAS: dict[type, dict[str, Any]] = {
    Duration: {"pattern": rf"^({_NUMBER}(ms|s|m|h|d))+$", "examples": ["500ms", "30s", "10m"]},
    Size: {"pattern": rf"^{_NUMBER}(Ki|Mi|Gi|Ti|K|k|M|G|T)?B?$", "examples": ["512Mi", "32MiB"]},
    Cpu: {"pattern": rf"^{_NUMBER}m?$", "examples": ["200m", 2]},
}


def enc_hook(value: object) -> str:
    """Write a quantity; for msgspec encoders of any type that contains a spec."""
    if isinstance(value, QUANTITIES):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be written as JSON")


def dec_hook(kind: type, raw: Any) -> Any:
    """Read a quantity; raise ValueError with what is allowed."""
    if issubclass(kind, QUANTITIES):
        return kind.parse(raw)
    raise NotImplementedError(f"{kind.__name__} cannot be read from JSON")


def schema_hook(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a quantity; for msgspec's schema of any type with a spec."""
    if kind not in _SCHEMAS:
        raise NotImplementedError(f"{kind.__name__} has no JSON Schema")
    description = (kind.__doc__ or "").partition("\n")[0]
    return {"type": ["string", "number"], "description": description, **_SCHEMAS[kind]}


def encode(spec: ApiSpec) -> bytes:
    """Return a spec as JSON."""
    return msgspec.json.encode(spec, enc_hook=enc_hook)


def decode(data: bytes) -> ApiSpec:
    """Read a spec from JSON; raise msgspec.ValidationError naming what does not fit."""
    return msgspec.json.decode(data, type=ApiSpec, dec_hook=dec_hook)


def to_builtins(spec: ApiSpec) -> dict[str, Any]:
    """Return a spec as plain dicts, lists and scalars, quantities in their written form."""
    plain: dict[str, Any] = msgspec.json.decode(encode(spec))
    return plain
