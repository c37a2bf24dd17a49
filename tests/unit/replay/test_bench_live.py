"""What of a trace the live benchmark sends, and what its policies are."""

import gzip
from pathlib import Path

import pytest

from bench.autoscale_live.__main__ import POLICIES, figures_of, scaling_of, simulated
from bench.autoscale_live.live import Live, Setup, living
from bench.autoscale_live.trace import busiest
from serai_scheduler.replay.system import Load


def trace(path: Path, kind: str, *rows: str) -> Path:
    with gzip.open(path, "wt") as file:
        file.write("\n".join([f'# {{"kind": "{kind}"}}', *rows]) + "\n")
    return path


def test_the_busiest_part_is_sent_faster(tmp_path: Path) -> None:
    rows = ("1000,0,10", "9000,0,90", "1000,1000,90", "1000,0,90", "60000,0,5", "9000,0,5")
    path = trace(tmp_path / "a.req.csv.gz", "requests", *rows)
    load = busiest(path, 3.0, 2.0)
    assert list(load.arrivals_s) == [0.0, 0.5, 1.0]
    assert list(load.services_s) == pytest.approx([1.0, 1.05, 1.0])
    assert list(busiest(path, 3.0, 2.0, every=2).arrivals_s) == [0.0, 1.0]


def test_a_trace_of_counts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a trace of single requests"):
        busiest(trace(tmp_path / "a.cnt.csv.gz", "counts", "5"), 3.0, 2.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_is_one_that_a_spec_may_hold(policy: str) -> None:
    load = Load([0.1 * number for number in range(400)], [1.0] * 400)
    setup = Setup(scaling_of(policy, 2.0), 4, 1000, 10.0, 30.0)
    found = simulated(load, setup, 11.0, 2.5)
    assert found.requests == 400 and 0 < found.late < 400
    assert max(found.replicas) > 2
    live = Live([0.0] * 300 + [3.0] * 99 + [None], 3600.0, 4, 3, 11.0, 0.0)
    figures = figures_of(policy, live, found, 2.5)
    assert figures[f"{policy}_late_percent"] == 25.0
    assert figures[f"{policy}_replica_hours"] == 1.0


def test_replicas_that_have_ended_cost_nothing() -> None:
    states = ("starting", "loading", "ready", "draining", "stopped", "failed", "lost")
    assert living({"replicas": [{"replica": {"state": state}} for state in states]}) == 4
