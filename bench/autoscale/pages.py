"""Puts what was found into docs/autoscaling.md and docs/images: tables and the plot."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.autoscale.judge import (
    Ratio,
    Summary,
    hours_ratio,
    late_ratio,
    of,
    policies_of,
    summary,
    worse_on_both,
)
from bench.autoscale.simulator import PYTHON, Run
from bench.report import RESULTS, ROOT

PAGE = ROOT / "docs" / "autoscaling.md"
PLOT = ROOT / "docs" / "images" / "autoscaling-front.svg"
KEPT_PLOT = RESULTS / "autoscale-front.svg"
BEGIN, END = "<!-- make bench-autoscale: begin -->", "<!-- make bench-autoscale: end -->"


def write(runs: Sequence[Run], ours: str, peers: Sequence[str], note: str) -> None:
    """Renew the page and the plot."""
    names = policies_of(runs)
    means = {name: summary(of(runs, name)) for name in names}
    parts = [note, _means(means), _ratios(runs, ours, peers), _by_trace(runs, names)]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + END + after)
    points = {name: asdict(mean) for name, mean in means.items() if name != "clairvoyant"}
    command = [str(PYTHON), str(ROOT / "bench" / "autoscale" / "plot.py"), str(PLOT)]
    subprocess.run(command, input=json.dumps(points), text=True, check=True, timeout=120)
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PLOT, KEPT_PLOT)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _means(means: Mapping[str, Summary]) -> str:
    rows = [
        [
            name,
            f"{mean.late_percent:.2f}",
            f"{mean.median_late_percent:.2f}",
            f"{100 * mean.runs_over_one_percent:.0f} %",
            f"{mean.hours:.2f}",
            f"{mean.events_per_hour:.1f}",
        ]
        for name, mean in means.items()
    ]
    return _table(
        ["policy", "late %", "median late %", "runs with > 1 % late", "hours", "changes/h"], rows
    )


def _ratios(runs: Sequence[Run], ours: str, peers: Sequence[str]) -> str:
    rows = [
        [
            peer,
            _ratio(late_ratio(runs, ours, peer)),
            _ratio(hours_ratio(runs, ours, peer)),
            f"{len(worse_on_both(runs, ours, peer))} of {len(of(runs, ours))}",
            f"{len(worse_on_both(runs, peer, ours))} of {len(of(runs, ours))}",
        ]
        for peer in peers
        if of(runs, peer)
    ]
    return _table(
        [
            f"{ours} against",
            "late requests, times",
            "replica-hours, times",
            "runs worse on both",
            "runs better on both",
        ],
        rows,
    )


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f} .. {ratio.high:.2f}]"


def _by_trace(runs: Sequence[Run], names: Sequence[str]) -> str:
    traces = sorted({run.trace for run in runs})
    rows = []
    for name in names:
        found = [summary(of(runs, name, trace)) for trace in traces]
        rows.append([name, *(f"{mean.late_percent:.2f} / {mean.hours:.2f}" for mean in found)])
    return _table(["late % / hours", *traces], rows)
