"""Names that the configuration, the plan and the parsers agree on. Pure."""

from dataclasses import dataclass

from serai.routes import QUEUE_TIMEOUT_CLASSES_S, SHARE_WHOLE, Route

SLOT_PREFIX = "slot_"
TABLE = "st_api"
HELD_TABLE = "st_held"
"""Counts the requests of each API that were held and have been let go since: no queue's bound is
meant for them."""
MAX_ENDPOINT_DEPTH = 4
NEVER = "never"
SERVER_OPTIONS = (
    "check inter 1s fall 2 rise 1 observe layer4 error-limit 3 on-error mark-down "
    "pool-max-conn -1 pool-purge-delay 5s"
)
"""How every server is watched (by a check each second, and by the connections made to it) and its
connections kept: HAProxy 2.6 reuses none of a server added at run time unless told both."""


@dataclass(frozen=True, order=True)
class SlotClass:
    """What cannot be changed at run time, so that slots come in classes of it."""

    queue_timeout_s: int
    retries: bool

    @property
    def label(self) -> str:
        return f"{self.queue_timeout_s:03d}{'' if self.retries else 'n'}"


CLASSES = tuple(
    SlotClass(timeout_s, retries)
    for retries in (True, False)
    for timeout_s in QUEUE_TIMEOUT_CLASSES_S
)


def slot_class(route: Route) -> SlotClass:
    """Return the class that a route's versions need."""
    return SlotClass(route.queue_timeout_s, route.retry != NEVER)


def slot_name(kind: SlotClass, number: int) -> str:
    return f"{SLOT_PREFIX}{kind.label}_{number}"


def class_of(slot: str) -> str:
    """Return the class label of a slot's name."""
    return slot.removeprefix(SLOT_PREFIX).rpartition("_")[0]


@dataclass(frozen=True)
class RouteEntry:
    """A route as it stands in HAProxy's map, all in one value so that a change is atomic.

    `limit` counts requests at once, waiting ones included. Times are milliseconds.
    """

    api: str
    depth: int
    stable: str
    canary: str
    weight: int
    limit: int
    hold_ms: int
    body_max_bytes: int
    server_ms: int
    total_ms: int
    retry: str
    stable_version: str
    canary_version: str
    retry_after_s: int

    def text(self) -> str:
        """Return the value as the map holds it; hold.lua reads fields 3, 4, 5, 7, 12 and 13."""
        return "|".join(
            str(field)
            for field in (
                *(self.api, self.depth, self.stable, self.canary, self.weight, self.limit),
                *(self.hold_ms, self.body_max_bytes, self.server_ms, self.total_ms, self.retry),
                *(self.stable_version, self.canary_version, self.retry_after_s),
            )
        )


def parse_entry(text: str) -> RouteEntry | None:
    """Read a map's value; None when somebody wrote something else there."""
    parts = text.split("|")
    if len(parts) != 14:
        return None
    try:
        numbers = [int(parts[i]) for i in (1, 4, 5, 6, 7, 8, 9, 13)]
    except ValueError:
        return None
    depth, weight, limit, hold_ms, body, server_ms, total_ms, retry_after = numbers
    return RouteEntry(
        api=parts[0],
        depth=depth,
        stable=parts[2],
        canary=parts[3],
        weight=weight,
        limit=limit,
        hold_ms=hold_ms,
        body_max_bytes=body,
        server_ms=server_ms,
        total_ms=total_ms,
        retry=parts[10],
        stable_version=parts[11],
        canary_version=parts[12],
        retry_after_s=retry_after,
    )


def entry_for(route: Route, slots: dict[str, str], capacity: int) -> RouteEntry:
    """Return the map's value for a route; `slots` gives the slot of each of its versions."""
    # The largest share first; the first named wins a tie, so that the order never flips by itself.
    ranked = sorted(route.versions, key=lambda share: -share.share)
    main = ranked[0] if ranked else None
    other = ranked[1] if len(ranked) > 1 else None
    return RouteEntry(
        api=route.api,
        depth=route.endpoint.count("/"),
        stable=slots.get(main.version, "") if main else "",
        canary=slots.get(other.version, "") if other else "",
        weight=min(other.share, SHARE_WHOLE) if other else 0,
        limit=capacity + route.queue_limit,
        hold_ms=route.hold_limit_s * 1000,
        body_max_bytes=route.body_max_bytes,
        server_ms=round(max(route.first_byte_s, route.idle_s) * 1000),
        total_ms=round(route.total_s * 1000),
        retry=route.retry,
        stable_version=main.version if main else "",
        canary_version=other.version if other else "",
        retry_after_s=route.retry_after_s,
    )
