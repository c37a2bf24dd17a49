"""Every error the project raises on purpose; adapters translate at their border."""

from collections.abc import Iterator
from contextlib import contextmanager


class SeraiError(Exception):
    """Root of the tree; caught only at the edge of a process."""


class ConfigError(SeraiError):
    """The user or operator must change something. The message says what and where."""


class Unavailable(SeraiError):
    """The other side did not answer; trying again may help."""


class Refused(SeraiError):
    """The other side answered no; trying again will not help.

    `code` is stable and machine-readable (it is the `code` of an operator API problem body).
    """

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Raise one error of a task group in the group's place when all are of these kinds.

    It is the first of the kind that is named first. `except*` cannot do it: what is raised in it
    comes wrapped in a new group before Python 3.11.4.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(kinds)[1] is not None:
            raise
        errors = list(_errors(group))
        raise next(e for kind in kinds for e in errors if isinstance(e, kind)) from None


def _errors(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error)
        else:
            yield error
