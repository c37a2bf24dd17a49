"""Where the engine of the cluster is plugged in: what runs replicas, made anew for each term."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from serai.clock import Clock
from serai.consul.client import ConsulClient
from serai.consul.registry import ConsulRegistry
from serai.engine import Engine
from serai.supervisor import Run
from serai_scheduler.nomad.client import NomadClient
from serai_scheduler.nomad.engine import NomadEngine
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.program.look import look
from serai_scheduler.service import HeldJob, Look, no_job, nothing_to_see


@dataclass(frozen=True)
class RunningEngine:
    """An engine with the loops by name that have to run for as long as it is used.

    `held` tells the job that a version runs as, where it runs in Nomad.
    """

    engine: Engine
    loops: Mapping[str, Run] = field(default_factory=dict)
    held: HeldJob = no_job


MakeEngine = Callable[[Callable[[], bool], Callable[[], None]], RunningEngine]
"""Makes the engine of one term: told how to ask whether this process leads, and whom to tell that
something changed."""


@dataclass(frozen=True)
class EngineSide:
    """What runs replicas: how its engine is made, and a question that it answers while it is there.

    `ask` raises Unavailable or Refused when it is not. `look` tells what programs it consists of.
    """

    make: MakeEngine
    ask: Callable[[], Awaitable[object]]
    look: Look = nothing_to_see


def nomad_side(
    nomad: NomadClient, consul: ConsulClient, clock: Clock, settings: JobSettings
) -> EngineSide:
    """Return Nomad as what runs replicas."""

    def make(leading: Callable[[], bool], changed: Callable[[], None]) -> RunningEngine:
        registry = ConsulRegistry(consul, clock)
        engine = NomadEngine(nomad, registry, clock, settings, leading, changed)
        loops = {"engine": engine.run, "registry": registry.run}
        return RunningEngine(engine, loops, engine.held)

    return EngineSide(make, lambda: nomad.jobs(f"{settings.prefix}-"), lambda: look(nomad, consul))
