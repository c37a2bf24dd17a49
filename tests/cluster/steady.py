"""The API that faults are tried on, and what operators do with it meanwhile."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serai_scheduler.nomad.names import JobName, job_id
from tests.cluster.links import Links
from tests.cluster.observe import allocations, sweep
from tests.cluster.serai_cluster import TTL_S, SeraiCluster
from tests.cluster.starts import superfluous
from tests.support.gateway_traffic import Traffic
from tests.support.serai import write_predictor
from tests.support.wait import let_pass, until

API, REPLICAS, MORE_REPLICAS = "steady", 3, 4
PER_REPLICA = 8
RATE = 200
"""Requests a second, through all gateways together."""
NEXT_LEADER_LIMIT_S = 2 * TTL_S + 3
CHANGE_LIMIT_S = 180.0
SPEC = f"""\
  threads: {PER_REPLICA}
concurrency: {{per_replica: {PER_REPLICA}, queue: 1000}}
autoscaling: {{min_replicas: 3}}
timeouts: {{first_byte: 5s, idle: 5s}}
retry: idempotent
"""
"""What a node had when it vanished is sent elsewhere after `first_byte`."""
ONCE, ONCE_REPLICAS = "once", 3
ONCE_SPEC = f"""\
concurrency: {{per_replica: {PER_REPLICA}, queue: 1000}}
autoscaling: {{policy: fixed, min_replicas: 1, max_replicas: {ONCE_REPLICAS}}}
timeouts: {{first_byte: 5s, idle: 5s}}
"""
CHECK_LIMIT_S = 3.0
"""Until a gateway's own check takes a replica out whose node says nothing any more."""
CUT_MAY_LOSE = PER_REPLICA + int(CHECK_LIMIT_S * RATE / ONCE_REPLICAS)
BEGUN_MEANWHILE = 1
SLOW_LINK_S = 0.25
"""How late all is that a node with a slow link sends and gets."""
PREDICTOR = """\
import time


class Predictor:
    def predict(self, payload):
        time.sleep(payload.get("takes_s", 0))
        return "fine"
"""


def project(folder: Path, remark: str = "") -> Path:
    """Write the API's project; another remark makes another version."""
    return write_predictor(folder / API, code(remark), SPEC, name=API)


def code(remark: str = "") -> str:
    """Return the predictor with a remark; without one it is that of the first version.

    An API that is deleted again has that one, for else its bundle would be left in caches.
    """
    return f"{PREDICTOR}# {remark}\n"


def settled(serai: SeraiCluster) -> bool:
    """Say whether the replicas serve that are wanted, and nothing else lives."""
    return serai.serves(API, REPLICAS)


def led_by_another(serai: SeraiCluster, before: str) -> Callable[[], bool]:
    """Return what says whether another scheduler leads."""
    return lambda: serai.leader() not in ("", before)


def kill_gateway(serai: SeraiCluster, name: str, traffic: Traffic) -> int:
    """Kill a gateway; return how many requests it had then, all of which may be lost."""
    gateway = serai.gateway_of(name)
    had = traffic.in_flight[gateway]
    serai.kill_gateway(name)
    return had + BEGUN_MEANWHILE


def deploy_once(serai: SeraiCluster, folder: Path, node: str) -> None:
    """Deploy an API whose requests may not be repeated, with one of its replicas on a node."""
    others = [name for name in serai.agents if name != node]
    _cordon(serai, others)
    serai.deploy(write_predictor(folder / ONCE, code(), ONCE_SPEC, name=ONCE))
    _open(serai, others)
    _cordon(serai, [node])
    insist(serai, "scale", ONCE, "--replicas", str(ONCE_REPLICAS))
    until(lambda: serai.serves(ONCE, ONCE_REPLICAS), CHANGE_LIMIT_S)
    _open(serai, [node])
    assert len(serai.replicas_on(ONCE, node)) == 1


def delete_once(serai: SeraiCluster) -> None:
    """Delete it; return once nothing is left of it."""
    insist(serai, "delete", ONCE, "-y")
    until(lambda: serai.ask(serai.leader(), f"/v1/apis/{ONCE}").status == 404, 60.0)
    until(lambda: settled(serai) and not sweep(serai), 60.0, lambda: "\n".join(sweep(serai)))


