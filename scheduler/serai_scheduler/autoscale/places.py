"""From what nodes have and replicas need to the places of a share, and its answer. Pure.

Each kind of what is set aside (GPUs, memory, processor) is shared by itself, GPUs first, and each
only among those that need it: a count is what all of them allow. Nodes of one class and pool are
alike, those with GPUs apart. What runs somewhere has a place there, whatever is told of the node.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from serai.engine import Capacity, EngineNode
from serai.spec.types import Compute, Nodes
from serai_scheduler.autoscale.share import Claim, Grant, share

MIB = 2**20
KINDS = ("gpus", "memory_mib", "cpu_millicores")
MOST_PLACES = 2**53
"""Those of a pool of which nothing is set aside."""
ALL_POOLS, DEFAULT_POOL = "all", "default"
CLOSED = "closed to others: "

Kind = str
Amounts = Mapping[Kind, int]


@dataclass(frozen=True, slots=True)
class Contender:
    """A claim with what places are made from; its `pools`, `running` and `size` are found here.

    `running` counts its placed replicas by node, those on their way out left out.
    """

    claim: Claim
    compute: Compute
    nodes: Nodes | None
    running: Mapping[str, int] = field(default_factory=dict)


def shared(
    contenders: Sequence[Contender], nodes: Sequence[EngineNode], emptied: frozenset[str]
) -> dict[str, Grant] | None:
    """Return what each gets, None where it is not known what the nodes have.

    Nodes of `emptied` are to be empty: what runs there is to have places elsewhere. Absent is whose
    replica fits on no node that is known, or asks for nodes by what is not known of them.
    """
    open_nodes = [node for node in nodes if node.takes and node.name not in emptied]
    if any(node.capacity is None for node in open_nodes):
        return None
    cluster = _Cluster(contenders, open_nodes, emptied)
    claims = {
        one.claim.name: replace(one.claim, pools=pools, running=cluster.running(one))
        for one in contenders
        if (pools := cluster.pools(one))
    }
    grants: dict[str, Grant] = {}
    for kind in KINDS:
        grants |= _of_kind(kind, cluster, claims, grants)
    return {name: grants.get(name) or _untouched(claim) for name, claim in claims.items()}


def _of_kind(
    kind: Kind, cluster: "_Cluster", claims: Mapping[str, Claim], before: Mapping[str, Grant]
) -> dict[str, Grant]:
    """Share one kind among those that need it, no more to anybody than `before` allows.

    Nothing where all fits: then this kind bounds nobody.
    """
    sizes = {name: size for name in claims if (size := cluster.size(name, kind))}
    needing = {name: claims[name] for name in sizes}
    places = cluster.places(kind, needing, sizes)
    if _fits(needing, sizes, places):
        return {}
    made = [_within(one, sizes[name], before.get(name)) for name, one in needing.items()]
    found = share(made, places)
    return {name: _with_reason(grant, before.get(name)) for name, grant in found.items()}


def _within(claim: Claim, size: int, before: Grant | None) -> Claim:
    if before is None:
        return replace(claim, size=size)
    wanted, most = before.count, min(claim.most, before.total)
    return replace(claim, size=size, wanted=wanted, least=min(claim.least, wanted), most=most)


def _with_reason(now: Grant, before: Grant | None) -> Grant:
    if before is None or now.reason or not before.reason:
        return now
    return replace(now, reason=before.reason)


def _fits(claims: Mapping[str, Claim], sizes: Mapping[str, int], places: Mapping[str, int]) -> bool:
    """Say whether all fits whoever goes where, which is seen at once."""
    room = dict(places)
    for name, claim in claims.items():
        taken = sizes[name] * max(claim.target, sum(claim.running.values()))
        for pool in claim.pools:
            room[pool] -= taken
    return all(left >= 0 for left in room.values())


def _untouched(claim: Claim) -> Grant:
    """Return what one gets for which there is room: all that it wants, and its warm ones."""
    ended = claim.release == "timer" and claim.timer_ended
    idle = min(claim.most, sum(claim.running.values())) - claim.target
    return Grant(claim.target, {}, {"": idle} if idle > 0 and not ended else {}, 0)


class _Cluster:
    """The open nodes by pool, and who may run where."""

    def __init__(
        self, contenders: Sequence[Contender], nodes: Sequence[EngineNode], emptied: frozenset[str]
    ) -> None:
        self._emptied = emptied
        self._pool_of = {node.name: _pool_of(node) for node in nodes}
        self._capacities: dict[str, list[tuple[str, Capacity]]] = {}
        self._nodes: dict[str, EngineNode] = {}
        for node in nodes:
            assert node.capacity is not None
            pool = self._pool_of[node.name]
            self._capacities.setdefault(pool, []).append((node.name, node.capacity))
            self._nodes[pool] = node
        first = nodes[0].capacity if nodes else None
        self._unset_mib = first.unset_memory_mib if first is not None else 0
        self._largest = {
            pool: {kind: max(_amounts(mine, kind)) for kind in KINDS}
            for pool, mine in self._capacities.items()
        }
        self._counted = {
            kind
            for most in self._largest.values()
            for kind, amount in most.items()
            if math.isfinite(amount)
        }
        self._running = {one.claim.name: self._by_pool(one) for one in contenders}
        self._sizes = {one.claim.name: self._needs(one.compute) for one in contenders}
        self._fitting: dict[tuple[object, ...], tuple[str, ...]] = {}
        """By what is asked for and needed, the pools with nodes for it."""
        self._pools = {one.claim.name: self._pools_of(one) for one in contenders}
        self._outsiders = [one for one in contenders if not self.pools(one)]

    def running(self, one: Contender) -> Mapping[str, int]:
        """Return its replicas by pool; those on closed nodes have a pool of their own."""
        return self._running[one.claim.name]

    def size(self, name: str, kind: Kind) -> int:
        """Return what a replica of one takes of a kind, 0 where nobody counts that."""
        return self._sizes[name][kind] if kind in self._counted else 0

    def pools(self, one: Contender) -> tuple[str, ...]:
        """Return where it may run; none where nothing is known of places for it."""
        return self._pools[one.claim.name]

    def places(
        self, kind: Kind, claims: Mapping[str, Claim], sizes: Mapping[str, int]
    ) -> dict[str, int]:
        """Return the places of each pool, in multiples of what all sizes there have in common.

        So that of equal replicas only whole ones are counted on each node.
        """
        unit: dict[str, int] = {}
        runs: dict[str, int] = {}
        for name, claim in claims.items():
            size = sizes[name]
            for pool in claim.pools:
                unit[pool] = math.gcd(unit.get(pool, 0), size)
            for pool, count in claim.running.items():
                runs[pool] = runs.get(pool, 0) + count * size
        taken = self._taken(kind)
        places = {}
        for pool, size in unit.items():
            mine = self._capacities.get(pool, ())
            left = [
                amount - taken.get(name, 0)
                for (name, _), amount in zip(mine, _amounts(mine, kind), strict=True)
            ]
            room = MOST_PLACES
            if math.inf not in left:
                room = sum(max(0, int(amount)) // size * size for amount in left)
            places[pool] = max(runs.get(pool, 0), room)
        return places

    def _taken(self, kind: Kind) -> dict[str, int]:
        """Return by node what those take that are not in the share."""
        taken: dict[str, int] = {}
        for one in self._outsiders:
            size = self._sizes[one.claim.name][kind]
            for node, count in one.running.items():
                taken[node] = taken.get(node, 0) + count * size
        return taken

    def _by_pool(self, one: Contender) -> dict[str, int]:
        found: dict[str, int] = {}
        for node, count in one.running.items():
            pool = self._pool_of.get(node)
            if pool is None and node in self._emptied:
                continue
            pool = pool or CLOSED + one.claim.name
            found[pool] = found.get(pool, 0) + count
        return found

    def _needs(self, compute: Compute) -> Amounts:
        memory_mib = -(-compute.mem.bytes // MIB) if compute.mem else self._unset_mib
        return {
            "gpus": compute.gpu,
            "memory_mib": memory_mib,
            "cpu_millicores": compute.cpu.millicores,
        }

    def _pools_of(self, one: Contender) -> tuple[str, ...]:
        asked, needs = one.nodes, self._sizes[one.claim.name]
        if asked is not None and asked.meta:  # nobody tells which nodes have it
            return ()
        key = (asked and asked.class_, asked and asked.pool, *needs.values())
        found = self._fitting.get(key)
        if found is None:
            found = self._fitting[key] = tuple(
                pool
                for pool, node in self._nodes.items()
                if _is_such(node, asked)
                and all(needs[kind] <= most for kind, most in self._largest[pool].items())
            )
        closed = CLOSED + one.claim.name
        return (*found, closed) if found and closed in self._running[one.claim.name] else found


def _pool_of(node: EngineNode) -> str:
    """Return what is the same for nodes that are alike: memory beside GPUs is of another kind."""
    has_gpus = node.capacity is not None and bool(node.capacity.gpus)
    return f"{node.pool}/{node.node_class}/{'gpus' if has_gpus else ''}"


def _is_such(node: EngineNode, asked: Nodes | None) -> bool:
    """Say whether a node is of the class and pool that are asked for; one machine is, as it is."""
    if not node.pool:
        return True
    pool = (asked.pool if asked is not None else None) or DEFAULT_POOL
    if pool not in (ALL_POOLS, node.pool):
        return False
    return asked is None or asked.class_ in (None, node.node_class)


def _amounts(nodes: Sequence[tuple[str, Capacity]], kind: Kind) -> list[float]:
    """Return what each of them has of a kind."""
    found = [getattr(capacity, kind) for _, capacity in nodes]
    return [math.inf if amount is None else amount for amount in found]
