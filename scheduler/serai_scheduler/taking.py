"""Which gateways still have to take a route, in words. Pure.

A gateway that falls silent serves on what it had, so it holds up nothing that it took before; only
where it is to do something new is its silence a reason to wait.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

GATEWAYS_TOLD = 3
NO_GATEWAY = (
    "no gateway has reported, so nobody can call it; see `serai nodes`, and give a node the role "
    "gateway where none has it"
)
NOT_HEARD_YET = "waiting to hear what the gateways do, for this scheduler has just begun to lead"


@dataclass(frozen=True)
class GatewayStanding:
    """What is known of one gateway: when it last told anything, and which revisions it carried out.

    `answers` is False of one whose node reports while its HAProxy says nothing; `late` of one that
    has not been heard for longer than reports take; `begun` of one that joins, or that never said
    a word: no caller comes to it yet.
    """

    node: str
    age_s: float
    late: bool
    answers: bool
    begun: bool
    revisions: Mapping[str, int]
    problem: str = ""

    def how(self) -> str:
        """Return what is the matter with it, as words to add; "" for nothing that is known."""
        if self.late:
            return f" (last heard {self.age_s:.0f} s ago)"
        if not self.answers:
            return " (its HAProxy does not answer)"
        return f" (it says: {self.problem})" if self.problem else ""


def waits_for(
    api: str, revision: int, gateways: Collection[GatewayStanding], all_heard: bool
) -> str:
    """Return what keeps callers from getting an API as it is since `revision`, "" for nothing.

    `all_heard` is False while a new leader may not have heard of every gateway yet.
    """
    behind = [one for one in gateways if one.revisions.get(api, -1) < revision]
    if len(behind) < len(gateways):
        behind = [one for one in behind if one.begun]
    if behind:
        told = [f"{one.node} to take the route{one.how()}" for one in behind[:GATEWAYS_TOLD]]
        more = len(behind) - len(told)
        return f"waiting for gateway {', '.join(told)}" + (f" and {more} more" if more else "")
    if not all_heard:
        return NOT_HEARD_YET
    return "" if gateways else NO_GATEWAY
