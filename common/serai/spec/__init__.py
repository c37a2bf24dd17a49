"""Reading, checking and describing `serai.yaml`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serai.spec.json_schema import schema
    from serai.spec.load import (
        embedded_notes,
        embedded_problems,
        find_file,
        load_file,
        load_text,
        normalised,
        validate,
    )
    from serai.spec.problems import LoadedSpecs, Note, Problem, SpecError

__all__ = [
    "IDENTITY_KEYS",
    "SETTINGS_KEYS",
    "VERSION_KEYS",
    "LoadedSpecs",
    "Note",
    "Problem",
    "SpecError",
    "embedded_notes",
    "embedded_problems",
    "find_file",
    "load_file",
    "load_text",
    "normalised",
    "schema",
    "validate",
]

IDENTITY_KEYS = ("name", "kind")
"""Keys that say which API it is: a change of name is another API, the kind cannot change."""

VERSION_KEYS = (
    "predictor",
    "pod",
    "compute",
    "env",
    "concurrency.per_replica",
    "readiness",
    "mounts",
    "nodes",
)
"""Keys that make a new version when they change: what a replica is made from."""

SETTINGS_KEYS = (
    "endpoint",
    "autoscaling",
    "concurrency.queue",
    "concurrency.queue_timeout",
    "concurrency.body_max",
    "timeouts",
    "retry",
)
"""Keys that change without touching a replica."""

_HOMES = {
    "json_schema": ("schema",),
    "load": (
        "embedded_notes",
        "embedded_problems",
        "find_file",
        "load_file",
        "load_text",
        "normalised",
        "validate",
    ),
    "problems": ("LoadedSpecs", "Note", "Problem", "SpecError"),
}


def __getattr__(name: str) -> object:
    """Import a name when it is asked for: many need the types alone, and reading YAML costs."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"serai.spec.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
