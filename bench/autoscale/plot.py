"""Draws the front, late against hours; run in the environment of the simulator.

Standard input holds `{policy: {"late_percent": …, "hours": …}}`, the argument is the file.
"""

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "serai", "font.size": 10})

import matplotlib.pyplot as plt  # noqa: E402  # the backend comes first

OWN = "serai"
LEAST_LATE_PERCENT = 0.1
BESIDE = {
    "serai": (-8, -4, "right"),
    "cortex-tuned": (0, -15, "center"),
    "kpa-tuned": (0, 9, "center"),
}
"""Where names go that would lie on others: points right and up, and which end is there."""
TICKS = (0.3, 1, 3, 10, 30)


def main() -> None:
    found = json.load(sys.stdin)
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for policy, point in found.items():
        x, y = point["hours"], max(LEAST_LATE_PERCENT, point["late_percent"])
        own = policy == OWN
        axes.scatter(x, y, s=70 if own else 28, color="#c2410c" if own else "#475569", zorder=3)
        right, up, end = BESIDE.get(policy, (6, 4, "left"))
        axes.annotate(
            policy,
            (x, y),
            xytext=(right, up),
            ha=end,
            textcoords="offset points",
            color="#c2410c" if own else "#1e293b",
            weight="bold" if own else "normal",
        )
    axes.set_yscale("log")
    axes.set_yticks(TICKS, [f"{tick:g} %" for tick in TICKS], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("replica-hours, relative to a schedule that knows the future")
    axes.set_ylabel("requests that waited more than 5 s")
    axes.set_title("Lower left is better", fontsize=10, loc="left")
    axes.grid(color="#e2e8f0")
    axes.margins(x=0.15, y=0.1)
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
