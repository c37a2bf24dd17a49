"""The example configurations that are shipped, with the values of a test."""

import json
from collections.abc import Mapping
from pathlib import Path

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
