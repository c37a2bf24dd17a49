"""A registry that forgets is not believed at once; one that is right is."""

from serai_agent.edge.believe import DISBELIEF_S, Belief, believe, routes_to_follow, unrouted
from tests.unit.edge.values import route, server

FOUR = [server(number=n) for n in range(4)]
ALL_UP = frozenset(one.id for one in FOUR)
NONE = frozenset[str]()


def names(belief: Belief) -> list[str]:
    return [one.id for one in belief.servers]


def test_an_empty_registry_is_believed_only_after_a_while() -> None:
    before = believe(Belief(), FOUR, ALL_UP, NONE, 100.0)
    at_once = believe(before, [], ALL_UP, NONE, 101.0)
    assert len(at_once.servers) == 4
    still = believe(at_once, [], ALL_UP, NONE, 101.0 + DISBELIEF_S - 0.1)
    assert len(still.servers) == 4
    assert not believe(still, [], ALL_UP, NONE, 101.0 + DISBELIEF_S).servers


def test_a_server_whose_own_check_fails_goes_at_once() -> None:
    before = believe(Belief(), FOUR, ALL_UP, NONE, 0.0)
    assert names(believe(before, [], frozenset({FOUR[2].id}), NONE, 1.0)) == [FOUR[2].id]


def test_half_of_the_servers_may_go_at_once() -> None:
    before = believe(Belief(), FOUR, ALL_UP, NONE, 0.0)
    assert names(believe(before, FOUR[:2], ALL_UP, NONE, 1.0)) == [s.id for s in FOUR[:2]]
    assert len(believe(before, FOUR[:1], ALL_UP, NONE, 1.0).servers) == 4


def test_replicas_that_are_meant_to_go_are_not_kept() -> None:
    before = believe(Belief(), FOUR, ALL_UP, NONE, 0.0)
    draining = frozenset(one.replica for one in FOUR[1:])
    assert names(believe(before, FOUR[:1], ALL_UP, draining, 1.0)) == [FOUR[0].id]
    assert not believe(before, [], ALL_UP, unrouted(before, NONE), 1.0).servers
    assert not unrouted(before, frozenset({"iris"}))


def test_a_registry_that_recovers_starts_the_time_anew() -> None:
    before = believe(Belief(), FOUR, ALL_UP, NONE, 0.0)
    gone = believe(before, [], ALL_UP, NONE, 1.0)
    back = believe(gone, FOUR, ALL_UP, NONE, 20.0)
    assert not back.missing_since_s
    assert len(believe(back, [], ALL_UP, NONE, 40.0).servers) == 4


def test_one_api_that_vanishes_says_nothing_about_another() -> None:
    other = server("text")
    before = believe(Belief(), [*FOUR, other], ALL_UP | {other.id}, NONE, 0.0)
    after = believe(before, FOUR[:3], ALL_UP | {other.id}, NONE, 1.0)
    assert sorted(names(after)) == sorted([*(s.id for s in FOUR[:3]), other.id])


def test_a_replica_that_comes_at_a_new_address_replaces_the_old() -> None:
    moved = server(number=0, port=9999)
    before = believe(Belief(), FOUR[:1], ALL_UP, NONE, 0.0)
    assert believe(before, [moved], ALL_UP, NONE, 1.0).servers == (moved,)


def test_servers_that_other_gateways_have_are_not_kept() -> None:
    before = believe(Belief(), FOUR, ALL_UP, NONE, 0.0)
    elsewhere = frozenset(one.id for one in FOUR[1:])
    assert names(believe(before, FOUR[:1], ALL_UP, elsewhere, 1.0)) == [FOUR[0].id]


def test_routes_go_only_by_the_word_of_a_leader_who_knows_them() -> None:
    held = (route(epoch=5), route("text", epoch=7))
    kept, both = (route(epoch=5),), (route(epoch=8), route("text", epoch=7))
    assert routes_to_follow(held, both, None) == both, "nothing has gone"
    assert routes_to_follow(held, kept, 7) == kept
    assert routes_to_follow(held, (), 9) == ()
    for unknown in (None, 0, 6):
        assert routes_to_follow(held, (), unknown) is None
        assert routes_to_follow(held, kept, unknown) is None
    assert routes_to_follow((), (), None) == ()


def test_a_route_of_an_epoch_before_is_not_taken() -> None:
    held = (route(epoch=5), route("text", epoch=7))
    old = (route(epoch=4), route("text", epoch=7))
    assert routes_to_follow(held, old, 4) is None
    assert routes_to_follow(held, old, 8) == held
