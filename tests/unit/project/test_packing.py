"""How content is divided into requests."""

from hypothesis import given
from hypothesis import strategies as st

from serai.blobs import (
    BATCH_BLOB_MAX_BYTES,
    BATCH_MAX_BLOBS,
    BATCH_MAX_BYTES,
    MAX_PARTS,
    PART_BYTES,
)
from serai.bundle import MAX_FILE_BYTES
from serai_cli.project.bundle import Source
from serai_cli.project.packing import Batch, Piece, pack, part_ranges

SIZES = st.lists(
    st.integers(0, 5_000) | st.integers(0, 5 * 2**20) | st.integers(0, 40 * 2**20), max_size=60
)


def sources(sizes_bytes: list[int]) -> list[Source]:
    return [Source(f"{n:064x}", size, label=str(n)) for n, size in enumerate(sizes_bytes)]


@given(SIZES)
def test_everything_goes_once_and_within_the_limits(sizes_bytes: list[int]) -> None:
    wanted = sources(sizes_bytes)
    packed = pack(wanted)
    sent: list[Source] = list(packed.big)
    for package in packed.packages:
        if isinstance(package, Batch):
            assert package.size_bytes <= BATCH_MAX_BYTES
            assert 0 < len(package.sources) <= BATCH_MAX_BLOBS
            assert all(source.size_bytes <= BATCH_BLOB_MAX_BYTES for source in package.sources)
            sent += package.sources
        else:
            assert isinstance(package, Piece) and package.size_bytes <= PART_BYTES
            sent.append(package.source)
    assert sorted(source.digest for source in sent) == [source.digest for source in wanted]


def test_tiny_files_are_counted_too() -> None:
    packages = pack(sources([1] * 5000)).packages
    assert [len(package.sources) for package in packages if isinstance(package, Batch)] == [
        BATCH_MAX_BLOBS,
        BATCH_MAX_BLOBS,
        1000,
    ]


@given(st.integers(1, MAX_FILE_BYTES))
def test_parts_cover_a_file_without_gaps(size_bytes: int) -> None:
    ranges = part_ranges(size_bytes)
    assert len(ranges) <= MAX_PARTS
    at = 0
    for start, length in ranges:
        assert start == at and 0 < length <= PART_BYTES
        at += length
    assert at == size_bytes
