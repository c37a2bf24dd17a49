"""What replicas wrote, made readable: the runtime's events as text, all else as it is. Pure."""

import json
from collections.abc import Iterable

HIDDEN = frozenset({"at", "event", "level", "trace", "api", "version", "replica"})


def readable(text: str) -> list[str]:
    """Return a log line as lines for people; an event's trace follows it, indented."""
    if not text.startswith("{"):
        return [text]
    try:
        event = json.loads(text)
    except ValueError:
        return [text]
    if not isinstance(event, dict) or "event" not in event:
        return [text]
    facts = " ".join(f"{k}={v}" for k, v in event.items() if k not in HIDDEN and v is not None)
    level = "" if event.get("level", "info") == "info" else f"{event['level']}: "
    trace = str(event.get("trace", "")).rstrip().splitlines()
    return [f"{level}{event['event']} {facts}".rstrip(), *(f"  {line}" for line in trace)]


def all_readable(lines: Iterable[str]) -> list[str]:
    """Return several log lines as lines for people."""
    return [shown for line in lines for shown in readable(line)]
