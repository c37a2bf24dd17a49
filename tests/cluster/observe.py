"""Sees all that Serai has anywhere on its machines, as the real programs tell it, for a sweep."""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from serai.cache_names import (
    BUNDLES,
    ENVIRONMENT_MARKER,
    ENVIRONMENTS,
    MANIFEST_SUFFIX,
    WISH_NAME,
    WISHES,
)
from serai.consul.gateways import GATEWAY_META, GATEWAY_SERVICE
from serai.consul.services import api_of
from serai.errors import SeraiError
from serai_agent.cache.disk import UNFINISHED as UNFINISHED_PREFIX
from serai_agent.edge.answers import parse_sections, parse_seen
from serai_agent.edge.config import STATS_SOCKET
from serai_agent.edge.files import GatewayFiles
from serai_agent.edge.gateway import OBSERVE
from serai_agent.edge.socket import ask
from serai_agent.program.node import CACHE, EDGE
from serai_scheduler.nomad.job import numbers_of
from serai_scheduler.nomad.reading import ports_of
from serai_scheduler.nomad.snapshot import has_ended
from tests.cluster.machines import CONSUL_PORT, GATEWAYS, NOMAD_PORT, Machine
from tests.cluster.nomad import helped
from tests.cluster.serai_cluster import SeraiCluster
from tests.cluster.sweep import (
    FILE_OF_NO_BUNDLE,
    UNFINISHED,
    WISH,
    Allocation,
    Cached,
    Check,
    Gateway,
    Instance,
    Process,
    World,
    findings,
)
from tests.support.wait import remaining

KEYS = "serai/"
SWEEP_LIMIT_S = 60.0

Call = Callable[[int, str], Any]


def sweep(serai: SeraiCluster, within_s: float = SWEEP_LIMIT_S) -> list[str]:
    """Return nothing once nothing is left that belongs to nobody, else what is in the end."""

    def found() -> list[str]:
        try:
            return findings(observe(serai), serai.jobs)
        except (OSError, SeraiError) as error:
            return [f"it cannot be seen: {error!r}"]

    return remaining(found, within_s)


def observe(serai: SeraiCluster) -> World:
    """See everything once; OSError or Unavailable when something does not answer."""
    server = serai.machines.servers[0]
    call: Call = server.call
    nodes = call(NOMAD_PORT, "/nodes")
    services = [name for name in call(CONSUL_PORT, "/catalog/services") if _is_serais(name)]
    machines = serai.machines.machines.values()
    programs = {
        agent.process.pid
        for machine in machines
        for agent in machine.agents.values()
        if agent.process is not None and agent.process.poll() is None
    }
    return World(
        entries={
            one["Key"].removeprefix(KEYS): base64.b64decode(one["Value"] or "")
            for one in call(CONSUL_PORT, f"/kv/{KEYS}?recurse=true")
        },
        sessions=tuple(one["Name"] for one in call(CONSUL_PORT, "/session/list")),
        nodes={one["Name"]: _takes(one) for one in nodes},
        jobs=_jobs(call, serai.jobs.prefix),
        allocations=allocations(serai),
        instances=(
            *(one for name in services for one in _catalogued(call, name)),
            *(one for machine in machines for one in _registered(machine)),
        ),
        checks=tuple(one for machine in machines for one in _checks(machine)),
        gateways=tuple(_gateway(serai, name) for name in GATEWAYS),
        processes=tuple(one for machine in machines for one in _processes(machine)),
        programs=frozenset(programs | {serai.haproxy(name) for name in GATEWAYS}),
        caches=tuple(
            one for name in serai.agents for one in _cached(name, serai.agent_folder(name) / CACHE)
        ),
    )


def _is_serais(service: str) -> bool:
    return service == GATEWAY_SERVICE or api_of(service) is not None


def _takes(node: dict[str, Any]) -> bool:
    return bool(node["SchedulingEligibility"] == "eligible" and not node["Drain"])


