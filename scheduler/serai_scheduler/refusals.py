"""Whose reports were refused of late: an agent with a wrong token is heard of in no other way."""

KEPT_S = 30.0
MOST_KEPT = 100
TOLD = 3
REMEDY = "its `scheduler.token_file` has to hold what the schedulers' `tokens.agent` does"


class RefusedReports:
    """Keeps from which addresses reports came with a wrong token or none; `now_s` is monotonic.

    Anybody can send such a report, so nothing of it is kept but the address, and of few.
    """

    def __init__(self) -> None:
        self._at_s: dict[str, float] = {}

    def add(self, address: str, now_s: float) -> None:
        """Note that a report from there was refused."""
        self._forget(now_s)
        if address in self._at_s or len(self._at_s) < MOST_KEPT:
            self._at_s[address] = now_s

    def told(self, now_s: float) -> str:
        """Return in words from where reports are refused, and what to do; "" for nowhere."""
        self._forget(now_s)
        known = sorted(self._at_s)
        if not known:
            return ""
        more = f" and {len(known) - TOLD} more" if len(known) > TOLD else ""
        return (
            f"the reports of the agent at {', '.join(known[:TOLD])}{more} are refused for a wrong "
            f"token: {REMEDY}"
        )

    def _forget(self, now_s: float) -> None:
        self._at_s = {one: at_s for one, at_s in self._at_s.items() if now_s - at_s < KEPT_S}
