"""What the autoscaler asks beyond the gateways: policies that users bring, and Prometheus."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from random import Random

from serai.clock import Clock
from serai.model import Value
from serai.spec import Problem
from serai.spec.problems import shown
from serai.spec.scaling import POLICIES
from serai.spec.types import ApiSpec
from serai_scheduler.autoscale.metric.prometheus import NOWHERE, Metrics, refusals
from serai_scheduler.autoscale.own.answers import config_of
from serai_scheduler.autoscale.own.runner import OwnPolicies, trial

MAX_OWN_POLICIES = 32
"""Each is a process of some ten MB beside the scheduler."""
TRIALS_AT_ONCE = 2


class OutsideSettings(Value):
    """Where the autoscaler finds what is not its own, "" for nowhere.

    `policies` is the folder that modules of policies are imported from, `prometheus` the URL of
    the Prometheus that metrics are asked of.
    """

    policies: str = ""
    prometheus: str = ""


NOTHING_OUTSIDE = OutsideSettings()


class Outside:
    """What the settings name: policies of users' own, and the metrics of a Prometheus.

    `run` runs the policies; `metrics` has a loop of its own.
    """

    def __init__(self, settings: OutsideSettings, clock: Clock, rng: Random) -> None:
        self._settings, self._clock = settings, clock
        self.metrics = Metrics(clock, settings.prometheus)
        self.policies = OwnPolicies(clock, rng, settings.policies)

    async def run(self) -> None:
        """Ask for ever; to be run under a supervisor."""
        await self.policies.run()

    def follow(self, specs: Mapping[str, ApiSpec], unreadable: Set[str]) -> None:
        """Ask for the metrics of these, and end the policies of all others that can be read."""
        self.metrics.follow(
            {
                name: metric.promql
                for name, spec in specs.items()
                if (metric := spec.autoscaling.metric) is not None
            }
        )
        self.policies.keep({name for name, one in specs.items() if brings_policy(one)} | unreadable)

    async def problems(
        self, specs: Sequence[ApiSpec], present: Iterable[ApiSpec]
    ) -> tuple[Problem, ...]:
        """Return what keeps valid specs from being scaled here, beside those that are present."""
        if metrics := await self._metric_problems(specs):
            return metrics
        own = [spec for spec in specs if brings_policy(spec)]
        named = {spec.name for spec in specs}
        others = sum(brings_policy(spec) and spec.name not in named for spec in present)
        if found := tuple(_not_possible(own, self._settings.policies, others)):
            return found
        gate = asyncio.Semaphore(TRIALS_AT_ONCE)
        tried = await asyncio.gather(*(self._tried(spec, gate) for spec in own))
        return tuple(problem for problem in tried if problem is not None)

    async def _metric_problems(self, specs: Sequence[ApiSpec]) -> tuple[Problem, ...]:
        metrics = {
            spec.name: metric for spec in specs if (metric := spec.autoscaling.metric) is not None
        }
        address = self._settings.prometheus
        if metrics and not address:
            why = f"{NOWHERE}; or remove it"
            return tuple(
                Problem(path=f"{name}: autoscaling.metric", message=why) for name in metrics
            )
        queries = [metric.promql for metric in metrics.values()]
        refused = await refusals(self._clock, address, queries) if queries else {}
        return tuple(
            Problem(
                path=f"{name}: autoscaling.metric.promql",
                message=f"asked of {address}: {refused[metric.promql]}",
                found=shown(metric.promql),
            )
            for name, metric in metrics.items()
            if metric.promql in refused
        )

    async def _tried(self, spec: ApiSpec, gate: asyncio.Semaphore) -> Problem | None:
        target, folder = spec.autoscaling.policy, self._settings.policies
        async with gate:
            fault = await trial(folder, target, config_of(spec))
        if not fault:
            return None
        return _policy_problem(spec, f"it cannot be made from {folder} on the scheduler: {fault}")


def brings_policy(spec: ApiSpec) -> bool:
    """Say whether a valid spec names a policy of its user's own."""
    return spec.autoscaling.policy not in POLICIES


def _not_possible(own: Sequence[ApiSpec], folder: str, others: int) -> Iterator[Problem]:
    if own and not folder:
        for spec in own:
            yield _policy_problem(
                spec,
                "this scheduler has no folder of policies: name one by `policies` in "
                "`[autoscaling]` of its configuration, or by `serai up --policies FOLDER`",
            )
    elif len(own) + others > MAX_OWN_POLICIES:
        many = len(own) + others
        yield _policy_problem(
            own[-1],
            f"{many} APIs would have a policy of their own, each in a process of its own; at "
            f"most {MAX_OWN_POLICIES} may",
        )


def _policy_problem(spec: ApiSpec, message: str) -> Problem:
    policy = spec.autoscaling.policy
    return Problem(path=f"{spec.name}: autoscaling.policy", message=message, found=policy)
