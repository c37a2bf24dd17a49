"""A finite cluster: what holds of every share, and a few that one can follow by hand."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from serai_scheduler.autoscale.share import Claim, Grant, share

POOLS = ("a", "b", "c")


@st.composite
def _claim(draw: st.DrawFn, name: str) -> Claim:
    least = draw(st.integers(0, 3))
    return Claim(
        name=name,
        wanted=draw(st.integers(0, 8)),
        least=least,
        most=least + draw(st.integers(0, 6)),
        pools=tuple(draw(st.lists(st.sampled_from(POOLS), min_size=1, max_size=3, unique=True))),
        running=draw(st.dictionaries(st.sampled_from(POOLS), st.integers(0, 5))),
        priority=draw(st.sampled_from((0.5, 1.0, 2.0))),
        late_per_s=draw(st.sampled_from((0.0, 1.0, 10.0, 55.5))),
        load=draw(st.sampled_from((0.0, 1.0, 4.0, 20.0))),
        slots=draw(st.sampled_from((1.0, 4.0))),
        busy=draw(st.booleans()),
        release=draw(st.sampled_from(("contention", "timer"))),
        timer_ended=draw(st.booleans()),
    )


@st.composite
def _clusters(draw: st.DrawFn) -> tuple[list[Claim], dict[str, int]]:
    claims = [draw(_claim(f"api-{number}")) for number in range(draw(st.integers(1, 6)))]
    return claims, {pool: draw(st.integers(0, 9)) for pool in POOLS}


def _used(grants: dict[str, Grant], idle: bool = True) -> Counter[str]:
    used: Counter[str] = Counter()
    for grant in grants.values():
        used.update(grant.pools)
        if idle:
            used.update(grant.idle)
    return used


@given(_clusters())
def test_no_share_exceeds_the_places_or_what_an_api_wants(
    cluster: tuple[list[Claim], dict[str, int]],
) -> None:
    claims, places = cluster
    grants = share(claims, places)
    assert all(count <= places[pool] for pool, count in _used(grants).items())
    for claim in claims:
        grant = grants[claim.name]
        assert grant.count <= claim.target
        assert grant.total <= claim.most
        assert set(grant.pools) | set(grant.idle) <= set(claim.pools)
        assert bool(grant.reason) == (grant.count < claim.target)


@given(_clusters())
def test_no_place_is_free_or_idle_while_somebody_allowed_wants_it(
    cluster: tuple[list[Claim], dict[str, int]],
) -> None:
    claims, places = cluster
    grants = share(claims, places)
    used = _used(grants, idle=False)
    for claim in claims:
        if grants[claim.name].count < claim.target:
            assert all(used[pool] == places[pool] for pool in claim.pools)


@given(_clusters())
def test_least_bounds_are_kept_whenever_they_fit_in_any_way(
    cluster: tuple[list[Claim], dict[str, int]],
) -> None:
    claims, places = cluster
    fits = all(  # Hall: whatever pools one looks at, those bound to them have room there
        sum(claim.least for claim in claims if set(claim.pools) <= pools)
        <= sum(places[pool] for pool in pools)
        for pools in ({"a"}, {"b"}, {"c"}, {"a", "b"}, {"a", "c"}, {"b", "c"}, {"a", "b", "c"})
    )
    grants = share(claims, places)
    if fits:
        assert all(grants[claim.name].count >= claim.least for claim in claims)


@given(_clusters())
def test_a_share_of_its_own_answer_changes_no_count(
    cluster: tuple[list[Claim], dict[str, int]],
) -> None:
    claims, places = cluster
    first = share(claims, places)
    assert share(list(reversed(claims)), places) == first
    after = [
        replace(
            claim,
            running=dict(Counter(first[claim.name].pools) + Counter(first[claim.name].idle)),
        )
        for claim in claims
    ]
    second = share(after, places)
    assert {name: (grant.count, grant.total) for name, grant in second.items()} == {
        name: (grant.count, grant.total) for name, grant in first.items()
    }


@given(_clusters(), st.integers(0, 5), st.sampled_from((1.0, 3.0, 9.0)))
def test_more_priority_never_gets_less(
    cluster: tuple[list[Claim], dict[str, int]], at: int, factor: float
) -> None:
    claims, places = cluster
    at %= len(claims)
    raised = [*claims]
    raised[at] = replace(claims[at], priority=claims[at].priority * factor)
    name = claims[at].name
    assert share(raised, places)[name].count >= share(claims, places)[name].count


@given(_clusters())
def test_who_is_asked_for_is_not_without_any_while_others_have_more_than_their_first(
    cluster: tuple[list[Claim], dict[str, int]],
) -> None:
    claims = [replace(claim, pools=("a",)) for claim in cluster[0]]
    grants = share(claims, cluster[1])
    for starved in claims:
        if starved.busy and starved.target and not grants[starved.name].count:
            for other in claims:
                if other.priority <= starved.priority:
                    assert grants[other.name].count <= max(1, other.least)


@given(st.integers(2, 6), st.integers(0, 40), st.integers(0, 5), st.integers(0, 20))
def test_equals_share_almost_alike_whoever_was_there_first(
    count: int, places: int, holder: int, running: int
) -> None:
    claims = [
        Claim(
            name=f"api-{number}",
            wanted=20,
            least=0,
            most=20,
            pools=("a",),
            running={"a": running} if number == holder else {},
            late_per_s=100.0,
            load=20.0,
        )
        for number in range(count)
    ]
    counts = [grant.count for grant in share(claims, {"a": places}).values()]
    assert max(counts) - min(counts) <= 3


@given(_clusters(), st.lists(st.sampled_from((1, 2, 3, 8)), min_size=6, max_size=6))
def test_replicas_of_several_sizes_never_exceed_the_places(
    cluster: tuple[list[Claim], dict[str, int]], sizes: list[int]
) -> None:
    claims, places = cluster
    claims = [replace(claim, size=size) for claim, size in zip(claims, sizes, strict=False)]
    used: Counter[str] = Counter()
    for claim, grant in zip(claims, share(claims, places).values(), strict=True):
        assert grant.count <= claim.target and grant.total <= claim.most
        for pool, count in [*grant.pools.items(), *grant.idle.items()]:
            assert pool in claim.pools
            used[pool] += count * claim.size
    assert all(count <= places[pool] for pool, count in used.items())


@given(_clusters(), st.lists(st.sampled_from((1, 2, 3, 8)), min_size=6, max_size=6))
def test_sizes_in_one_pool_settle_at_once_and_leave_no_room_for_who_waits(
    cluster: tuple[list[Claim], dict[str, int]], sizes: list[int]
) -> None:
    claims, places = cluster
    one = {"a": places["a"]}
    claims = [
        replace(claim, size=size, pools=("a",)) for claim, size in zip(claims, sizes, strict=False)
    ]
    first = share(claims, one)
    free = one["a"] - sum(c.size * first[c.name].count for c in claims)
    assert all(c.size > free for c in claims if first[c.name].count < c.target)
    after = [replace(claim, running={"a": first[claim.name].total}) for claim in claims]
    second = share(after, one)
    assert {name: grant.count for name, grant in second.items()} == {
        name: grant.count for name, grant in first.items()
    }


def _wants(name: str, wanted: int, running: int = 0, priority: float = 1.0) -> Claim:
    return Claim(
        name=name,
        wanted=wanted,
        least=1,
        most=20,
        pools=("gpu",),
        running={"gpu": running},
        priority=priority,
        late_per_s=10.0 * wanted,
        load=float(wanted),
    )


def test_a_lower_priority_takes_no_place_in_which_a_higher_one_runs() -> None:
    small = replace(_wants("small", 4, running=4, priority=2.0), late_per_s=0.1)
    large = replace(_wants("large", 20), late_per_s=9000.0)
    grants = share([small, large], {"gpu": 6})
    assert (grants["small"].count, grants["large"].count) == (4, 2)


def test_who_gets_less_hears_who_has_the_rest() -> None:
    grants = share([_wants("b", 8), _wants("a", 3, running=3, priority=9.0)], {"gpu": 8})
    assert grants["b"].reason == "wanted 8, got 5; 3 places are held by a"


def test_idle_warm_replicas_stay_until_somebody_needs_their_places() -> None:
    idle = _wants("idle", 1, running=5)
    assert share([idle], {"gpu": 6})["idle"].total == 5
    grants = share([idle, _wants("busy", 4)], {"gpu": 6})
    assert (grants["idle"].total, grants["idle"].taken_back) == (2, 3)
    ended = replace(idle, release="timer", timer_ended=True)
    assert share([ended], {"gpu": 6})["idle"].total == 1
