"""`make bench-autoscale`: Serai's autoscaler against its peers' rules in an outside simulator.

The simulator and the traces are those of the reference folder `shared` beside the repository. The
decisions are the product's own, with its defaults; Ray's are those of its real code. A whole run
renews docs/autoscaling.md and its plot.
"""

import argparse
import math
import sys
from collections.abc import Sequence

from bench.autoscale import cost, loop_cost, pages
from bench.autoscale.judge import (
    hours_ratio,
    late_ratio,
    of,
    policies_of,
    summary,
    worse_on_both,
)
from bench.autoscale.simulator import Grid, Run, install, missing, simulate
from bench.report import Figure, Limit, at_most, exactly, finish

OWN = "serai"
BUILT_IN = ("kpa", "kpa-delay600", "hpa", "cortex", "cortex-0.7", "nomad", "ray")
DEFAULTS = ("kpa", "hpa", "ray", "cortex", "nomad")
"""Those with the settings that their projects ship."""
TUNED = ("kpa-tuned", "cortex-tuned")
OUTSIDE = {
    OWN: "bench.autoscale_policy:factory",
    "kpa-tuned": "bench.autoscale.outside:kpa_tuned",
    "cortex-tuned": "bench.autoscale.outside:cortex_tuned",
}
REBUILT = {
    "kpa": "bench.autoscale.outside:kpa",
    "kpa-delay600": "bench.autoscale.outside:kpa_delay600",
    "hpa": "bench.autoscale.outside:hpa",
    "cortex": "bench.autoscale.outside:cortex",
}
"""The selectable policies at the settings of the simulator's own, which they have to agree with."""
REBUILT_PEAK, REBUILT_COLD_S = 20, 60
SMOOTH = ("worldcup98_a", "servegen_client143")

LIMITS: dict[str, Limit] = {
    "late_against_kpa": at_most(0.25),
    "hours_against_kpa": at_most(1.05),
    "late_against_hpa": at_most(0.5),
    "hours_against_hpa": at_most(1.0),
    "late_against_ray": at_most(1.0),
    "hours_against_ray": at_most(0.7),
    "late_against_cortex": at_most(1 / 3),
    "hours_against_cortex": at_most(1.35),
    "runs_worse_on_both_than_a_default": exactly(0),
    f"changes_per_hour_{OWN}": at_most(30),
    **{f"late_percent_{OWN}_on_{trace}": at_most(0.1) for trace in SMOOTH},
    "decision_us": at_most(200),
    "loop_ms_per_api": at_most(0.2),
    "loop_share_of_a_core_500_apis": at_most(0.3),
}
"""What these traces allow; on unseen ones the hours are to be 1.0 of KPA's and 1.2 of Cortex'."""


def means(runs: Sequence[Run]) -> dict[str, Figure]:
    """Return what each policy did."""
    figures: dict[str, Figure] = {}
    for policy in policies_of(runs):
        found = summary(of(runs, policy))
        figures[f"late_percent_{policy}"] = found.late_percent
        figures[f"hours_{policy}"] = found.hours
        figures[f"changes_per_hour_{policy}"] = found.events_per_hour
    for trace in SMOOTH:
        smooth = of(runs, OWN, trace)
        if smooth:
            figures[f"late_percent_{OWN}_on_{trace}"] = summary(smooth).late_percent
            figures[f"worst_late_percent_{OWN}_on_{trace}"] = max(r.late_percent for r in smooth)
    return figures


def against(runs: Sequence[Run], peers: Sequence[str]) -> dict[str, Figure]:
    """Return the ratios to each peer with their intervals, and the runs that are worse on both."""
    figures: dict[str, Figure] = {}
    for peer in peers:
        late, hours = late_ratio(runs, OWN, peer), hours_ratio(runs, OWN, peer)
        for name, found in (("late", late), ("hours", hours)):
            figures[f"{name}_against_{peer}"] = finite(found.value)
            figures[f"{name}_against_{peer}_low"] = finite(found.low)
            figures[f"{name}_against_{peer}_high"] = finite(found.high)
        worse = worse_on_both(runs, OWN, peer)
        figures[f"runs_worse_on_both_than_{peer}"] = len(worse)
        for run in worse:
            print(f"worse on both than {peer}: {run}")
        if peer in TUNED:
            figures[f"better_on_both_than_{peer}"] = late.value < 1.0 and hours.value < 1.0
    figures["runs_worse_on_both_than_a_default"] = len(
        {run.case for peer in peers if peer in DEFAULTS for run in worse_on_both(runs, OWN, peer)}
    )
    return figures


def finite(value: float) -> Figure:
    return value if math.isfinite(value) else "the peer was never late"


def rebuilt(runs: Sequence[Run], grid: Grid) -> dict[str, Figure]:
    """Compare the selectable policies with the simulator's own versions of the same rules."""
    one = Grid((REBUILT_PEAK,), (REBUILT_COLD_S,), grid.traces, grid.jobs)
    labels = {f"{name}-rebuilt": factory for name, factory in REBUILT.items()}
    found = simulate(one, (), labels)
    figures: dict[str, Figure] = {}
    for name in REBUILT:
        theirs = [r for r in of(runs, name) if r.case[1:] == (REBUILT_PEAK, REBUILT_COLD_S)]
        if not theirs:
            continue
        ours, base = summary(of(found, f"{name}-rebuilt")), summary(theirs)
        figures[f"rebuilt_{name}_late_points_more"] = ours.late_percent - base.late_percent
        figures[f"rebuilt_{name}_hours_ratio"] = ours.hours / base.hours
    return figures


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale", description=__doc__)
    parser.add_argument("--peaks", type=numbers, default=Grid.peaks)
    parser.add_argument("--colds", type=numbers, default=Grid.colds_s)
    parser.add_argument("--traces", default="", help="some of them, with commas between")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-docs", action="store_true", help="leave the page as it is")
    chosen = parser.parse_args()
    lacking = missing()
    if lacking is not None:
        sys.exit(lacking)
    without_ray = install()
    traces = tuple(trace for trace in chosen.traces.split(",") if trace)
    grid = Grid(chosen.peaks, chosen.colds, traces, chosen.jobs)
    built_in = [name for name in BUILT_IN if name != "ray" or without_ray is None]
    figures = cost.figures() | loop_cost.figures()
    runs = simulate(grid, built_in, OUTSIDE)
    peers = [*built_in, *TUNED]
    figures |= means(runs) | against(runs, peers) | rebuilt(runs, grid)
    if without_ray is not None:
        print(f"there is no row for Ray: {without_ray}")
        figures |= {"late_against_ray": without_ray, "hours_against_ray": without_ray}
    whole = (grid.peaks, grid.colds_s, grid.traces) == (Grid.peaks, Grid.colds_s, Grid.traces)
    if whole and not chosen.no_docs:
        pages.write(runs, OWN, peers, _note(runs, without_ray))
    finish("autoscale", figures, LIMITS)


def _note(runs: Sequence[Run], without_ray: str | None) -> str:
    count = len({run.case for run in runs})
    ray = "Ray's row is its real code." if without_ray is None else "Ray's row is missing."
    return f"Means over {count} runs a policy; in brackets 90 % intervals over traces. {ray}"


if __name__ == "__main__":
    main()
