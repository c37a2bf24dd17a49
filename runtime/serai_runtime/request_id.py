"""Names for requests: the caller's where it is sane, else one of our own."""

import re
import uuid

_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """Makes ids that are unique without asking the system for randomness each time."""

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex[:16]
        self._number = 0

    def take(self, given: str | None) -> str:
        """Return the caller's id, or a new one when it has none or an odd one."""
        if given is not None and _SANE.fullmatch(given):
            return given
        self._number += 1
        return f"{self._prefix}-{self._number:08x}"
