"""How the benchmark of the autoscaler compares, and that it benches what runs."""

import subprocess
import sys
from random import Random

import pytest

from bench import autoscale_policy
from bench.autoscale.judge import hours_ratio, late_ratio, of, summary, worse_on_both
from bench.autoscale.simulator import Run
from bench.report import ROOT
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History, Sample

RUNS = [
    Run("ours", "calm", 5, 60, 0.0, 1.0, 4.0),
    Run("ours", "hard", 5, 60, 2.0, 4.0, 8.0),
    Run("peer", "calm", 5, 60, 0.0, 2.0, 1.0),
    Run("peer", "hard", 5, 60, 8.0, 2.0, 1.0),
]


def test_means_are_those_of_the_simulators_table() -> None:
    found = summary(of(RUNS, "ours"))
    assert (found.late_percent, found.runs_over_one_percent, found.events_per_hour) == (1, 0.5, 6)
    assert found.hours == pytest.approx(2.0)


def test_ratios_have_intervals_over_traces() -> None:
    late, hours = late_ratio(RUNS, "ours", "peer"), hours_ratio(RUNS, "ours", "peer")
    assert late.value == 0.25
    assert hours.value == pytest.approx(1.0)
    assert [hours.low, hours.high] == pytest.approx([0.5, 2.0])


def test_a_peer_that_is_never_late_is_equalled_or_not() -> None:
    calm = [run for run in RUNS if run.trace == "calm"]
    assert late_ratio(calm, "ours", "peer").value == 1.0
    late = [Run("ours", "calm", 5, 60, 0.1, 1.0, 4.0), *calm[1:]]
    assert late_ratio(late, "ours", "peer").value == float("inf")


def test_worse_is_worse_on_both() -> None:
    assert worse_on_both(RUNS, "ours", "peer") == []
    later = [Run("ours", "hard", 5, 60, 9.0, 2.5, 1.0), *RUNS[2:]]
    assert worse_on_both(later, "ours", "peer") == later[:1]


def test_the_benched_policy_is_that_of_the_product() -> None:
    config = {
        "max_concurrency": 5,
        "min_replicas": 1,
        "max_replicas": 40,
        "queue_limit": 100,
        "warm_up_s": 0.0,
    }
    benched, history, limits = autoscale_policy.factory(config), History(), Limits(1, 40, 5.0)
    rng = Random(3)
    for second in range(1, 2000):
        arrivals, completions, running = (rng.randint(0, most) for most in (20, 20, 60))
        queued = rng.randint(0, 5)
        seen = {
            "elapsed_s": 1.0,
            "arrivals": arrivals,
            "completions": completions,
            "in_flight": running,
            "queued": queued,
            "ready": 10,
            "starting": 0,
            "max_concurrency": 5,
            "start_up_s": 60.0,
        }
        sample = Sample(1.0, arrivals, completions, running, queued, 10, 0, 5.0, 60.0, 100)
        history.add(float(second), sample)
        decision = decide(history, float(second), limits)
        history.standing = decision.standing
        assert benched.decide(float(second), seen) == decision.wanted


def test_the_benched_policy_needs_nothing_of_the_simulators_python() -> None:
    lines = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import bench.autoscale_policy"
    bare = [sys.executable, "-I", "-S", "-c", lines]  # without any installed package
    done = subprocess.run(bare, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
