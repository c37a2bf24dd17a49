"""Every error the project raises on purpose; adapters translate at their border."""


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
