"""The settings that a replay tries: those of a spec, with some of them changed. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from serai.errors import ConfigError
from serai.spec import validate
from serai.spec.codec import dec_hook, to_builtins
from serai.spec.scaling import POLICIES, Autoscaling
from serai.spec.scaling_rules import USED_BY
from serai.spec.types import ApiSpec

BLOCK = "autoscaling"
UNUSED = frozenset({"policy", "init_replicas", "priority", "release", "metric", "schedule"})
SETTINGS = tuple(one for one in Autoscaling.__struct_fields__ if one not in UNUSED)
"""What may be set: keys of the block, those of `up`, `down` and `cortex` after a dot."""


def changed(spec: ApiSpec, policy: str, settings: Mapping[str, str]) -> Autoscaling:
    """Return the block with another policy ("" for the same one) and settings.

    These are texts by dotted key, "" for one that is to be left out. What the policy has no use
    for is left out unless it was set.
    Raises ConfigError for what the spec could not hold either.
    """
    if policy and policy not in POLICIES:
        raise ConfigError(f"there is no policy {policy}; there are {', '.join(POLICIES)}")
    block: dict[str, Any] = dict(to_builtins(spec)[BLOCK])
    if policy and policy != block["policy"]:
        block["policy"] = policy
        for key, users in USED_BY.items():
            if policy not in users:
                block.pop(key, None)
    for key, value in settings.items():
        _set(block, key, value)
    block["init_replicas"] = None
    try:
        scaling = msgspec.convert(block, Autoscaling, strict=False, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--set: {error}") from error
    other = msgspec.structs.replace(spec, autoscaling=scaling)
    if problems := validate((other,)):
        raise ConfigError("\n".join(str(one) for one in problems))
    if scaling.policy not in POLICIES:
        raise ConfigError(
            f"{scaling.policy} cannot be replayed: only policies of Serai are; name one with"
            f" --policy: {', '.join(POLICIES)}"
        )
    return scaling


def _set(block: dict[str, Any], key: str, value: str) -> None:
    first, _, rest = key.removeprefix(f"{BLOCK}.").partition(".")
    if first not in SETTINGS:
        raise ConfigError(
            f"--set {key}: there is no such setting; there are {_names(SETTINGS)}, with dots into"
            " up, down and cortex"
        )
    if not rest:
        _put(block, first, value)
        return
    within = block.get(first) or {}
    if not isinstance(within, dict):
        raise ConfigError(f"--set {key}: {first} is one value; set it without a dot")
    _put(within := dict(within), rest, value)
    _put(block, first, within)


def _put(block: dict[str, Any], key: str, value: Any) -> None:
    if value:
        block[key] = value
    else:
        block.pop(key, None)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
