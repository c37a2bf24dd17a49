"""What is found of a cluster, from what its programs and nodes have told."""

import msgspec
import pytest

from serai.operator import Finding, NodeStatus, Verdict
from serai.report import NomadReading
from serai_scheduler.doctor import Client, Program, Seen, examine, too_old, version_of
from serai_scheduler.nomad.settings import JobSettings
from tests.support.scheduling import report

WALL_S = 1_000_000.0
HEALTHY = {"raw_exec": True, "docker": True, "exec": False}


def node(
    name: str, limit_s: float | None = 3600.0, skew_s: float = 0.0, problem: str = ""
) -> NodeStatus:
    """Return a node that reported a second ago."""
    told = msgspec.structs.replace(
        report(1),
        node=name,
        sent_at_s=WALL_S - 1.0 + skew_s,
        nomad=NomadReading(version="1.6.1", max_kill_timeout_s=limit_s, problem=problem),
    )
    return NodeStatus(node=name, state="up", age_s=1.0, report=told)


def seen(nomad: str = "1.6.1", consul: str = "1.15.4:27de64da", **changes: object) -> Seen:
    """Return two nodes, with versions as Nomad and Consul word them."""
    whole = Seen(
        nomad_servers=(Program(name="s1.global", version=nomad),),
        nomad_clients=tuple(Client(name=n, version=nomad, drivers=HEALTHY) for n in ("a", "b")),
        consul=(Program(name="c1", version=consul),),
        consul_connections=1000,
    )
    return msgspec.structs.replace(whole, **changes)


def found(one: Seen, *nodes: NodeStatus, jobs: JobSettings | None = None) -> tuple[Finding, ...]:
    nodes = nodes or (node("a"), node("b"))
    return examine(one, nodes, jobs or JobSettings(), 600, WALL_S)


def bad(one: Seen, *nodes: NodeStatus, jobs: JobSettings | None = None) -> list[tuple[str, str]]:
    told = found(one, *nodes, jobs=jobs)
    return [(one.verdict.value, one.told) for one in told if one.verdict is not Verdict.OK]


def test_a_cluster_as_it_is_tested_is_well() -> None:
    assert bad(seen()) == [] and too_old(seen()) == ""
    assert {one.what for one in found(seen())} == {
        "nomad", "clients", "drivers", "time to end", "consul", "agents", "clocks",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.6.1", (1, 6, 1)), ("1.15.4:27de64da", (1, 15, 4)), ("1.10.2+ent", (1, 10, 2)),
     ("v2.0.4-beta.1", (2, 0, 4)), ("", None), ("dev", None)],
)  # fmt: skip
def test_versions_are_read_as_they_are_told(text: str, version: tuple[int, int, int]) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize("newer", ["1.6.2", "1.7.0", "1.10.2+ent", "2.0.4", "nightly"])
def test_what_is_newer_is_untested_and_not_refused(newer: str) -> None:
    assert bad(seen(nomad=newer)) == [
        ("untested", f"Nomad {newer} on s1.global; tested: 1.6.1"),
        ("untested", f"Nomad {newer} on a, b; tested: 1.6.1"),
    ]
    assert too_old(seen(nomad=newer)) == ""


def test_what_is_older_is_refused_with_the_reason() -> None:
    refusal = (
        "Nomad 1.5.17 on s1.global is older than 1.6.1, the oldest that Serai runs on: upgrade it"
    )
    assert too_old(seen(nomad="1.5.17")) == refusal
    assert bad(seen(nomad="1.5.17"))[0] == ("fail", refusal)
    old = "Consul 1.14.9 on c1 is older than 1.15.4, the oldest that Serai runs on: upgrade it"
    assert too_old(seen(consul="1.14.9:abc")) == old
    assert bad(seen(consul="1.14.9:abc")) == [("fail", old)]
    assert too_old(Seen(nomad_problem="it does not answer")) == ""


def test_a_node_that_gives_less_time_to_end_is_named() -> None:
    (one,) = bad(seen(), node("a", 30.0), node("b"))
    assert one == (
        "warn",
        "max_kill_timeout is 30 s on a, below jobs.max_kill_timeout_s (3600 s): answers in flight "
        'are cut off then; set client { max_kill_timeout = "3600s" } there',
    )
    assert bad(seen(), node("a", 30.0), node("b"), jobs=JobSettings(max_kill_timeout_s=30)) == []


def test_where_the_time_to_end_is_not_known_it_is_told_why() -> None:
    silent = NodeStatus(node="b", state="silent", age_s=None, report=None)
    assert bad(seen(), node("a", None, problem="Nomad does not answer"), silent) == [
        ("warn", "not known of a: Nomad does not answer"),
        ("warn", "not known of b: no agent of Serai has reported from there"),
        ("warn", "silent on b: start serai-agent there, or look at its log"),
    ]


def test_drivers_that_are_missing_are_told_with_what_cannot_run() -> None:
    raw = Client(name="a", version="1.6.1", drivers={"raw_exec": True, "docker": False})
    none = Client(name="b", version="1.6.1")
    assert bad(seen(nomad_clients=(raw, none))) == [
        ("warn", "no healthy raw_exec on b: predictors, programs cannot run there; see cluster.md"),
        ("warn", "no healthy docker on a, b: containers cannot run there; see cluster.md"),
    ]
    image = JobSettings(predictor_image="serai-predictor:1")
    found = bad(seen(nomad_clients=(raw, none)), jobs=image)
    assert [verdict for verdict, _ in found] == ["warn", "fail"]
    assert "predictors, containers cannot run" in found[1][1]


def test_few_connections_a_wrong_clock_and_what_does_not_answer_are_told() -> None:
    ((verdict, told),) = bad(seen(consul_connections=200))
    assert verdict == "warn" and "http_max_conns_per_client = 700" in told
    ((verdict, told),) = bad(seen(), node("a", skew_s=-7.25), node("b"))
    assert verdict == "warn" and "differ from this scheduler's: a (-7.2 s);" in told
    away = seen(nomad_problem="Nomad does not answer", nomad_clients=(), consul_problem="denied")
    assert bad(away) == [("fail", "Nomad does not answer"), ("fail", "denied")]


def test_many_nodes_are_not_all_named() -> None:
    nodes = [node(f"n{number}", 30.0) for number in range(8)]
    clients = tuple(Client(name=one.node, version="1.6.1", drivers=HEALTHY) for one in nodes)
    ((_, told),) = bad(seen(nomad_clients=clients), *nodes)
    assert "on n0, n1, n2, n3, n4 and 3 more, below" in told


@pytest.mark.parametrize(
    ("renewal_s", "verdict"), [(0.01, Verdict.OK), (0.5, Verdict.WARN), (None, None)]
)
def test_a_lease_that_is_renewed_slowly_is_told(
    renewal_s: float | None, verdict: Verdict | None
) -> None:
    there = msgspec.structs.replace(seen(), renewal_s=renewal_s, longest_renewal_s=0.75)
    found = [one for one in examine(there, (), JobSettings(), 0, 0.0) if one.what == "lease"]
    assert [one.verdict for one in found] == ([verdict] if verdict else [])
    if verdict is Verdict.WARN:
        assert (
            "renewed it in 0.50 s and may take 0.75 s: beyond that nobody can lead" in found[0].told
        )


def test_refused_reports_are_told() -> None:
    found = examine(seen(), (), JobSettings(), 0, 0.0, "the reports of a are refused")
    assert ("agents", "the reports of a are refused") in [(one.what, one.told) for one in found]
