"""How the number of replicas follows the traffic: the values of the `autoscaling` block.

What is left out is None wherever a policy has a value of its own, so that the rules see what was
written for a policy that has no use for it.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, field

from serai.spec.part import END, SpecPart
from serai.units import Duration

FIXED = "fixed"
"""The policy that sets nothing: the count is what was deployed or set."""
POLICIES = ("serai", "cortex", "kpa", "hpa", FIXED)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
OWN_POLICY = rf"^{_NAME}(\.{_NAME})*:{_NAME}{END}"
_ANY_POLICY = rf"^({'|'.join(POLICIES)}|{_NAME}(\.{_NAME})*:{_NAME})$"
ALLOWED_POLICIES = ", ".join(POLICIES) + ", or package.module:factory of your own"

Release = Literal["contention", "timer"]
Count = Annotated[int, Meta(ge=0, le=10_000)]
MostCount = Annotated[int, Meta(ge=1, le=10_000)]
TargetInFlight = Annotated[float, Meta(ge=0.01, le=130_000)]
NumberOrText = {"x-type": ["string", "number"]}
Policy = Annotated[
    str,
    Meta(
        max_length=256,
        extra_json_schema={"pattern": _ANY_POLICY},
        extra={"form": " ".join(f"`{one}`" for one in POLICIES) + " `package.module:factory`"},
    ),
]
Headroom = Annotated[
    str,
    Meta(
        pattern=rf"^(learned|[0-9](\.[0-9]{{1,4}})?|10(\.0{{1,4}})?){END}",
        extra_json_schema=NumberOrText,
        extra={"form": "`learned`, or a share of the demand from 0 to 10, such as 0.2"},
    ),
]
StepLimit = Annotated[
    str,
    Meta(
        pattern=rf"^([1-9][0-9]{{0,3}}|[1-9][0-9]{{0,2}}%){END}",
        extra_json_schema=NumberOrText,
        extra={"form": "replicas a minute such as 4, or a share of the present ones such as 50%"},
    ),
]
TimeZone = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z][A-Za-z0-9_+/-]*{END}",
        max_length=64,
        extra={"form": "a name of the time zone database, such as Europe/Berlin"},
    ),
]
Cron = Annotated[
    str,
    Meta(
        pattern=rf"^[0-9A-Za-z*,/# -]+{END}",
        max_length=120,
        extra={"form": "five fields: minute, hour, day, month, weekday, such as 0 8 * * 1-5"},
    ),
]
Stabilization = Annotated[Duration, Meta(extra={"least": "0s", "most": "24h"})]


class Up(SpecPart):
    """How fast the count may grow."""

    limit: Annotated[
        StepLimit | None,
        Meta(description="Most replicas more within a minute; without it, no limit"),
    ] = None


class Down(SpecPart):
    """How fast the count may fall."""

    limit: Annotated[
        StepLimit | None,
        Meta(description="Most replicas fewer within a minute; without it, no limit"),
    ] = None
    delay: Annotated[
        Duration | None,
        Meta(
            description="How long fewer must have been enough; without it, two minutes",
            extra={"least": "0s", "most": "24h"},
        ),
    ] = None


class Window(SpecPart):
    """A time that comes again and again, with bounds of its own."""

    cron: Annotated[Cron, Meta(description="When it begins; what a clock change skips begins then")]
    for_: Annotated[
        Duration,
        Meta(
            description="How long it lasts, in time that passes: clock changes do not alter it",
            extra={"least": "1m", "most": "31d"},
        ),
    ] = field(name="for")
    timezone: Annotated[TimeZone, Meta(description="Time zone of `cron`")] = "UTC"
    min: Annotated[
        Count | None, Meta(description="Never fewer meanwhile; without it, `min_replicas`")
    ] = None
    max: Annotated[
        MostCount | None,
        Meta(
            description="Never more meanwhile, also above `max_replicas`; without it,"
            " `max_replicas`"
        ),
    ] = None


class Metric(SpecPart):
    """A second reason for replicas, beside the requests."""

    promql: Annotated[
        str,
        Meta(
            pattern=r"\S",
            max_length=4096,
            description="Query that gives one number",
            extra={"form": "a PromQL query, at most 4096 characters"},
        ),
    ]
    target: Annotated[
        float,
        Meta(ge=0.001, le=1_000_000_000, description="What one replica takes of that number"),
    ]


class CortexRules(SpecPart):
    """What Cortex's autoscaler let one set, with its defaults and its meaning."""

    downscale_stabilization_period: Annotated[
        Stabilization, Meta(description="Never fewer than the most recommended in this time")
    ] = field(default_factory=lambda: Duration(300))
    upscale_stabilization_period: Annotated[
        Stabilization, Meta(description="Never more than the fewest recommended in this time")
    ] = field(default_factory=lambda: Duration(60))
    max_downscale_factor: Annotated[
        float,
        Meta(ge=0, le=0.999, description="Least share of the count that one step down leaves"),
    ] = 0.75
    max_upscale_factor: Annotated[
        float,
        Meta(ge=1.001, le=10_000, description="Most that one step up multiplies the count by"),
    ] = 1.5
    downscale_tolerance: Annotated[
        float,
        Meta(ge=0, le=0.999, description="A need lower by less than this share changes nothing"),
    ] = 0.05
    upscale_tolerance: Annotated[
        float,
        Meta(ge=0, le=100, description="A need higher by less than this share changes nothing"),
    ] = 0.05


