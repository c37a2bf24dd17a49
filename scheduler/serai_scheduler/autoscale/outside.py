"""What the autoscaler asks beyond the gateways: policies that users bring."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from serai.clock import Clock
from serai.model import Value
from serai.spec import Problem
from serai.spec.scaling import POLICIES
from serai.spec.types import ApiSpec
from serai_scheduler.autoscale.own.answers import config_of
from serai_scheduler.autoscale.own.runner import OwnPolicies, trial

MAX_OWN_POLICIES = 32
"""Each is a process of some ten MB beside the scheduler."""
TRIALS_AT_ONCE = 2


class OutsideSettings(Value):
    """Where the autoscaler finds what is not its own, "" for nowhere.

    `policies` is the folder that modules of policies are imported from.
    """

    policies: str = ""


NOTHING_OUTSIDE = OutsideSettings()


class Outside:
    """Policies of users' own, made and checked as the settings say; `run` runs them."""

    def __init__(self, settings: OutsideSettings, clock: Clock, rng: Random) -> None:
        self._settings = settings
        self.policies = OwnPolicies(clock, rng, settings.policies)

    async def run(self) -> None:
        """Ask for ever; to be run under a supervisor."""
        await self.policies.run()

    async def problems(
        self, specs: Sequence[ApiSpec], present: Iterable[ApiSpec]
    ) -> tuple[Problem, ...]:
        """Return what keeps valid specs from being scaled here, beside those that are present."""
        if metrics := tuple(_metrics(specs)):
            return metrics
        own = [spec for spec in specs if brings_policy(spec)]
        named = {spec.name for spec in specs}
        others = sum(brings_policy(spec) and spec.name not in named for spec in present)
        if found := tuple(_not_possible(own, self._settings.policies, others)):
            return found
        gate = asyncio.Semaphore(TRIALS_AT_ONCE)
        tried = await asyncio.gather(*(self._tried(spec, gate) for spec in own))
        return tuple(problem for problem in tried if problem is not None)

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


def _metrics(specs: Sequence[ApiSpec]) -> Iterator[Problem]:
    for spec in specs:
        if spec.autoscaling.metric is not None:
            path = f"{spec.name}: autoscaling.metric"
            yield Problem(path=path, message="metrics are not asked for yet; remove it")


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
