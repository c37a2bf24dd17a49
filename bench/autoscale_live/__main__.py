"""`make bench-autoscale-live`: the simulator of `serai replay` against a real gateway and replicas.

Ten minutes of a trace, faster than they were, go through a whole `serai up` under two policies, and
the same requests through the simulator. Windows, cold start, service times and what counts as late
are divided by the same number; what the policies do by themselves every second or five is not.
"""

import argparse
import sys

from bench.autoscale.simulator import TRACES
from bench.autoscale_live.live import Live, Setup, measure
from bench.autoscale_live.trace import busiest
from bench.report import Figure, Limit, at_most, finish
from serai.spec import load_text
from serai_scheduler.replay.run import Outcome, Recorded, Span, Steered, run
from serai_scheduler.replay.system import LATE_S, Load, Room

TRACE = "azure_llm_code_2023"
LENGTH_S = 600.0
SPEED = 2.0
COLD_S = 20.0
EVERY = 2
"""Every second request is sent: two cores are to serve them."""
SLOTS, QUEUE, QUEUE_TIMEOUT_S = 4, 1000, 30.0
LEAST, MOST = 2, 10
SETTLE_S = 30
POLICIES = {
    "serai": "policy: serai, hold: {hold:g}s, down: {{delay: {delay:g}s}}",
    "kpa": "policy: kpa, window: {window:g}s",
}
HOLD_S, DELAY_S, WINDOW_S = 600.0, 120.0, 60.0


def scaling_of(policy: str, speed: float) -> str:
    """Return the block of a policy with its times divided by the speed."""
    times = {"hold": HOLD_S / speed, "delay": DELAY_S / speed, "window": WINDOW_S / speed}
    return f"{{min_replicas: {LEAST}, max_replicas: {MOST}, {POLICIES[policy].format(**times)}}}"


def simulated(load: Load, setup: Setup, start_up_s: float, late_s: float) -> Outcome:
    """Run the same requests through the simulator, with the starts that were really seen."""
    text = f"name: live\npod: {{command: [serve]}}\nautoscaling: {setup.autoscaling}\n"
    scaling = load_text(text, "live.yaml").apis[0].autoscaling
    settle_s = int(setup.settle_s)
    shifted = Load([settle_s + at_s for at_s in load.arrivals_s], load.services_s)
    ends = (a + s for a, s in zip(shifted.arrivals_s, load.services_s, strict=True))
    span = Span(0.0, int(max(ends)) + 1, settle_s)
    room = Room(setup.slots, setup.queue, QUEUE_TIMEOUT_S, late_s)
    recorded = Recorded((), LEAST, start_up_s)
    return run(shifted, room, span, recorded, Steered(scaling, setup.slots, LEAST))


def figures_of(policy: str, live: Live, found: Outcome, late_s: float) -> dict[str, Figure]:
    """Set what was measured beside what was simulated."""
    late = 100.0 * live.late(late_s) / len(live.waits_s)
    simulated_late = 100.0 * found.late / len(live.waits_s)
    hours, simulated_hours = live.replica_s / 3600.0, found.replica_s / 3600.0
    return {
        f"{policy}_late_percent": late,
        f"{policy}_late_percent_simulated": simulated_late,
        f"{policy}_late_points_apart": abs(late - simulated_late),
        f"{policy}_replica_hours": hours,
        f"{policy}_replica_hours_simulated": simulated_hours,
        f"{policy}_hours_apart_share": abs(hours / simulated_hours - 1.0),
        f"{policy}_changes": live.changes,
        f"{policy}_changes_simulated": found.changes,
        f"{policy}_most_replicas": live.most,
        f"{policy}_most_replicas_simulated": max(found.replicas),
        f"{policy}_start_up_s": live.start_up_s,
        f"{policy}_not_answered": sum(one is None for one in live.waits_s),
        f"{policy}_client_sent_late_s": live.sent_late_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale_live", description=__doc__)
    parser.add_argument("--trace", default=TRACE)
    parser.add_argument("--length-s", type=float, default=LENGTH_S)
    parser.add_argument("--speed", type=float, default=SPEED)
    parser.add_argument("--policies", default=",".join(POLICIES))
    chosen = parser.parse_args()
    path = TRACES / f"{chosen.trace}.req.csv.gz"
    if not path.is_file():
        sys.exit(f"there is no {path}; traces come with the folder `shared` beside the repository")
    load, late_s = busiest(path, chosen.length_s, chosen.speed, EVERY), LATE_S / chosen.speed
    figures: dict[str, Figure] = {"requests": len(load.arrivals_s), "speed": chosen.speed}
    limits: dict[str, Limit] = {}
    for policy in chosen.policies.split(","):
        scaling = scaling_of(policy, chosen.speed)
        setup = Setup(scaling, SLOTS, QUEUE, COLD_S / chosen.speed, float(SETTLE_S))
        live = measure(load, setup)
        found = simulated(load, setup, live.start_up_s, late_s)
        figures |= figures_of(policy, live, found, late_s)
        limits[f"{policy}_late_points_apart"] = at_most(1.0)
        limits[f"{policy}_hours_apart_share"] = at_most(0.2)
    finish("autoscale-live", figures, limits)


if __name__ == "__main__":
    main()