class Autoscaling(SpecPart):
    """How the number of replicas follows the traffic."""

    min_replicas: Annotated[Count, Meta(description="Never fewer, outside of `schedule`")] = 1
    max_replicas: Annotated[MostCount, Meta(description="Never more, outside of `schedule`")] = 10
    init_replicas: Annotated[
        Count | None, Meta(description="At the first deploy; without it, `min_replicas`")
    ] = None
    policy: Annotated[
        Policy,
        Meta(
            description="Who decides: Serai, one of the rules of others, nobody (`fixed`: what was"
            " set last stays), or Python of your own"
        ),
    ] = "serai"
    target_in_flight: Annotated[
        TargetInFlight | None,
        Meta(
            description="Requests that each replica is to have; without it,"
            " `concurrency.per_replica`",
        ),
    ] = None
    window: Annotated[
        Duration | None,
        Meta(
            description="Time that traffic is averaged over, for the policies cortex and kpa and"
            " those of your own; without it, 1m",
            extra={"least": "6s", "most": "6h"},
        ),
    ] = None
    hold: Annotated[
        Duration | None,
        Meta(
            description="How long the highest need is kept; without it, learned",
            extra={"least": "1s", "most": "24h"},
        ),
    ] = None
    headroom: Annotated[
        Headroom | None,
        Meta(description="Room above the demand; without it, `learned` from how demand moves"),
    ] = None
    up: Annotated[Up | None, Meta(description="How fast the count may grow")] = None
    down: Annotated[Down | None, Meta(description="How fast the count may fall")] = None
    idle_to_zero: Annotated[
        Duration | None,
        Meta(
            description="Time without a request until no replica is kept, where `min_replicas` is"
            " 0; without it, the last one stays",
            extra={"least": "10s", "most": "7d"},
        ),
    ] = None
    schedule: Annotated[
        tuple[Window, ...],
        Meta(
            max_length=20,
            description="Times with other bounds; of several at once, the one that began last",
        ),
    ] = ()
    priority: Annotated[
        int,
        Meta(ge=1, le=100, description="Weight where the cluster is full; more comes first"),
    ] = 50
    release: Annotated[
        Release | None,
        Meta(
            description="When idle replicas end: once another API needs the room (`contention`) or"
            " once the hold is over (`timer`); without it, `contention` with GPUs, else `timer`"
        ),
    ] = None
    metric: Annotated[
        Metric | None,
        Meta(description="A second reason for replicas: the higher of both counts is taken"),
    ] = None
    cortex: Annotated[
        CortexRules | None, Meta(description="Settings of `policy: cortex`, under its own names")
    ] = None


def fixed_headroom(headroom: str | None) -> float | None:
    """Return the share of the demand to have more, or None where it is learned."""
    return None if headroom in (None, "learned") else float(headroom or "0")


def most_change(limit: str | None, count: int) -> int | None:
    """Return by how many replicas `count` may change within a minute, None without a limit.

    A share is rounded up: one replica is always allowed.
    """
    if limit is None:
        return None
    if limit.endswith("%"):
        return max(1, math.ceil(int(limit.removesuffix("%")) * count / 100))
    return int(limit)
