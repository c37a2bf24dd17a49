"""Blobs that lie in the folders of several schedulers: stored is what a majority of them holds."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from serai.blobs import (
    BATCH_BLOB_MAX_BYTES,
    BATCH_MAX_BLOBS,
    PAGE_DIGESTS,
    Blobs,
    CheckedBlob,
    DiskFull,
    StoredBlob,
    damaged_blob,
    fetched,
    missing_blob,
    one_piece,
)
from serai.clock import Clock
from serai.errors import Refused, SeraiError, Unavailable
from serai.tasks import cancelled
from serai_scheduler.blobs.asking import Answers, Peers, errors_in
from serai_scheduler.blobs.peer import GROUP_BYTES
from serai_scheduler.blobs.votes import Tally, is_settled, majority_of, tally

log = logging.getLogger(__name__)

KEPT_PIECES = 2
"""What may wait to be written while a reader goes on."""
NO_BLOB = "no_blob"

Small = tuple[str, bytes]


class MajorityBlobs:
    """One scheduler's `own` blobs together with its peers' (by URL); `close` it at the end.

    Those that are away count as having nothing. With a majority away there is only reading: `put`,
    `has`, `list` and `delete` raise Unavailable, which names who does not answer.
    """

    def __init__(self, own: Blobs, peers: Mapping[str, Blobs], clock: Clock) -> None:
        self._own = own
        self._peers = Peers(peers, clock)
        self._clock = clock
        self._keeping: set[str] = set()

    async def close(self) -> None:
        """End what still goes on for those that are slower than a majority."""
        await self._peers.close()

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        """Return what a majority holds, so that what fewer hold is sent again."""
        found: set[str] = set()
        for start in range(0, len(digests), PAGE_DIGESTS):
            found |= await self._has(digests[start : start + PAGE_DIGESTS])
        return frozenset(found)

    async def _has(self, page: Sequence[str]) -> frozenset[str]:
        own = await self._own.has(page)

        async def holds(peer: Blobs) -> frozenset[str]:
            return await peer.has(page)

        def counted(answers: Answers[frozenset[str]]) -> Tally:
            held = [own, *(one for one in answers.values() if not isinstance(one, SeraiError))]
            return tally(page, held, self._peers.awaited(answers), self._peers.total)

        answers = await self._peers.ask(holds, lambda a: counted(a).settled, lambda _: True)
        self._peers.insist("tell what they hold of the bundle", answers)
        return counted(answers).held

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        """Store in the own folder, then on the others; done once a majority has it."""
        made = await self._store(digest, stream, size_bytes)
        await self._spread(partial(self._copy, digest, size_bytes), made)

    async def _copy(self, digest: str, size_bytes: int, peer: Blobs) -> None:
        if size_bytes > BATCH_BLOB_MAX_BYTES and await peer.has([digest]):
            return
        async with aclosing(fetched(self._own, digest)) as pieces:
            await peer.put(digest, pieces, size_bytes)

    async def put_each(self, contents: AsyncIterator[Small]) -> None:
        """Store small blobs; the others get them in groups, while they are in memory anyway."""
        failure: SeraiError | None = None
        ended = False
        while not ended:
            group: list[Small] = []
            made: list[str] = []
            try:
                ended = await self._gather_group(contents, group, made)
            except SeraiError as error:
                failure, ended = error, True
            if group:
                await self._spread(partial(_put_group, group), made)
        if failure is not None:
            raise failure

    async def _gather_group(
        self, contents: AsyncIterator[Small], group: list[Small], made: list[str]
    ) -> bool:
        """Store blobs in the own folder until there are enough to be sent; True at their end."""
        held_bytes = 0
        async for digest, content in contents:
            made += await self._store(digest, one_piece(content), len(content))
            group.append((digest, content))
            held_bytes += len(content)
            if held_bytes >= GROUP_BYTES or len(group) >= BATCH_MAX_BLOBS:
                return False
        return True

    async def _store(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> list[str]:
        """Store in the own folder; return the digest if it was not there before."""
        there = await self._own.has([digest])
        await self._own.put(digest, stream, size_bytes)
        return [] if there else [digest]

    async def _spread(self, send: Callable[[Blobs], Awaitable[None]], made: Sequence[str]) -> None:
        """Have a majority store what the own folder has; else remove there what is new."""
        stored_at_s = self._clock.wall()
        total = self._peers.total

        def stored(answers: Answers[None]) -> bool:
            return self._peers.done(answers) >= majority_of(total)

        def settled(answers: Answers[None]) -> bool:
            return is_settled(self._peers.done(answers), len(errors_in(answers)), total)

        try:
            answers = await self._peers.ask(send, settled, stored)
            self._peers.insist("store the upload", answers)
        except BaseException:  # a caller that left, too: what no majority has may not stay here
            await self._take_back(made, stored_at_s)
            raise

    async def _take_back(self, made: Sequence[str], stored_at_s: float) -> None:
        """Remove what was stored here alone; what cannot be is left for the garbage collection.

        Whoever asked about one since, or sent it as well, counts on it: those stay.
        """
        try:
            await self._own.delete(made, stored_at_s)
        except SeraiError as error:  # it may not hide why the upload failed, or that it was ended
            log.warning("blobs not taken back", extra={"count": len(made), "why": str(error)})

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        """Yield from the own folder, else from a peer, whose content is kept as it passes."""
        begun = False
        try:
            async for piece in self._own.get(digest):
                begun = True
                yield piece
            return
        except Refused as error:
            if begun or error.code != NO_BLOB:
                raise
        async with aclosing(self._from_peers(digest)) as pieces:
            async for piece in pieces:
                yield piece

    async def _from_peers(self, digest: str) -> AsyncGenerator[bytes, None]:
        problems: list[SeraiError] = []
        for url in self._peers.turns(digest):
            begun = False
            try:
                size_bytes = await self._peers[url].size(digest)
                async with aclosing(self._passed(url, digest, size_bytes)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except SeraiError as error:
                self._peers.note(url, error)
                if begun:
                    raise
                problems.append(error)
        raise _not_found(digest, problems)

    async def _passed(self, url: str, digest: str, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield a peer's content, checked, and keep it unless another reader does already."""
        checked = CheckedBlob(digest, size_bytes)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(KEPT_PIECES)
        keeps = digest not in self._keeping
        keeping = asyncio.ensure_future(self._keep(digest, size_bytes, queue)) if keeps else None
        try:
            async with aclosing(fetched(self._peers[url], digest)) as pieces:
                async for piece in pieces:
                    checked.take(piece)
                    if keeping is not None:
                        await _hand_on(piece, queue, keeping)
                    yield piece
            checked.finish()
            if keeping is not None:
                await _hand_on(None, queue, keeping)
                await keeping
        except Refused as error:
            if error.code in ("digest_mismatch", "size_mismatch"):
                raise damaged_blob(digest) from error
            raise
        finally:
            if keeping is not None:
                await cancelled(keeping)

    async def _keep(
        self, digest: str, size_bytes: int, queue: "asyncio.Queue[bytes | None]"
    ) -> None:
        """Store what comes by the queue; a folder that cannot is no matter to the reader."""
        ended = False

        async def coming() -> AsyncIterator[bytes]:
            nonlocal ended
            while not ended:
                if (piece := await queue.get()) is not None:
                    yield piece
                else:
                    ended = True

        self._keeping.add(digest)
        try:
            await self._own.put(digest, coming(), size_bytes)
        except SeraiError as error:
            log.warning("blob not kept", extra={"digest": digest, "why": str(error)})
        finally:
            self._keeping.discard(digest)
        # What was not read, of one that failed or is stored already: the reader waits for room.
        async for _ in coming():
            pass

    async def bring(self, digest: str) -> None:
        """Copy a blob that the own folder lacks from a peer; Refused (`no_blob`) if none has it.

        Raises Unavailable when one that does not answer could have it, or the folder cannot. Who is
        known to be away is not asked: whoever brings many blobs would wait for it with each.
        """
        problems: list[SeraiError] = []
        for url in self._peers.turns(digest):
            if self._peers.is_away(url):
                problems.append(Unavailable(f"the scheduler {url} did not answer a moment ago"))
                continue
            try:
                size_bytes = await self._peers[url].size(digest)
                async with aclosing(fetched(self._peers[url], digest)) as pieces:
                    await self._own.put(digest, pieces, size_bytes)
                return
            except DiskFull:
                raise
            except SeraiError as error:
                self._peers.note(url, error)
                problems.append(error)
        raise _not_found(digest, problems)

    async def size(self, digest: str) -> int:
        try:
            return await self._own.size(digest)
        except Refused as error:
            if error.code != NO_BLOB:
                raise
        problems: list[SeraiError] = []
        for url in self._peers.turns(digest):
            found = await self._peers.said(url, lambda peer: peer.size(digest))
            if isinstance(found, int):
                return found
            problems.append(found)
        raise _not_found(digest, problems)

    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        """Remove from all; one that is away keeps them until garbage is collected again."""
        await self._own.delete(digests, used_until_s)

        async def remove(peer: Blobs) -> None:
            await peer.delete(digests, used_until_s)

        answers = await self._peers.ask(remove)
        self._peers.insist("remove old bundles", answers)

    async def list(self) -> AsyncIterator[StoredBlob]:
        """Yield what any holds, with its last use on any; Unavailable unless a majority tells.

        A majority hears of each use, so that any other majority knows of it.
        """
        found: dict[str, StoredBlob] = {}
        await _list_into(found, self._own)

        async def listed(peer: Blobs) -> None:
            await _list_into(found, peer)

        answers = await self._peers.ask(listed)
        self._peers.insist("list their bundles", answers)
        for blob in found.values():
            yield blob


