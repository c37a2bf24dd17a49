"""When clients are to come again, by how long a replica takes to be ready. Pure."""

STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
FIRST_S = 5
"""Told while nothing is known of the API's starts."""


def retry_after_s(told_s: int, start_up_s: float | None) -> int:
    """Return the seconds to tell now; `told_s` is what is told so far, one of the steps.

    `start_up_s` is the learned time to be ready, None while none is known. A time one step beside
    what is told changes nothing, so that routes do not change with each start.
    """
    if start_up_s is None:
        return told_s
    new, old = _place(start_up_s), _place(told_s)
    return STEPS_S[new] if abs(new - old) > 1 else told_s


def _place(time_s: float) -> int:
    """Return the first step that is no shorter, or the longest."""
    for place, step_s in enumerate(STEPS_S):
        if time_s <= step_s:
            return place
    return len(STEPS_S) - 1
