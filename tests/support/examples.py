"""The example configurations that are shipped, with the values of a test."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "agent" / "agent.example.toml"
SCHEDULER = ROOT / "scheduler" / "scheduler.example.toml"


def with_values(example: Path, values: Mapping[str, object]) -> str:
    """Return an example with other values for keys that stand in it, such as `listen.port`."""
    left, lines, table = dict(values), [], ""
    for line in example.read_text().splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
        name = line.partition(" = ")[0]
        if table + name in left:
            line = f"{name} = {json.dumps(left.pop(table + name))}"
        lines.append(line)
    assert not left, f"{example.name} has no {', '.join(left)}"
    return "\n".join(lines) + "\n"


def unsaid(example: Path, kind: type[msgspec.Struct]) -> set[str]:
    """Return the keys of a configuration that stand nowhere in its example, not as a remark either.

    Those of its tables as `table.key`.
    """
    said, table = set(), ""
    for line in example.read_text().splitlines():
        if begun := re.fullmatch(r"\[(\w+)\]", line):
            table = f"{begun[1]}."
        if key := re.match(r"(?:# )?(\w+) = ", line):
            said.add(table + key[1])
    return set(_keys(kind, "")) - said


def _keys(kind: type[msgspec.Struct], above: str) -> Iterator[str]:
    for one in msgspec.structs.fields(kind):
        if isinstance(one.type, type) and issubclass(one.type, msgspec.Struct):
            yield from _keys(one.type, f"{one.encode_name}.")
        else:
            yield above + one.encode_name
