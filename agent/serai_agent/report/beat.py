"""Puts a report together from its parts, within its limits: pure.

What does not fit is left out and told, never half sent: a scheduler that refuses a whole report
for one part of it would take the node for dead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

import msgspec

from serai import wire
from serai.model import Value
from serai.report import (
    MAX_REPORT_BYTES,
    REPORT_VERSION,
    Demand,
    GatewayReading,
    GpuReading,
    Gpus,
    NodeReport,
    NomadReading,
    ReplicaUsage,
)

T = TypeVar("T")

MAX_TEXT = 256
MAX_GPUS = 64
MAX_REPLICAS = 2000
MAX_VERSIONS = 5000
MAX_SERVERS = 20_000
MAX_REVISIONS = 5000


@dataclass(frozen=True)
class _Kind:
    """A kind of item, and how to get at the texts in it."""

    name: str
    texts: Callable[[object], tuple[str, ...]]


_REPLICA = _Kind("replicas", lambda item: (attrgetter("replica")(item),))
_VERSION = _Kind("gateway versions", attrgetter("api", "version"))
_DEMAND = _Kind("APIs with demand", lambda item: (attrgetter("api")(item),))
_SERVER = _Kind("gateway servers", attrgetter("server", "state"))


class Identity(Value):
    """Who reports: the node, this run of its agent (wall-clock seconds), its version and roles."""

    node: str
    started_at_s: float
    serai_version: str
    roles: tuple[str, ...]


class NodeReading(Value):
    """The machine at one moment; None is unknown, which is not zero.

    `cpu_percent` is of all processors together since the reading before (0 to 100).
    """

    cpu_count: int
    cpu_percent: float | None = None
    load: tuple[float, float, float] | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None


class Parts(Value):
    """What was read for one report; None is what could not be read in time."""

    node: NodeReading
    gpus: Gpus
    replicas: tuple[ReplicaUsage, ...] | None = None
    gateway: GatewayReading | None = None
    nomad: NomadReading | None = None


class Beat(Value):
    """A report that fits, and what had to be left out of it, in words."""

    report: NodeReport
    left_out: tuple[str, ...] = ()


def assemble(who: Identity, sequence: int, sent_at_s: float, parts: Parts) -> Beat:
    """Return the report number `sequence`; every list, text and the whole are within bounds."""
    left_out: list[str] = []
    node = parts.node
    report = NodeReport(
        report_version=REPORT_VERSION,
        node=clipped(who.node),
        sequence=sequence,
        started_at_s=who.started_at_s,
        sent_at_s=sent_at_s,
        serai_version=clipped(who.serai_version),
        roles=tuple(clipped(role) for role in who.roles),
        cpu_count=node.cpu_count,
        cpu_percent=node.cpu_percent,
        load=node.load,
        memory_total_bytes=known(node.memory_total_bytes),
        memory_available_bytes=known(node.memory_available_bytes),
        disk_total_bytes=known(node.disk_total_bytes),
        disk_free_bytes=known(node.disk_free_bytes),
        gpus=_gpus(parts.gpus, left_out),
        replicas=_kept(parts.replicas or (), _REPLICA, MAX_REPLICAS, left_out),
        gateway=_gateway(parts.gateway, left_out) if parts.gateway else None,
        nomad=parts.nomad,
    )
    return Beat(report=_fitted(report, left_out), left_out=tuple(left_out))


def known(value_bytes: int | None) -> int:
    """Return bytes, 0 for unknown: the report has no other word."""
    return 0 if value_bytes is None else value_bytes


def clipped(text: str, limit: int = MAX_TEXT) -> str:
    """Return text of at most `limit` characters, an ellipsis at its end where it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _gpus(gpus: Gpus, left_out: list[str]) -> Gpus:
    return Gpus(
        readings=tuple(_gpu(gpu) for gpu in _first(gpus.readings, MAX_GPUS, "GPUs", left_out)),
        driver=clipped(gpus.driver),
        problem=clipped(gpus.problem),
        age_s=gpus.age_s,
    )


def _gpu(gpu: GpuReading) -> GpuReading:
    return msgspec.structs.replace(
        gpu, uuid=clipped(gpu.uuid), name=clipped(gpu.name), problem=clipped(gpu.problem)
    )


def _gateway(gateway: GatewayReading, left_out: list[str]) -> GatewayReading:
    begun = len(left_out)
    versions = _kept(gateway.versions, _VERSION, MAX_VERSIONS, left_out)
    called = _kept(gateway.demand.apis, _DEMAND, MAX_VERSIONS, left_out)
    servers = _kept(gateway.servers, _SERVER, MAX_SERVERS, left_out)
    revisions = dict(
        _first(tuple(gateway.revisions.items()), MAX_REVISIONS, "route revisions", left_out)
    )
    problem = "; ".join(word for word in (gateway.problem, *left_out[begun:]) if word)
    return msgspec.structs.replace(
        gateway,
        run=clipped(gateway.run),
        haproxy_version=clipped(gateway.haproxy_version),
        versions=versions,
        demand=msgspec.structs.replace(gateway.demand, apis=called),
        servers=servers,
        revisions=revisions,
        problem=clipped(problem),
    )


def _kept(items: Sequence[T], kind: _Kind, limit: int, left_out: list[str]) -> tuple[T, ...]:
    """Return the items whose names fit, up to the limit; a cut name would be another's name."""
    named = tuple(item for item in items if max(map(len, kind.texts(item))) <= MAX_TEXT)
    if len(named) < len(items):
        gone = len(items) - len(named)
        left_out.append(f"{gone} {kind.name} with names above {MAX_TEXT} characters")
    return _first(named, limit, kind.name, left_out)


def _first(items: Sequence[T], limit: int, what: str, left_out: list[str]) -> tuple[T, ...]:
    if len(items) > limit:
        left_out.append(f"{len(items) - limit} {what} above {limit}")
    return tuple(items[:limit])


def _fitted(report: NodeReport, left_out: list[str]) -> NodeReport:
    """Return the report with whole parts taken out until it fits, the dearest first."""
    for what in ("demand", "gateway", "replicas"):
        size_bytes = len(wire.encode(report))
        if size_bytes <= MAX_REPORT_BYTES:
            break
        smaller = _without(what, report)
        if smaller != report:
            left_out.append(f"{what}: the report of {size_bytes} bytes is above {MAX_REPORT_BYTES}")
        report = smaller
    return report


def _without(what: str, report: NodeReport) -> NodeReport:
    if what == "replicas":
        return msgspec.structs.replace(report, replicas=())
    gateway = report.gateway
    if what == "demand" and gateway is not None:
        without = msgspec.structs.replace(gateway, demand=Demand())
        return msgspec.structs.replace(report, gateway=without)
    return msgspec.structs.replace(report, gateway=None)
