"""Replicas that may run on some nodes only, on a real Nomad whose node has class, pool and meta."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serai.errors import Refused
from serai.model import Version
from serai.spec.types import Nodes, PreferredNodes
from serai_scheduler.nomad.engine import NomadEngine
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.integration.local.world import ready, replica_of
from tests.support.nomad_engine import nomad_engine_on, version
from tests.support.wait import auntil

pytestmark = pytest.mark.engines
NODE = """
  node_class = "gpu-large"
  node_pool = "models"
  meta {
    rack = "r1"
    "disk.kind" = "nvme"
  }
"""
WHAT_TO_DO = "change `nodes` in the spec, or a node's configuration"


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path_factory.mktemp("nomad"), client=NODE) as agent:
        yield agent


async def waits(engine: NomadEngine, wanted: Version) -> str:
    """Start a replica that finds no place; return why."""
    name = f"{wanted.api}.{wanted.name}.1"
    await engine.start([name], wanted, epoch=1)

    async def told() -> bool:
        return (await replica_of(engine, name)).reason.startswith("no node ")

    await auntil(told, 20.0, "nothing was said")
    return (await replica_of(engine, name)).reason


async def test_a_node_that_is_all_that_is_asked_takes_it(nomad: NomadAgent, tmp_path: Path) -> None:
    wanted = version(
        nodes=Nodes(
            class_="gpu-large",
            pool="models",
            meta={"rack": "r1", "disk.kind": "nvme"},
            prefer=PreferredNodes(class_="other", meta={"rack": "r2"}),
        )
    )
    name = f"{wanted.api}.{wanted.name}.1"
    async with nomad_engine_on(nomad, tmp_path) as engine:
        await engine.start([name], wanted, epoch=1)
        assert (await ready(engine, name)).servers


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            None,
            f"no node has pool default (1 node was looked at: 1 with pool models): {WHAT_TO_DO}",
        ),
        (
            Nodes(pool="models", class_="tiny"),
            "no node has class tiny (1 node was looked at: 1 with class gpu-large): " + WHAT_TO_DO,
        ),
        (
            Nodes(pool="all", meta={"rack": "r1", "disk.kind": "disk"}),
            f"no node has meta disk.kind=disk (1 node was looked at): {WHAT_TO_DO}",
        ),
    ],
)
async def test_what_is_missing_is_told_in_the_words_of_the_spec(
    nodes: Nodes | None, reason: str, nomad: NomadAgent, tmp_path: Path
) -> None:
    async with nomad_engine_on(nomad, tmp_path) as engine:
        assert await waits(engine, version(nodes=nodes)) == reason


async def test_where_all_such_nodes_are_closed_it_says_so(
    nomad: NomadAgent, tmp_path: Path
) -> None:
    async with nomad_engine_on(nomad, tmp_path) as engine:
        (node,) = await engine.nodes()
        await engine.take(node.name, False, epoch=1)
        try:
            nodes = Nodes(pool="models", meta={"rack": "r1"})
            told = await waits(engine, version(nodes=nodes))
            assert told == (
                "no node with pool models and meta rack=r1 takes replicas: 1 known, all of them "
                "down, cordoned or draining"
            )
        finally:
            await engine.take(node.name, True, epoch=1)


async def test_a_pool_that_is_not_there_is_refused_in_plain_words(
    nomad: NomadAgent, tmp_path: Path
) -> None:
    wanted = version(nodes=Nodes(pool="nowhere"))
    async with nomad_engine_on(nomad, tmp_path) as engine:
        with pytest.raises(Refused, match="Nomad has no node pool 'nowhere': `nomad node pool "):
            await engine.start([f"{wanted.api}.{wanted.name}.1"], wanted, epoch=1)


@pytest.mark.parametrize(
    ("prefer", "counts"),
    [
        (PreferredNodes(class_="gpu-large", meta={"rack": "r1"}), True),
        (PreferredNodes(class_="gpu-large", meta={"rack": "r2"}), True),
        (PreferredNodes(class_="other", meta={"rack": "r2"}), False),
    ],
)
async def test_what_is_preferred_counts_when_nomad_ranks_its_nodes(
    prefer: PreferredNodes, counts: bool, nomad: NomadAgent, tmp_path: Path
) -> None:
    """A node that has some of it is ranked above one that has none; one that has none is taken."""
    wanted = version(nodes=Nodes(pool="models", prefer=prefer))
    name = f"{wanted.api}.{wanted.name}.1"
    async with nomad_engine_on(nomad, tmp_path) as engine:
        await engine.start([name], wanted, epoch=1)
        await ready(engine, name)
        (one,) = [a for a in nomad.call("GET", "/allocations") if wanted.name in a["JobID"]]
        (node,) = nomad.call("GET", f"/allocation/{one['ID']}")["Metrics"]["ScoreMetaData"]
        assert (node["Scores"].get("node-affinity", 0.0) > 0.0) is counts, node
