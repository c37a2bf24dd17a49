"""Exit statuses, and how an error becomes one. Documented in docs/cli.md."""

from serai.errors import ConfigError, Refused, SeraiError, Unavailable

DONE, FAILED, BAD_INPUT, UNREACHABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def status_of(error: SeraiError) -> int:
    """Return the exit status that an error stands for."""
    match error:
        case ConfigError():
            return BAD_INPUT
        case Refused(code="invalid_spec" | "conflict" | "kind_changed" | "bad_path"):
            return BAD_INPUT
        case Refused():
            return REFUSED
        case Unavailable():
            return UNREACHABLE
    return FAILED