def change(serai: SeraiCluster, project: Path, through: str = "server1") -> list[str]:
    """Deploy another version, scale it up and down; return a line for each start too many.

    What is refused for the moment is asked for again, as operators do.
    """
    before = {one.id for one in allocations(serai)}
    insist(serai, "deploy", str(project), "--wait", "-y", through=through)
    scale(serai, MORE_REPLICAS, through)
    scale(serai, REPLICAS, through)
    told = insist(serai, "describe", API, "-o", "json", through=through)
    version = json.loads(told)["status"]["version"]
    job = job_id(serai.jobs.prefix, JobName(API, version))
    return superfluous(allocations(serai), before, {job: MORE_REPLICAS})


def scale(serai: SeraiCluster, replicas: int, through: str = "server1") -> None:
    """Scale and wait until as many serve."""
    insist(serai, "scale", API, "--replicas", str(replicas), through=through)
    until(lambda: serai.serves(API, replicas, through), CHANGE_LIMIT_S)


def inhabit(serai: SeraiCluster, node: str) -> None:
    """Have one replica more than usual, on this node: whatever befalls it befalls a replica."""
    others = [name for name in serai.agents if name != node]
    _cordon(serai, others)
    scale(serai, MORE_REPLICAS)
    _open(serai, others)
    assert serai.replicas_on(API, node)


def _cordon(serai: SeraiCluster, nodes: Sequence[str]) -> None:
    for name in nodes:
        insist(serai, "node", "cordon", name)
    until(lambda: not any(takes(serai, name) for name in nodes), CHANGE_LIMIT_S)


def _open(serai: SeraiCluster, nodes: Sequence[str]) -> None:
    for name in nodes:
        insist(serai, "node", "uncordon", name)
    until(lambda: all(takes(serai, name) for name in nodes), CHANGE_LIMIT_S)


def takes(serai: SeraiCluster, node: str) -> bool:
    """Say whether a node takes new replicas."""
    return any(one["node"] == node and one["takes"] for one in serai.json("nodes")["nodes"])


def has_left(serai: SeraiCluster, node: str) -> bool:
    """Say whether as many replicas as `inhabit` leaves serve without a node."""
    return serai.serves(API, MORE_REPLICAS) and not serai.replicas_on(API, node)


def insist(serai: SeraiCluster, *arguments: str, through: str = "server1") -> str:
    """Run a command until it succeeds; return what it printed."""
    said: list[str] = []

    def done() -> str | None:
        one = serai.run(*arguments, through=through)
        said.append(f"{one.stdout}{one.stderr}")
        return one.stdout if one.returncode == 0 else None

    told = until(done, CHANGE_LIMIT_S, lambda: f"{arguments} never succeeded: {said[-3:]}")
    assert told is not None
    return told


@dataclass(frozen=True)
class Paused:
    """What came of a leader that stood still.

    `changes` are its writes that were carried out after it went on, `refused` those that were not;
    `superfluous` are the starts too many, by whomever.
    """

    next_leader_s: float
    changes: list[str]
    refused: list[str]
    superfluous: list[str]


def pause_leader(serai: SeraiCluster, links: Links, project: Path, pause_s: float) -> Paused:
    """Let the leader stand still while another one leads and changes what there is."""
    first, began_s = serai.leader(), links.now_s()
    serai.schedulers[first].pause()
    until(led_by_another(serai, first), NEXT_LEADER_LIMIT_S)
    next_leader_s = links.now_s() - began_s
    extra = change(serai, project, through=serai.leader())
    let_pass(began_s + pause_s - links.now_s())
    resumed_s = links.now_s()
    serai.schedulers[first].resume()
    until(lambda: links.of(first, resumed_s))  # it wants to lead again
    scale(serai, MORE_REPLICAS, through=first)
    scale(serai, REPLICAS, through=first)
    writes = links.of(first, resumed_s)
    assert serai.leader() != first, "the one that was paused leads again: nothing is shown"
    assert any(one.changed for one in links.of(serai.leader(), resumed_s)), "nothing was recorded"
    return Paused(
        next_leader_s=next_leader_s,
        changes=[str(one) for one in writes if one.changed],
        refused=[str(one) for one in writes if one.refused],
        superfluous=extra,
    )
