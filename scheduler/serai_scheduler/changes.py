"""What differs between two specs, key by key, and what each difference costs. Pure."""

from collections.abc import Iterator
from typing import Any

from serai.model import VersionContent
from serai.operator import Change
from serai.spec import VERSION_KEYS
from serai.spec.codec import to_builtins
from serai.spec.types import ApiSpec

ABSENT = "-"
SHORT_DIGEST = 8


def spec_changes(
    before: ApiSpec,
    after: ApiSpec,
    old: VersionContent | None,
    new: VersionContent,
) -> tuple[Change, ...]:
    """Return every difference; those of a version restart replicas, those of settings do not."""
    one = dict(_flat("", to_builtins(before)))
    other = dict(_flat("", to_builtins(after)))
    changes = [
        Change(
            path=path,
            before=_text(one.get(path)),
            after=_text(other.get(path)),
            restarts=makes_version(path),
        )
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    ]
    return (*changes, *_content_changes(old, new))


def makes_version(path: str) -> bool:
    """Say whether a change of this key makes a new version."""
    return any(path == key or path.startswith((key + ".", key + "[")) for key in VERSION_KEYS)


def _content_changes(old: VersionContent | None, new: VersionContent) -> Iterator[Change]:
    if old is None:
        return
    for name, label in (("bundle", "files"), ("lock", "requirements"), ("runtime", "runtime")):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change(
                path=label,
                before=before[:SHORT_DIGEST] or ABSENT,
                after=after[:SHORT_DIGEST] or ABSENT,
                restarts=True,
            )


def _flat(path: str, value: Any) -> Iterator[tuple[str, object]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flat(f"{path}.{key}" if path else str(key), inner)
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _flat(f"{path}[{index}]", inner)
        case _:
            yield path, value


def _text(value: object) -> str:
    return ABSENT if value is None else str(value)
