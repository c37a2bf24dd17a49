"""The selectable policies as policies of the outside simulator: `bench.autoscale.outside:kpa`.

Each takes the config of the simulator and returns an object with `decide(now_s, observation)`.
This runs in the environment of the simulator, which holds none of Serai's dependencies.
"""

from collections.abc import Mapping
from typing import Any

from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.policies.catalog import named
from serai_scheduler.autoscale.policies.policy import Policy


class Outside:
    """A policy in the simulator, asked for the first time when its answers count.

    The simulated system starts empty, and the peers' rules wait as they would after a start.
    """

    def __init__(self, policy: Policy, config: Mapping[str, Any]) -> None:
        self._policy = policy
        self._queue_limit, self._warm_up_s = int(config["queue_limit"]), config["warm_up_s"]
        self._limits = Limits(
            config["min_replicas"], config["max_replicas"], float(config["max_concurrency"])
        )

    def decide(self, now_s: float, observation: Mapping[str, Any]) -> int:
        """Return the wanted count."""
        sample = Sample(
            elapsed_s=observation["elapsed_s"],
            arrivals=observation["arrivals"],
            completions=observation["completions"],
            running=observation["in_flight"],
            queued=observation["queued"],
            ready=observation["ready"],
            starting=observation["starting"],
            slots=float(observation["max_concurrency"]),
            start_up_s=observation["start_up_s"],
            queue_limit=self._queue_limit,
        )
        self._policy.add(now_s, sample)
        if now_s < self._warm_up_s:
            return sample.ready
        return self._policy.decide(now_s, self._limits).wanted


def serai(config: Mapping[str, Any]) -> Outside:
    return Outside(named("serai"), config)


def kpa(config: Mapping[str, Any]) -> Outside:
    return Outside(named("kpa"), config)


def kpa_delay600(config: Mapping[str, Any]) -> Outside:
    return Outside(named("kpa", {"scale_down_delay_s": 600.0}), config)


def kpa_tuned(config: Mapping[str, Any]) -> Outside:
    return Outside(named("kpa", {"target": 0.85, "scale_down_delay_s": 900.0}), config)


def hpa(config: Mapping[str, Any]) -> Outside:
    return Outside(named("hpa"), config)


def cortex(config: Mapping[str, Any]) -> Outside:
    return Outside(named("cortex"), config)


def cortex_tuned(config: Mapping[str, Any]) -> Outside:
    options = {
        "target": 0.85,
        "window_s": 10.0,
        "upscale_stabilization_period_s": 0.0,
        "max_upscale_factor": 10.0,
        "downscale_stabilization_period_s": 600.0,
    }
    return Outside(named("cortex", options), config)
