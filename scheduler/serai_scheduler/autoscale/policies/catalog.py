"""The rules by the names that a spec or a command may use."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from serai.errors import ConfigError
from serai_scheduler.autoscale.policies.cortex import Cortex, CortexOptions
from serai_scheduler.autoscale.policies.fixed import Fixed, FixedOptions
from serai_scheduler.autoscale.policies.hpa import Hpa, HpaOptions
from serai_scheduler.autoscale.policies.kpa import Kpa, KpaOptions
from serai_scheduler.autoscale.policies.policy import ChoosingPolicy, Policy
from serai_scheduler.autoscale.policies.serai import Serai

_MADE: dict[str, tuple[type[Any], Callable[[Any], ChoosingPolicy]]] = {
    "cortex": (CortexOptions, Cortex),
    "fixed": (FixedOptions, Fixed),
    "hpa": (HpaOptions, Hpa),
    "kpa": (KpaOptions, Kpa),
}
OWN = "serai"
NAMES = (OWN, *sorted(_MADE))


def named(name: str, options: Mapping[str, float] | None = None) -> Policy:
    """Return a fresh policy; raises `ConfigError` for names, options and values that are none."""
    options = options or {}
    if name == OWN:
        if options:
            raise ConfigError(f"policy {OWN} takes no options, but has {', '.join(options)}")
        return Serai()
    return peer(name, options)


def peer(name: str, options: Mapping[str, float] | None = None) -> ChoosingPolicy:
    """Return a fresh policy that is not Serai's own; raises as `named` does."""
    options = options or {}
    if name not in _MADE:
        raise ConfigError(f"there is no policy {name}; there are {', '.join(NAMES)}")
    kind, make = _MADE[name]
    known = {field.name: field.default for field in fields(kind)}
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"policy {name} has no option {option}; it has {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"policy {name}: {option} is {value!r}, which is no number")
        if isinstance(known[option], int) and not isinstance(value, int):
            raise ConfigError(f"policy {name}: {option} is {value}, which is no whole number")
    return make(kind(**options))
