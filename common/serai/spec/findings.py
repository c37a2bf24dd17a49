"""What a rule finds, before it is known where in a file that is."""

from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault at `path`; `others` are further keys that it was derived from.

    A finding says nothing new where one of these keys could not be read in the first place.
    """

    path: Path
    message: str
    found: str = ""
    allowed: str = ""
    hint: str = ""
    others: tuple[Path, ...] = ()
    at_key: bool = False

    def concerns(self, failed: Path) -> bool:
        """Say whether it was derived from a key that could not be read, or lies within it."""
        return any(path[: len(failed)] == failed for path in (self.path, *self.others))


def written(path: Path) -> str:
    """Return a path as people write it: `pod.containers[0].image`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_plain(part)}"
    return text.removeprefix(".")


def _plain(key: str) -> str:
    shortened = key if len(key) <= 60 else key[:59] + "…"
    return "".join(letter if letter.isprintable() else "?" for letter in shortened)
