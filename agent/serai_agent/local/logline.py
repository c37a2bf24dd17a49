"""One stored log line, and whether somebody asked for it. Pure."""

from datetime import datetime

from serai.engine import LogLine, LogQuery
from serai.model import Value

STREAMS = {b"o": "out", b"e": "err"}
MAX_GREP_LENGTH = 1000


class Source(Value):
    """Where lines come from; `folder` holds the numbered files of one replica."""

    replica: str
    version: str
    folder: str


def parse(raw: bytes, source: Source) -> LogLine | None:
    """Read `TIME STREAM TEXT`; None when the line is damaged (a power cut, a full disk)."""
    at, _, rest = raw.partition(b" ")
    stream, _, text = rest.partition(b" ")
    name = STREAMS.get(stream)
    if name is None:
        return None
    try:
        at_s = datetime.fromisoformat(at.decode("ascii")).timestamp()
    except ValueError:
        return None
    return LogLine(
        at_s=at_s,
        replica=source.replica,
        version=source.version,
        stream=name,
        text=text.decode("utf-8", "replace"),
    )


def wanted(line: LogLine, query: LogQuery) -> bool:
    """Say whether a line is asked for.

    `grep` is a plain piece of text, not a regular expression (those can take minutes for one
    line and would hold up the whole process); it ignores case unless it has capitals itself.
    """
    if query.since_s is not None and line.at_s < query.since_s:
        return False
    if not query.grep:
        return True
    return query.grep in (line.text if query.grep != query.grep.lower() else line.text.lower())


def takes(query: LogQuery, api: str, version: str, replica: str) -> bool:
    """Say whether a replica's lines are asked for at all."""
    return (
        api == query.api
        and (not query.replicas or replica in query.replicas)
        and (not query.version or version == query.version)
    )