async def _hand_on(
    piece: bytes | None, queue: "asyncio.Queue[bytes | None]", keeper: "asyncio.Future[None]"
) -> None:
    """Give a piece to its keeper, or raise what has ended it: nobody would take the piece."""
    putting = asyncio.ensure_future(queue.put(piece))
    try:
        await asyncio.wait({putting, keeper}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            keeper.result()
    finally:
        await cancelled(putting)


async def _list_into(found: dict[str, StoredBlob], blobs: Blobs) -> None:
    async for blob in blobs.list():
        known = found.get(blob.digest)
        if known is None or known.used_at_s < blob.used_at_s:
            found[blob.digest] = blob


async def _put_group(group: Sequence[Small], peer: Blobs) -> None:
    async def each() -> AsyncIterator[Small]:
        for one in group:
            yield one

    await peer.put_each(each())


def _not_found(digest: str, problems: Sequence[SeraiError]) -> SeraiError:
    """Return the error for a blob that no peer gave: absent only if all of them say so."""
    unsure = [e for e in problems if not (isinstance(e, Refused) and e.code == NO_BLOB)]
    if not unsure:
        return missing_blob(digest)
    told = "; ".join(dict.fromkeys(str(error) for error in unsure))
    return Unavailable(f"blob {digest} is not here, and not every scheduler could tell: {told}")
