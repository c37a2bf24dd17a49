"""What uv says when requirements do not resolve, in the words of somebody who deploys."""

import re
from dataclasses import dataclass

from serai.errors import ConfigError, SeraiError, Unavailable
from serai_cli.project.requirements import Requirements, without_passwords

MAX_LINES = 20

_NOT_FOUND = re.compile(r"Because (\S+) was not found in the (?:package registry|provided)")
_NO_VERSION = re.compile(r"Because there (?:is|are) no versions? of (\S+?)([=<>!~,;\[]\S*)? and")
_NO_WHEEL = re.compile(r"(\S+?)([=<>!~]=?\S*)? has no (?:usable )?wheels")
_FETCH = re.compile(r"(?:Failed to fetch:? |for url \()`?([^\s`)]+)")
_HINT = re.compile(r"^hint: .*$", re.MULTILINE)
_UNREACHABLE = (
    "error sending request",
    "dns error",
    "tcp connect error",
    "operation timed out",
    "Network connectivity is disabled",
    "network was disabled",
)
_DENIED = re.compile(r"\b(401 Unauthorized|403 Forbidden)\b")


@dataclass(frozen=True)
class Asked:
    """What was to be resolved, for messages; `name` is how the user calls the file."""

    name: str
    requirements: Requirements
    runtime_requirements: tuple[str, ...]
    python: str
    platform: str


def explained(output: str, asked: Asked) -> SeraiError:
    """Return the error that uv's output stands for."""
    told = without_passwords(output).strip()
    if found := _DENIED.search(told):
        return ConfigError(
            f"{asked.name}: the package index refused ({found[1]}); check the address and the "
            f"credentials in UV_DEFAULT_INDEX or UV_INDEX.{_quoted(told)}"
        )
    if any(sign in told for sign in _UNREACHABLE):
        where = _FETCH.search(told)
        return Unavailable(
            f"{asked.name}: the package index{' at ' + where[1] if where else ''} cannot be "
            "reached; check the network and UV_DEFAULT_INDEX, then try again (requirements with "
            "the serai.lock that `serai lock` writes beside them need no network)"
        )
    return ConfigError(f"{asked.name}: {_in_words(told, asked)}")


def _in_words(told: str, asked: Asked) -> str:
    if found := _NOT_FOUND.search(told):
        place = asked.requirements.place_of(found[1])
        return f"there is no package {found[1]} in the index{place}; check its name"
    if found := _NO_WHEEL.search(told):
        place = asked.requirements.place_of(found[1])
        hint = "".join(f" {line}" for line in _HINT.findall(told)[-1:])
        return (
            f"{found[1]}{found[2] or ''} has no wheel for Python {asked.python} on "
            f"{asked.platform}{place}; ask for another version.{hint}"
        )
    if (found := _NO_VERSION.search(told)) and told.count("Because") == 1:
        place = asked.requirements.place_of(found[1])
        return f"there is no version {found[1]}{found[2] or ''} in the index{place}"
    if "No solution found" in told:
        runtime = ", ".join(asked.runtime_requirements) or "nothing"
        return (
            "the requirements contradict each other, or those of the runtime, which needs "
            f"{runtime}.{_quoted(told)}"
        )
    return f"the requirements cannot be resolved.{_quoted(told)}"


def _quoted(told: str) -> str:
    lines = told.splitlines()
    cut = ["  …"] if len(lines) > MAX_LINES else []
    return "\n" + "\n".join([f"  {line}" for line in lines[:MAX_LINES]] + cut)
