"""What a cluster has and lacks, from what was seen of its programs and nodes. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import field

from serai.model import Value
from serai.operator import Finding, NodeStatus, Verdict
from serai_scheduler.nodes import skew_s
from serai_scheduler.nomad.settings import JobSettings

NOMAD_TESTED = (1, 6, 1)
CONSUL_TESTED = (1, 15, 4)
"""What the tests run against; older ones are refused, newer ones may do."""
MOST_SKEW_S = 2.0
NAMES_SHOWN = 5
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")

Triple = tuple[int, int, int]


class Program(Value):
    """One agent of Nomad or Consul: the name of its machine, its version as it tells it."""

    name: str
    version: str


class Client(Program):
    """A client of Nomad; `drivers` says of each that it has found whether it is healthy."""

    drivers: dict[str, bool] = field(default_factory=dict)


class Seen(Value):
    """What was asked of a cluster's programs; a `problem` says why one did not tell, "" for none.

    `consul_connections` is how many Consul allows from one address, None where it does not say.
    `renewal_s` is how long the last renewal of the lease took, None of one that needs none, and
    `longest_renewal_s` how long it may take: nobody can lead beyond that.
    """

    nomad_servers: tuple[Program, ...] = ()
    nomad_clients: tuple[Client, ...] = ()
    nomad_problem: str = ""
    consul: tuple[Program, ...] = ()
    consul_connections: int | None = None
    consul_problem: str = ""
    renewal_s: float | None = None
    longest_renewal_s: float = 0.0


def too_old(seen: Seen) -> str:
    """Say why Serai cannot run on what was seen; "" where it can, or nothing is known."""
    groups: tuple[tuple[str, Sequence[Program], Triple], ...] = (
        ("Nomad", seen.nomad_servers, NOMAD_TESTED),
        ("Consul", seen.consul, CONSUL_TESTED),
    )
    for program, ones, tested in groups:
        old = [one for one in ones if (found := version_of(one.version)) and found < tested]
        if old:
            return _refusal(program, old, tested)
    return ""


def version_of(text: str) -> Triple | None:
    """Return the three numbers of a version such as `1.6.1+ent` or `1.15.4:27de64da`."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def examine(
    seen: Seen,
    nodes: Sequence[NodeStatus],
    jobs: JobSettings,
    connections: int,
    wall_s: float,
    refused_reports: str = "",
) -> tuple[Finding, ...]:
    """Return a finding for each thing that was looked at; `wall_s` is now by this machine's clock.

    `connections` is how many this scheduler opens to Consul, `refused_reports` in words whose
    reports it does not take.
    """
    return (
        *_versions("nomad", "Nomad", seen.nomad_servers, NOMAD_TESTED, seen.nomad_problem),
        *_versions("clients", "Nomad", seen.nomad_clients, NOMAD_TESTED, ""),
        *_drivers(seen.nomad_clients, jobs),
        *_time_to_end(seen.nomad_clients, nodes, jobs),
        *_versions("consul", "Consul", seen.consul, CONSUL_TESTED, seen.consul_problem),
        *_connections(seen.consul_connections, connections),
        *_lease(seen.renewal_s, seen.longest_renewal_s),
        *_agents(seen.nomad_clients, nodes, refused_reports),
        *_clocks(nodes, wall_s),
    )


# Versions ----------------------------------------------------------------------------------------


def _versions(
    what: str, program: str, ones: Sequence[Program], tested: Triple, problem: str
) -> Iterator[Finding]:
    if problem:
        yield _found(Verdict.FAIL, what, problem)
        return
    by_version: dict[str, list[Program]] = defaultdict(list)
    for one in ones:
        by_version[one.version.partition(":")[0]].append(one)
    for text, mine in sorted(by_version.items()):
        where, number = _names(one.name for one in mine), version_of(text)
        if number is not None and number < tested:
            yield _found(Verdict.FAIL, what, _refusal(program, mine, tested))
        elif number == tested:
            yield _found(Verdict.OK, what, f"{program} {text} on {where}")
        else:
            yield _found(
                Verdict.UNTESTED, what, f"{program} {text} on {where}; tested: {_dotted(tested)}"
            )


def _refusal(program: str, old: Sequence[Program], tested: Triple) -> str:
    versions = ", ".join(sorted({one.version.partition(":")[0] for one in old}))
    return (
        f"{program} {versions} on {_names(one.name for one in old)} is older than "
        f"{_dotted(tested)}, the oldest that Serai runs on: upgrade it"
    )


# Nomad's clients ---------------------------------------------------------------------------------


def _drivers(clients: Sequence[Client], jobs: JobSettings) -> Iterator[Finding]:
    in_image = bool(jobs.predictor_image)
    uses: dict[str, str] = {
        jobs.program_driver: "programs" if in_image else "predictors, programs",
        "docker": "predictors, containers" if in_image else "containers",
    }
    for driver, use in uses.items():
        without = [one.name for one in clients if not one.drivers.get(driver)]
        if not clients or not without:
            continue
        vital = use.startswith("predictors") and len(without) == len(clients)
        yield _found(
            Verdict.FAIL if vital else Verdict.WARN,
            "drivers",
            f"no healthy {driver} on {_names(without)}: {use} cannot run there; see cluster.md",
        )
    if clients:
        there = {driver for one in clients for driver, healthy in one.drivers.items() if healthy}
        shown = ", ".join(sorted(there)) or "none"
        yield _found(Verdict.OK, "drivers", f"healthy on some node at least: {shown}")