def _jobs(call: Call, prefix: str) -> dict[str, frozenset[int]]:
    stubs = call(NOMAD_PORT, f"/jobs?prefix={prefix}-")
    return {one["ID"]: numbers_of(call(NOMAD_PORT, f"/job/{one['ID']}")) for one in stubs}


def allocations(serai: SeraiCluster) -> tuple[Allocation, ...]:
    """Return all that Nomad has, those that have ended, too."""
    return tuple(
        Allocation(
            id=one["ID"],
            job=one["JobID"],
            group=one["TaskGroup"],
            node=one["NodeName"],
            ports=ports_of(one),
            wanted=one["DesiredStatus"] == "run",
            alive=not has_ended(one),
        )
        for one in serai.machines.servers[0].call(NOMAD_PORT, "/allocations?resources=true")
    )


def _catalogued(call: Call, service: str) -> Iterator[Instance]:
    for one in call(CONSUL_PORT, f"/health/service/{service}"):
        yield _instance("Consul's catalog", one["Node"]["Node"], one["Service"])


def _registered(machine: Machine) -> Iterator[Instance]:
    for one in machine.call(CONSUL_PORT, "/agent/services").values():
        if _is_serais(one["Service"]):
            yield _instance(f"Consul's agent on {machine.name}", machine.name, one)


def _instance(where: str, node: str, service: dict[str, Any]) -> Instance:
    meta = service["Meta"] or {}
    return Instance(
        where=where,
        service=service["Service"],
        id=service["ID"],
        node=node,
        owner=meta.get(GATEWAY_META) or meta.get("replica") or "",
        port=service["Port"],
    )


def _checks(machine: Machine) -> Iterator[Check]:
    for one in machine.call(CONSUL_PORT, "/agent/checks").values():
        if _is_serais(one["ServiceName"]):
            yield Check(node=machine.name, id=one["CheckID"], instance=one["ServiceID"])


def _gateway(serai: SeraiCluster, name: str) -> Gateway:
    folder = serai.agent_folder(name) / EDGE
    told = asyncio.run(ask(folder / STATS_SOCKET, ";".join(OBSERVE)))
    return Gateway(name, parse_seen(parse_sections(told)), GatewayFiles(folder).recall())


def _processes(machine: Machine) -> Iterator[Process]:
    for number in machine.host.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            helps = helped(process)
            allocation = helps[1] if helps else process.environ().get("NOMAD_ALLOC_ID", "")
            command = " ".join(process.cmdline()) or process.name()
            yield Process(machine.name, number, process.ppid(), command, allocation)


def _cached(node: str, cache: Path) -> Iterator[Cached]:
    for path in _entries(cache / ENVIRONMENTS):
        if not path.name.startswith("."):  # locks stay
            yield Cached(node, ENVIRONMENTS, path.name, (path / ENVIRONMENT_MARKER).exists())
    found = {path.name for path in _entries(cache / BUNDLES) if not path.name.startswith(".")}
    for name in {one.removesuffix(MANIFEST_SUFFIX) for one in found}:
        yield Cached(node, BUNDLES, name, {name, name + MANIFEST_SUFFIX} <= found)
    for path in _entries(cache / "files"):
        if not path.name.startswith(".") and path.stat().st_nlink == 1:
            yield Cached(node, FILE_OF_NO_BUNDLE, path.name)
    yield from _on_their_way(node, cache)


def _on_their_way(node: str, cache: Path) -> Iterator[Cached]:
    for kind in ("", ENVIRONMENTS, BUNDLES, "files", "runtimes", WISHES):
        for path in _entries(cache / kind):
            if path.name.startswith(UNFINISHED_PREFIX) or path.name.endswith(".new"):
                yield Cached(node, UNFINISHED, f"{kind}/{path.name}")
    for path in _entries(cache / WISHES):
        if WISH_NAME.fullmatch(path.name):
            yield Cached(node, WISH, path.name)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
