"""What may be collected, as a pure function."""

from hypothesis import given
from hypothesis import strategies as st

from serai.blobs import StoredBlob, unreferenced
from serai.model import digest_of


def blob(name: str, used_at_s: float) -> StoredBlob:
    return StoredBlob(digest=digest_of(name.encode()), size_bytes=1, used_at_s=used_at_s)


def test_takes_old_unreferenced_blobs_oldest_first() -> None:
    old, older, young, kept, future = (
        blob("old", 300),
        blob("older", 100),
        blob("young", 950),
        blob("kept", 0),
        blob("future", 5000),
    )
    found = unreferenced([old, older, young, kept, future], {kept.digest}, 1000, min_age_s=500)
    assert found == [older, old]


@given(
    st.dictionaries(st.text(max_size=3), st.floats(0, 2000), max_size=20),
    st.sets(st.text(max_size=3)),
)
def test_never_takes_what_is_needed_or_young(used: dict[str, float], needed: set[str]) -> None:
    stored = [blob(name, used_at_s) for name, used_at_s in used.items()]
    referenced = {digest_of(name.encode()) for name in needed}
    waste = unreferenced(stored, referenced, 1000, min_age_s=600)
    assert all(b.digest not in referenced and b.used_at_s <= 400 for b in waste)
    assert {b.digest for b in stored} - {b.digest for b in waste} >= {
        b.digest for b in stored if b.used_at_s > 400
    }