def _time_to_end(
    clients: Sequence[Client], nodes: Sequence[NodeStatus], jobs: JobSettings
) -> Iterator[Finding]:
    """Yield what Nomad's clients make of the time that a replica has to end: they cap it."""
    limits_s = _limits_s(clients, nodes)
    unknown = {node: why for node, why in limits_s.items() if isinstance(why, str)}
    low = {
        node: limit_s
        for node, limit_s in limits_s.items()
        if isinstance(limit_s, float) and limit_s < jobs.max_kill_timeout_s
    }
    for limit_s in sorted(set(low.values())):
        these = _names(node for node, one in low.items() if one == limit_s)
        yield _found(
            Verdict.WARN,
            "time to end",
            f"max_kill_timeout is {limit_s:g} s on {these}, below jobs.max_kill_timeout_s "
            f"({jobs.max_kill_timeout_s:g} s): answers in flight are cut off then; set "
            f'client {{ max_kill_timeout = "{jobs.max_kill_timeout_s:g}s" }} there',
        )
    for why in sorted(set(unknown.values())):
        these = _names(node for node, one in unknown.items() if one == why)
        yield _found(Verdict.WARN, "time to end", f"not known of {these}: {why}")
    if limits_s and not low and not unknown:
        yield _found(
            Verdict.OK, "time to end", f"{jobs.max_kill_timeout_s:g} s are allowed on every node"
        )


def _limits_s(clients: Sequence[Client], nodes: Sequence[NodeStatus]) -> Mapping[str, float | str]:
    """Return the limit on each client's node, or why it is not known."""
    reports = {one.node: one.report for one in nodes}
    found: dict[str, float | str] = {}
    for client in clients:
        report = reports.get(client.name)
        if report is None:
            found[client.name] = "no agent of Serai has reported from there"
        elif report.nomad is None:
            found[client.name] = "its agent has not asked Nomad (`[nomad]` of agent.toml)"
        elif report.nomad.max_kill_timeout_s is None:
            found[client.name] = report.nomad.problem or "its Nomad does not say"
        else:
            found[client.name] = float(report.nomad.max_kill_timeout_s)
    return found


# The rest ----------------------------------------------------------------------------------------


def _connections(allowed: int | None, wanted: int) -> Iterator[Finding]:
    if allowed is None:
        return
    if allowed <= wanted:
        yield _found(
            Verdict.WARN,
            "consul",
            f"it allows {allowed} connections from one address, and this scheduler opens up to "
            f"{wanted}: set limits {{ http_max_conns_per_client = {wanted + 100} }} or more",
        )
    else:
        yield _found(Verdict.OK, "consul", f"allows {allowed} connections from one address")


def _lease(renewal_s: float | None, longest_s: float) -> Iterator[Finding]:
    if renewal_s is None:
        return
    told = f"Consul renewed it in {renewal_s:.2f} s and may take {longest_s:g} s"
    if renewal_s > longest_s / 2:
        yield _found(
            Verdict.WARN,
            "lease",
            f"{told}: beyond that nobody can lead; look at the network to Consul and at its load, "
            "or raise lease.ttl_s on all schedulers",
        )
    else:
        yield _found(Verdict.OK, "lease", told)


def _agents(
    clients: Sequence[Client], nodes: Sequence[NodeStatus], refused_reports: str
) -> Iterator[Finding]:
    if refused_reports:
        yield _found(Verdict.WARN, "agents", refused_reports)
    silent = [one.node for one in nodes if one.state != "up"]
    if silent:
        yield _found(
            Verdict.WARN,
            "agents",
            f"silent on {_names(silent)}: start serai-agent there, or look at its log",
        )
    elif nodes:
        yield _found(Verdict.OK, "agents", f"{len(nodes)} report")
    strangers = {one.node for one in nodes} - {one.name for one in clients}
    if clients and strangers:
        yield _found(
            Verdict.OK, "agents", f"on no node of Nomad, as gateways may be: {_names(strangers)}"
        )


def _clocks(nodes: Sequence[NodeStatus], wall_s: float) -> Iterator[Finding]:
    skews_s = {
        one.node: ahead_s
        for one in nodes
        if one.state == "up" and (ahead_s := skew_s(one, wall_s)) is not None
    }
    wrong = {node: ahead_s for node, ahead_s in skews_s.items() if abs(ahead_s) > MOST_SKEW_S}
    if wrong:
        told = _names(f"{node} ({ahead_s:+.1f} s)" for node, ahead_s in wrong.items())
        yield _found(
            Verdict.WARN,
            "clocks",
            f"differ from this scheduler's: {told}; times in logs mislead: run NTP on all nodes",
        )
    elif skews_s:
        yield _found(Verdict.OK, "clocks", f"within {MOST_SKEW_S:g} s on {len(skews_s)} nodes")


def _names(names: Iterable[str]) -> str:
    known = sorted(set(names))
    more = len(known) - NAMES_SHOWN
    return ", ".join(known[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _dotted(version: Triple) -> str:
    return ".".join(str(part) for part in version)


def _found(verdict: Verdict, what: str, told: str) -> Finding:
    return Finding(verdict=verdict, what=what, told=told)
