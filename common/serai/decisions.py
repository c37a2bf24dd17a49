"""Why an API has as many replicas as it has: what the scheduler keeps of each decision and tells.

Demand and what follows from it are in slots: requests that run at once.
"""

from serai.model import Value


class MetricAsked(Value):
    """What the metric of an API asked for at one moment, in replicas.

    Its `value`, at `target` a replica, is `now` replicas; both are None while it is unknown, and
    then `fault` says why and `unknown_s` for how long it was. `replicas` is what was asked for
    with what is held of earlier needs.
    """

    target: float
    replicas: int
    value: float | None = None
    now: int | None = None
    fault: str = ""
    unknown_s: float = 0.0


class ScaleDecision(Value):
    """One decision about the count of an API, with everything that it was made of.

    `cause` is policy, fixed (the policy sets nothing), pinned (`serai scale`) or unknown (gateways
    or engine are silent, so the count stays). `before` is the count that stood, `wanted` the new
    one, `unbounded` what it would be without the bounds. `window` is the cron of the window of the
    schedule that is on, "" for none; `stepped` says that a limit of steps holds the count back.
    `desired` is what the cause alone would have, None where that is not told; where the cluster is
    too small for it, `held_back` says who has the rest, "" otherwise. `idle` of the wanted ones are
    warm and not needed: they stay until others need their places.

    `ready`, `starting` and `overdue` (starts that are not waited for any more) are replicas;
    `running` and `queued` are requests. What only Serai's own policy tells is None for others:
    `demand`, `service_s` (how long a request runs), `lifted` (the demand with the learned headroom,
    for the time that a start takes), `held` (the need that is kept), `peak` and `peak_age_s` (the
    highest need that is remembered, and how long ago it was), `backlog` (what clears the queue),
    `idle_s` (for how long nothing was asked for, ran or waited). None is kept once that has lasted
    `idle_to_zero_s`; where that is None, the last one stays. `woken` says that somebody waits for a
    first replica without a request (`serai wake`).
    `load` and `why` are of the others' rules. `fault` says why a policy of one's own gives no count
    at this moment, so that its last good one is held. `metric` is of an API that has one, and
    `by_traffic` then what `unbounded` would be without it.
    """

    api: str
    at_s: float
    cause: str
    policy: str
    before: int
    wanted: int
    least: int
    most: int
    slots: float
    target_slots: float
    start_up_s: float
    ready: int = 0
    starting: int = 0
    overdue: int = 0
    running: int = 0
    queued: int = 0
    arrivals_per_s: float = 0.0
    unbounded: int | None = None
    window: str = ""
    stepped: bool = False
    desired: int | None = None
    held_back: str = ""
    idle: int = 0
    demand: float | None = None
    service_s: float | None = None
    lifted: float | None = None
    held: float | None = None
    peak: float | None = None
    peak_age_s: float | None = None
    backlog: float | None = None
    load: float | None = None
    why: str = ""
    fault: str = ""
    metric: MetricAsked | None = None
    by_traffic: int | None = None
    idle_s: float | None = None
    idle_to_zero_s: float | None = None
    woken: bool = False


class DecisionList(Value):
    """Decisions about one API, the newest first: those that changed something, and one a minute."""

    decisions: tuple[ScaleDecision, ...]


class Explanation(Value):
    """Why an API had its count at one moment, in sentences, and the decision behind them."""

    sentences: tuple[str, ...]
    decision: ScaleDecision | None = None
