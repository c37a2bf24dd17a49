"""What replicas take is divided exactly, nobody is left out, and little moves."""

from hypothesis import given
from hypothesis import strategies as st

from serai.model import Server
from serai_agent.edge.sharing import part_of, shares_of, to_share_with
from tests.unit.edge.values import server

GATEWAYS = st.sets(st.sampled_from([f"gate-{n}" for n in range(8)]), min_size=1)


@st.composite
def lists_of_servers(draw: st.DrawFn) -> list[Server]:
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=12))
    apis = draw(st.lists(st.sampled_from("ab"), min_size=len(sizes), max_size=len(sizes)))
    return [
        server(api=api, number=n, capacity=size)
        for n, (api, size) in enumerate(zip(apis, sizes, strict=True))
    ]


def in_all(servers: list[Server], api: str) -> int:
    return sum(one.capacity for one in servers if one.api == api)


@given(lists_of_servers(), GATEWAYS)
def test_shares_add_up_and_nobody_is_without(servers: list[Server], gateways: set[str]) -> None:
    shares = shares_of(servers, gateways)
    for one in servers:
        assert shares[one.id], "every replica has a gateway"
        assert all(share > 0 for share in shares[one.id].values())
        if in_all(servers, one.api) >= len(gateways):
            assert sum(shares[one.id].values()) == one.capacity
    for api in {one.api for one in servers}:
        mine = [shares[one.id] for one in servers if one.api == api]
        for gateway in gateways:
            assert any(gateway in share for share in mine), "each gateway can serve each API"
        handed_out = sum(sum(share.values()) for share in mine)
        assert handed_out == max(in_all(servers, api), len(gateways))


@given(lists_of_servers(), GATEWAYS)
def test_the_parts_of_all_gateways_are_the_shares(
    servers: list[Server], gateways: set[str]
) -> None:
    shares = shares_of(servers, gateways)
    for gateway in gateways:
        part = part_of(gateway, servers, gateways)
        assert {one.id: one.capacity for one in part.mine} == {
            name: share[gateway] for name, share in shares.items() if gateway in share
        }
        assert part.elsewhere == {name for name, share in shares.items() if gateway not in share}


def test_with_slots_enough_shares_differ_by_one_at_most() -> None:
    share = shares_of([server(capacity=8)], ["a", "b", "c"])[server().id]
    assert sorted(share.values()) == [2, 3, 3]
    assert part_of("a", [server(capacity=8)], ["a"]).mine == (server(capacity=8),)


def test_few_replicas_move_when_a_gateway_comes() -> None:
    servers = [server(number=n, capacity=2) for n in range(600)]
    few = [f"gate-{n}" for n in range(5)]
    before, after = shares_of(servers, few), shares_of(servers, [*few, "gate-5"])
    moved = [one.id for one in servers if before[one.id] != after[one.id]]
    assert set(moved) == {one.id for one in servers if "gate-5" in after[one.id]}
    assert 150 < len(moved) < 250, "2 of 6 gateways have each"


def test_a_draining_replica_is_nobodys_only_one() -> None:
    servers = [server(number=n, capacity=1) for n in range(2)]
    for gateway in ("a", "b", "c"):
        part = part_of(gateway, servers, ["a", "b", "c"], draining={servers[0].replica})
        assert servers[1] in part.mine


def test_a_list_without_oneself_tells_nothing_about_others() -> None:
    assert to_share_with("a", ["a", "b"], ["a"]) == {"a", "b"}
    assert to_share_with("a", [], ["a", "b"]) == {"a", "b"}
    assert to_share_with("a", ["b"], []) == {"a", "b"}
