"""What a cache removes."""

from hypothesis import given
from hypothesis import strategies as st

from serai_agent.cache.prune import Bounds, Kept, to_remove

items = st.lists(
    st.builds(
        Kept,
        key=st.text("abcdefgh", min_size=1, max_size=3),
        size_bytes=st.integers(0, 100),
        used_at_s=st.floats(0, 1000),
    ),
    unique_by=lambda item: item.key,
    max_size=12,
)


def test_the_longest_unused_go_until_the_rest_fits() -> None:
    kept = [Kept("new", 40, 30.0), Kept("old", 40, 10.0), Kept("middle", 40, 20.0)]
    assert to_remove(kept, (), Bounds(90, 0.0), 100.0) == ("old",)
    assert to_remove(kept, (), Bounds(50, 0.0), 100.0) == ("old", "middle")
    assert to_remove(kept, ("old",), Bounds(90, 0.0), 100.0) == ("middle",)
    assert to_remove(kept, (), Bounds(120, 0.0), 100.0) == ()
    assert to_remove(kept, (), Bounds(0, 75.0), 100.0) == ("old", "middle")


@given(items, st.sets(st.text("abcdefgh", min_size=1, max_size=3)), st.integers(0, 400))
def test_what_is_in_use_stays_and_no_more_goes_than_needed(
    kept: list[Kept], in_use: set[str], max_bytes: int
) -> None:
    removed = to_remove(kept, in_use, Bounds(max_bytes, 0.0), 2000.0)
    sizes = {item.key: item.size_bytes for item in kept}
    rest = {key: size for key, size in sizes.items() if key not in removed}
    assert not in_use & set(removed)
    assert sum(rest.values()) <= max_bytes or set(rest) <= in_use
    if removed:
        assert sum(rest.values()) + sizes[removed[-1]] > max_bytes
