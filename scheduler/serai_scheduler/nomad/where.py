"""Which nodes a version may run on, in Nomad's terms and back in those of its spec. Pure.

What a node must have becomes constraints and the pool of the job; what it should rather have
becomes affinities.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import field

from serai.model import Value
from serai.spec.types import NodeMeta, Nodes

CLASS = "${node.class}"
META_BEGIN, META_END = "${meta.", "}"
EQUAL = "="
AFFINITY_WEIGHT = 50
DEFAULT_POOL, ALL_POOLS = "default", "all"


class Asked(Value):
    """What a node must be to be taken at all: "" and {} where nothing is asked."""

    pool: str = ALL_POOLS
    node_class: str = ""
    meta: dict[str, str] = field(default_factory=dict)


ANYWHERE = Asked()


def where(nodes: Nodes | None) -> dict[str, Any]:
    """Return the keys of a job that say where it may run; none for one that runs anywhere."""
    if nodes is None:
        return {}
    preferred = nodes.prefer
    required = [_equal(*one) for one in _pairs(nodes.class_, nodes.meta)]
    rather = [
        {**_equal(*one), "Weight": AFFINITY_WEIGHT}
        for one in _pairs(preferred.class_, preferred.meta)
    ]
    found = {"NodePool": nodes.pool or "", "Constraints": required, "Affinities": rather}
    return {key: value for key, value in found.items() if value}


def _pairs(node_class: str | None, meta: NodeMeta) -> Iterator[tuple[str, str]]:
    if node_class:
        yield CLASS, node_class
    for key in sorted(meta):
        yield f"{META_BEGIN}{key}{META_END}", meta[key]


def _equal(attribute: str, value: str) -> dict[str, str]:
    return {"LTarget": attribute, "Operand": EQUAL, "RTarget": value}


def asked_of(job: Mapping[str, Any]) -> Asked:
    """Return what a job, as Nomad holds it, asks of nodes in the terms of a spec."""
    node_class, meta = "", {}
    for one in job.get("Constraints") or ():
        target, value = one["LTarget"], one["RTarget"]
        if one["Operand"] != EQUAL:
            continue
        if target == CLASS:
            node_class = value
        elif target.startswith(META_BEGIN):
            meta[target.removeprefix(META_BEGIN).removesuffix(META_END)] = value
    return Asked(pool=job.get("NodePool") or DEFAULT_POOL, node_class=node_class, meta=meta)


def as_nomad_words_it(asked: Asked) -> frozenset[str]:
    """Return the constraints as they stand in Nomad's account of a failed placement."""
    return frozenset(
        f"{target} {EQUAL} {value}" for target, value in _pairs(asked.node_class, asked.meta)
    )
