"""Exit statuses, and how an error becomes one. Documented in docs/cli.md."""

from serai.errors import ConfigError, Refused, SeraiError, Unavailable

DONE, FAILED, BAD_INPUT, UNREACHABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

WRONG_CONTENT = frozenset({400, 413, 422})
"""HTTP statuses that say: what was sent is wrong."""
WRONG_CODES = frozenset({"invalid_spec", "bad_path", "digest_mismatch", "blob_too_large"})


def status_of(error: SeraiError) -> int:
    """Return the exit status that an error stands for."""
    match error:
        case ConfigError():
            return BAD_INPUT
        case Unavailable():
            return UNREACHABLE
        case Refused():
            return _of_refusal(error)
    return FAILED


def _of_refusal(error: Refused) -> int:
    problem = getattr(error, "problem", None)
    if problem is None:
        return BAD_INPUT if error.code in WRONG_CODES else REFUSED
    if problem.status in WRONG_CONTENT:
        return BAD_INPUT
    return FAILED if problem.status >= 500 else REFUSED
