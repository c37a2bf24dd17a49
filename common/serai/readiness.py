"""What a probe of a server found, in a word and in words. Pure."""

from enum import Enum

import msgspec


class Verdict(Enum):
    """What one probe found."""

    READY = "ready"
    NOT_READY = "not_ready"
    """It answered, and the answer was no."""
    SILENT = "silent"
    """It took the connection and gave no answer in time."""
    CLOSED = "closed"
    """It took the connection and closed it."""
    REFUSED = "refused"
    """Nobody listens."""


def judged(status: int, path: str, body: bytes) -> tuple[Verdict, str]:
    """Return what an answer means, and in a few words what it said."""
    if status < 400:
        return Verdict.READY, ""
    hint = "; set readiness.path to one that it has" if status == 404 else ""
    text = _phase(body) or body.decode("utf-8", "replace").strip().replace("\n", " ")[:120]
    said = f": {text}" if text and status != 404 else ""
    return Verdict.NOT_READY, f"GET {path} answers {status}{said}{hint}"


def nobody_on(port: int, inside: int | None) -> str:
    """Say that nothing listens: on a port of its node, or `inside` its container."""
    if inside is None:
        return f"nothing listens on port {port} yet, its $PORT"
    return f"nothing listens on port {inside} of its container yet (pod.port), on all addresses"


def _phase(body: bytes) -> str:
    """Return the phase that a body names as the runtime's do, such as `loading`; else nothing."""
    try:
        return msgspec.json.decode(body, type=dict[str, str]).get("phase", "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
