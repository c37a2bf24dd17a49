"""Which nodes are such as a spec asks for, and why none is, in the spec's words. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from serai_scheduler.nomad.where import ALL_POOLS, DEFAULT_POOL, Asked

KINDS_SHOWN = 5
WHAT_TO_DO = "change `nodes` in the spec, or a node's configuration"


class Placed(Protocol):
    """What is told of a node to decide whether it is such a one."""

    @property
    def pool(self) -> str: ...
    @property
    def node_class(self) -> str: ...
    @property
    def meta(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class _Condition:
    """One thing that is asked: in words, whether a node meets it, and what a node has instead."""

    words: str
    met: Callable[[Placed], bool]
    instead: Callable[[Placed], str]


def fits(node: Placed, asked: Asked) -> bool:
    """Say whether a node is all that is asked for."""
    return all(condition.met(node) for condition in _conditions(asked))


def in_words(asked: Asked) -> str:
    """Return what is asked of nodes, such as `with pool gpu and class large`; "" for the usual."""
    if asked.pool == DEFAULT_POOL:
        asked = msgspec.structs.replace(asked, pool=ALL_POOLS)
    words = " and ".join(condition.words for condition in _conditions(asked))
    return f"with {words}" if words else ""


def why_none_fits(nodes: Sequence[Placed], asked: Asked) -> str:
    """Say what is missing, where no node is all that is asked for."""
    counted = [
        (condition, sum(condition.met(node) for node in nodes)) for condition in _conditions(asked)
    ]
    looked_at = f"{len(nodes)} node{' was' if len(nodes) == 1 else 's were'} looked at"
    for condition, count in counted:
        if count == 0:
            found = _found(nodes, condition)
            return f"no node has {condition.words} ({looked_at}{found}): {WHAT_TO_DO}"
    each = ", ".join(f"{condition.words} on {count}" for condition, count in counted)
    together = " and ".join(condition.words for condition, _ in counted)
    return f"no node has {together} together ({looked_at}: {each}): {WHAT_TO_DO}"


def _found(nodes: Sequence[Placed], condition: _Condition) -> str:
    """Return what there is instead, the most frequent first; "" where it is not known."""
    kinds = Counter(told for node in nodes if (told := condition.instead(node)))
    shown = [f"{count} with {told}" for told, count in kinds.most_common(KINDS_SHOWN)]
    more = sum(kinds.values()) - sum(count for _, count in kinds.most_common(KINDS_SHOWN))
    if more:
        shown.append(f"{more} with others")
    return f": {', '.join(shown)}" if shown else ""


def _conditions(asked: Asked) -> Iterator[_Condition]:
    if asked.pool != ALL_POOLS:
        yield _Condition(
            f"pool {asked.pool}",
            lambda node: node.pool == asked.pool,
            lambda node: f"pool {node.pool}",
        )
    if asked.node_class:
        yield _Condition(
            f"class {asked.node_class}",
            lambda node: node.node_class == asked.node_class,
            lambda node: f"class {node.node_class}" if node.node_class else "no class",
        )
    for key, value in sorted(asked.meta.items()):
        yield _meta(key, value)


def _meta(key: str, value: str) -> _Condition:
    return _Condition(
        f"meta {key}={value}", lambda node: node.meta.get(key) == value, lambda node: ""
    )
