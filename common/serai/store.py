"""The port to wanted state: small keys, all-or-nothing commits, fenced by the leader's epoch."""

from collections.abc import Sequence
from typing import Protocol

from serai.errors import Refused
from serai.model import Value

MAX_VALUE_BYTES = 256 * 2**10
MAX_COMMIT_BYTES = 320 * 2**10
MAX_WRITES = 124
"""What one commit may hold, in any store: Consul takes transactions of 512 KiB, in which values
grow by a third, and of 128 operations, some of which are the fence."""


class Entry(Value):
    """A key as it stands; `revision` rises with every change of the store."""

    key: str
    value: bytes
    revision: int


class Write(Value):
    """Put `value` (None deletes the key); `expect` is the revision that the key must have.

    `expect` 0 means that the key must not exist, None that nothing is expected.
    """

    key: str
    value: bytes | None
    expect: int | None = None


class Snapshot(Value):
    """All entries below a prefix, in the order of their keys, at one revision of the store."""

    revision: int
    entries: tuple[Entry, ...]


class Store(Protocol):
    """Where wanted state lives: SQLite on one machine, Consul's KV in a cluster."""

    async def get(self, key: str) -> Entry | None: ...

    async def scan(self, prefix: str) -> Snapshot: ...

    async def mark(self) -> str:
        """Return a mark of what the store holds, much cheaper than a scan.

        Two that are equal say that nothing was changed between them. It may be another one where
        nothing was.
        """
        ...

    async def watch(self, prefix: str, after: int, wait_s: float) -> Snapshot:
        """Return once something below `prefix` changed after that revision, or after `wait_s`.

        It may return early without a change, and at a lower revision when the store was set back.
        """
        ...

    async def commit(self, writes: Sequence[Write], epoch: int) -> int:
        """Carry out all writes or none; return the store's new revision.

        Raises Refused with code `fenced` when a higher epoch has been seen, `conflict` when a
        key is not at the revision expected, `too_large` when a limit above is passed;
        Unavailable when the disk is full or the store is away.
        """
        ...

    async def raise_epoch(self) -> int:
        """Return a new epoch, higher than any before; orders of lower ones are refused."""
        ...


def check_sizes(writes: Sequence[Write]) -> None:
    """Raise Refused with code `too_large` for what a commit may not hold. Pure."""
    if len(writes) > MAX_WRITES:
        raise Refused(
            f"{len(writes)} keys would change at once; {MAX_WRITES} may: "
            "deploy fewer APIs together",
            "too_large",
        )
    sizes = {write.key: len(write.value) for write in writes if write.value is not None}
    for key, size in sizes.items():
        if size > MAX_VALUE_BYTES:
            raise Refused(
                f"{key} would hold {size} bytes; {MAX_VALUE_BYTES} are allowed", "too_large"
            )
    if (total := sum(sizes.values())) > MAX_COMMIT_BYTES:
        raise Refused(
            f"the change holds {total} bytes; {MAX_COMMIT_BYTES} are allowed at once: "
            "deploy fewer APIs together",
            "too_large",
        )
