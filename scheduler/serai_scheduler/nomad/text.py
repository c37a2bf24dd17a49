"""How values are written for Nomad, which reads `${…}` and `{{…}}` in what it is given. Pure."""

from collections.abc import Iterable

NANOSECONDS = 10**9
MIB = 2**20


def nanoseconds(seconds: float) -> int:
    """Return a duration as Nomad's JSON counts it."""
    return round(seconds * NANOSECONDS)


def mebibytes(size_bytes: int) -> int:
    """Return a size in MiB (what Nomad calls MB), never less than was asked."""
    return -(-size_bytes // MIB)


def literal(text: str) -> str:
    """Return a text that stays as it is in a driver's `Config`, which Nomad reads as templates."""
    return text.replace("${", "$${").replace("%{", "%%{")


def literals(texts: Iterable[str]) -> list[str]:
    return [literal(text) for text in texts]


def template_of_json(text: str) -> str:
    """Return JSON that stays the same JSON through a template.

    Two braces that open stand in strings only, where the second may be written as its number.
    """
    return text.replace("{{", "{\\u007b")
