"""`make bench-faults`: what fails on six machines under 200 requests/s through two gateways.

One JSON object for each fault, with the requests lost, the seconds until all was as wanted again
and what belonged to nobody then; a summary last. The outages are long here; `tests/e2e/cluster` has
the same with short ones.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report import Figure, Limit, at_most, exactly, finish
from tests.cluster.links import Faults, linked
from tests.cluster.machines import CONSUL_PORT, NOMAD_PORT, Machine
from tests.cluster.observe import sweep
from tests.cluster.serai_cluster import SeraiCluster, serai_cluster
from tests.cluster.steady import (
    API,
    CUT_MAY_LOSE,
    MORE_REPLICAS,
    NEXT_LEADER_LIMIT_S,
    ONCE,
    ONCE_REPLICAS,
    RATE,
    REPLICAS,
    SLOW_LINK_S,
    change,
    delete_once,
    deploy_once,
    has_left,
    inhabit,
    insist,
    kill_gateway,
    pause_leader,
    project,
    scale,
    settled,
)
from tests.support.gateway_traffic import Traffic, steady
from tests.support.wait import until

SHORT_S, LONG_S = 60.0, 120.0
BACK_LIMIT_S = 120.0
BURST, BURST_BODY = 20, b'{"takes_s": 2}'
"""Requests at once, which a new leader has to be told of."""

Fault = Callable[[SeraiCluster, Traffic], dict[str, Figure]]
"""Does it and mends it; returns what it measured meanwhile."""


def leader_killed(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    """Say when the next one acts (its first fenced write raises the epoch) and knows the demand."""
    scale(serai, REPLICAS)  # else the burst would raise the count
    first, epoch = serai.leader(), serai.epoch()
    traffic.burst(BURST, BURST_BODY)
    until(lambda: demand(serai, first) >= BURST, BACK_LIMIT_S)
    serai.schedulers[first].kill()
    found = seconds_until(lambda: serai.epoch() > epoch)
    leaders = [name for name in serai.schedulers if name != first]
    known = seconds_until(lambda: max(demand(serai, name) for name in leaders) >= BURST)
    serai.schedulers[first].start()
    return {"next_leader_s": found, "demand_known_after_s": known}


def demand(serai: SeraiCluster, through: str) -> int:
    """Return the most requests at once that a scheduler knows of the last 15 minutes."""
    with suppress(OSError):
        told = serai.ask(through, f"/v1/apis/{API}")
        if told.status == 200:
            return told.json().get("peak_15_min") or 0
    return 0


def schedulers_away(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    epoch = serai.epoch()
    for one in serai.schedulers.values():
        one.kill()
    time.sleep(LONG_S)
    for one in serai.schedulers.values():
        one.start()
    return {"next_leader_s": seconds_until(lambda: serai.epoch() > epoch)}


def server_killed(program: str, port: int) -> Fault:
    def fault(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
        first = serai.machines.leader(port)
        assert first is not None
        first.agents[program].kill()
        found = seconds_until(lambda: serai.machines.leader(port) not in (None, first))
        first.agents[program].start()
        return {"next_leader_of_the_engine_s": found}

    return fault


def servers_away(program: str) -> Fault:
    return away(program, lambda serai: serai.machines.servers)


def everywhere_away(program: str) -> Fault:
    return away(program, lambda serai: list(serai.machines.machines.values()))


def away(program: str, of: Callable[[SeraiCluster], list[Machine]]) -> Fault:
    """Return what kills an engine's processes on some machines, and starts them a minute later."""

    def fault(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
        for machine in of(serai):
            machine.agents[program].kill()
        time.sleep(SHORT_S)
        for machine in of(serai):
            machine.agents[program].start()
        return {"back_s": seconds_until(lambda: serai.leader() != "" and settled(serai))}

    return fault


def agent_killed(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    serai.agents["client1"].kill()
    time.sleep(SHORT_S)
    serai.agents["client1"].start()
    return {"reports_again_s": seconds_until(lambda: serai.is_up("client1"))}


def agent_paused(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    serai.agents["client1"].pause()
    time.sleep(SHORT_S)
    serai.agents["client1"].resume()
    return {"reports_again_s": seconds_until(lambda: serai.is_up("client1"))}


def replica_killed(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    """Say by how much it took longer until it was replaced than a replica takes to start."""
    scale(serai, MORE_REPLICAS)
    # The present leader has seen this one start; of others it knows only since when it leads.
    newest = max(replicas_of(serai), key=lambda one: float(one["created_at_s"]))
    start_s = newest["ready_at_s"] - newest["created_at_s"]
    scale(serai, REPLICAS)
    before = replicas_of(serai)
    serai.kill_replica(API)
    replaced_s = seconds_until(
        lambda: lives(replicas_of(serai)) != lives(before) and settled(serai)
    )
    return {
        "start_s": start_s,
        "replaced_s": replaced_s,
        "replaced_beyond_start_s": replaced_s - start_s,
    }


def replicas_of(serai: SeraiCluster) -> list[dict[str, Any]]:
    told = json.loads(insist(serai, "describe", API, "-o", "json"))
    replicas = [one["replica"] for one in told["replicas"]]
    return [one for one in replicas if one["state"] == "ready"]


def lives(replicas: list[dict[str, Any]]) -> set[tuple[str, int]]:
    """Return what is another with each start: a replica, and how often it was started again."""
    return {(one["id"], one["restarts"]) for one in replicas}


def node_drained(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    inhabit(serai, "client3")
    insist(serai, "node", "drain", "client3")
    emptied = seconds_until(lambda: has_left(serai, "client3"))
    insist(serai, "node", "uncordon", "client3")
    scale(serai, REPLICAS)
    return {"emptied_s": emptied}


def node_cut_off(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    inhabit(serai, "client3")
    node = serai.machines.machines["client3"]
    node.host.cut()
    found = seconds_until(lambda: has_left(serai, "client3"))
    node.host.mend()
    scale(serai, REPLICAS)
    return {"replaced_elsewhere_s": found}


def node_cut_off_once(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    """The same where requests may not be repeated: what was under way on the node is lost."""
    node = serai.machines.machines["client3"]
    node.host.cut()
    found = seconds_until(
        lambda: serai.serves(ONCE, ONCE_REPLICAS) and not serai.replicas_on(ONCE, "client3")
    )
    node.host.mend()
    return {"replaced_elsewhere_s": found, "may_lose": CUT_MAY_LOSE}


def link_slow(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    """Change what runs while all that a node with a gateway sends and gets comes late."""
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.monotonic()
        with serai.machines.machines["client1"].host.slowed(SLOW_LINK_S):
            extra = change(serai, project(Path(folder), "slow link"))
        return {"changed_s": time.monotonic() - began_s, "starts_too_many": len(extra)}


def gateway_killed(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    may_lose = kill_gateway(serai, "client2", traffic)
    time.sleep(2.0)
    return {"may_lose": may_lose}


def gateway_drained(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    serai.drain_gateway("client2")
    serai.agents["client2"].start()
    return {}


def leader_paused(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
    """Say what it wrote after it went on, and how often that was refused."""
    with linked(serai) as links, tempfile.TemporaryDirectory() as folder:
        paused = pause_leader(serai, links, project(Path(folder), "paused"), SHORT_S)
    return {
        "next_leader_s": paused.next_leader_s,
        "changes_of_the_paused": len(paused.changes),
        "refused_to_the_paused": len(paused.refused),
        "starts_too_many": len(paused.superfluous),
    }


def answers_wrong(faults: Faults) -> Fault:
    """Return what deploys, scales up and scales down while the engines' answers go wrong."""

    def fault(serai: SeraiCluster, traffic: Traffic) -> dict[str, Figure]:
        with linked(serai) as links, tempfile.TemporaryDirectory() as folder:
            began_s = time.monotonic()
            with links.failing(faults):
                extra = change(serai, project(Path(folder), str(faults)))
            return {"changed_s": time.monotonic() - began_s, "starts_too_many": len(extra)}

    return fault


@contextmanager
def usual(_: SeraiCluster) -> Iterator[str]:
    """Have the API that is there anyway."""
    yield API


@contextmanager
def once(serai: SeraiCluster) -> Iterator[str]:
    """Have an API whose requests may not be repeated, with a replica on client3."""
    with tempfile.TemporaryDirectory() as folder:
        deploy_once(serai, Path(folder), "client3")
    try:
        yield ONCE
    finally:
        delete_once(serai)


@dataclass(frozen=True)
class Trial:
    """A fault, what its figures have to hold, and the API that is asked meanwhile.

    A fault that tells `may_lose` may lose as many requests; no other may lose any.
    """

    fault: Fault
    limits: dict[str, Limit] = field(default_factory=dict)
    api: Callable[[SeraiCluster], AbstractContextManager[str]] = usual


NEXT_LEADER = {"next_leader_s": at_most(NEXT_LEADER_LIMIT_S)}
REPORTS_AGAIN = {"reports_again_s": at_most(3.0)}
NONE_TWICE = {"starts_too_many": exactly(0)}
TRIALS = {
    "leader-killed": Trial(leader_killed, {**NEXT_LEADER, "demand_known_after_s": at_most(2.0)}),
    "leader-paused": Trial(
        leader_paused, {**NEXT_LEADER, **NONE_TWICE, "changes_of_the_paused": exactly(0)}
    ),
    "schedulers-away": Trial(schedulers_away, NEXT_LEADER),
    "nomad-leader-killed": Trial(server_killed("nomad", NOMAD_PORT)),
    "nomad-servers-away": Trial(servers_away("nomad")),
    "consul-leader-killed": Trial(server_killed("consul", CONSUL_PORT)),
    "consul-servers-away": Trial(servers_away("consul"), {"back_s": at_most(10.0)}),
    "consul-away": Trial(everywhere_away("consul"), {"back_s": at_most(10.0)}),
    "agent-killed": Trial(agent_killed, REPORTS_AGAIN),
    "agent-paused": Trial(agent_paused, REPORTS_AGAIN),
    "replica-killed": Trial(replica_killed, {"replaced_beyond_start_s": at_most(3.0)}),
    "node-drained": Trial(node_drained),
    "node-cut-off": Trial(node_cut_off),
    "node-cut-off-once": Trial(node_cut_off_once, api=once),
    "link-slow": Trial(link_slow, NONE_TWICE),
    "gateway-drained": Trial(gateway_drained),
    "gateway-killed": Trial(gateway_killed),
    "answers-late": Trial(answers_wrong(Faults(late_s=0.5)), NONE_TWICE),
    "answers-doubled": Trial(answers_wrong(Faults(doubled=1.0)), NONE_TWICE),
    "answers-lost": Trial(answers_wrong(Faults(lost=0.2)), NONE_TWICE),
}


def seconds_until(holds: Callable[[], bool]) -> float:
    began_s = time.monotonic()
    until(holds, BACK_LIMIT_S)
    return time.monotonic() - began_s


def measure(serai: SeraiCluster, name: str) -> tuple[bool, Traffic]:
    """Do one fault under load and keep its figures; say whether every limit held."""
    trial = TRIALS[name]
    until(lambda: settled(serai), BACK_LIMIT_S, f"not as wanted before {name}: {serai.logs()}")
    with trial.api(serai) as api, steady(serai.gateways, f"/{api}", RATE) as traffic:
        until(lambda: traffic.answered > RATE, 30.0)
        told = trial.fault(serai, traffic)
        may_lose = told.get("may_lose", 0)
        assert isinstance(may_lose, int)
        back_s = seconds_until(lambda: settled(serai))
        before = traffic.answered
        until(lambda: traffic.answered > before + RATE, 30.0)
    orphans = sweep(serai)
    figures: dict[str, Figure] = {
        "requests_sent": traffic.sent,
        "requests_lost": len(traffic.lost),
        "first_lost": traffic.lost[0] if traffic.lost else "none",
        **told,
        "as_wanted_again_s": back_s,
        "orphans": len(orphans),
        "first_orphan": orphans[0] if orphans else "none",
    }
    always = {"requests_lost": at_most(may_lose), "orphans": exactly(0)}
    held = finish(f"faults-{name}", figures, {**always, **trial.limits})
    return held, traffic


def main() -> None:
    names = sys.argv[1:] or list(TRIALS)
    held: dict[str, bool] = {}
    sent = lost = 0
    with tempfile.TemporaryDirectory() as folder, serai_cluster(Path(folder) / "six") as serai:
        serai.deploy(project(Path(folder)))
        for name in names:
            held[name], traffic = measure(serai, name)
            sent, lost = sent + traffic.sent, lost + len(traffic.lost)
    figures: dict[str, Figure] = {
        "faults": len(held),
        "faults_within_limits": sum(held.values()),
        "outside": ", ".join(name for name, good in held.items() if not good) or "none",
        "requests_sent": sent,
        "requests_lost": lost,
    }
    finish("faults", figures, {"faults_within_limits": exactly(len(held))})


if __name__ == "__main__":
    main()
