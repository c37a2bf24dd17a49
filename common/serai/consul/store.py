"""The store of a cluster: Consul's KV. Every commit is one transaction, fenced by `leader`."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from serai import wire
from serai.clock import Clock
from serai.consul.client import Answer, ConsulClient
from serai.consul.leader import LEADER, Leader, read_leader
from serai.consul.lease import ConsulLease
from serai.errors import ConfigError, Refused, Unavailable
from serai.lease import NEVER
from serai.model import Value
from serai.routes import ROUTES
from serai.store import Entry, Snapshot, Write, check_sizes

RAISE_TRIES = 20
LEAST_WAIT_S = 0.001
MARK_HOLDS_S = 60.0
"""How long a mark may tell what is there: the index of keys goes back to that of the youngest one
left once Consul has forgotten what was deleted, which it does after a quarter of an hour."""


class _Ordered(msgspec.Struct):
    """What matters here of a route, whichever release wrote it."""

    epoch: int = 0


@dataclass
class Marks:
    """When the last mark was told, and how many gaps there were in which much may have happened."""

    told_s: float = NEVER
    gaps: int = 0


class Fence(Value):
    """The key `leader` as it stood: `index` is 0 when it did not exist."""

    epoch: int
    index: int


class ConsulStore:
    """Keys below a prefix of Consul's KV.

    A commit passes only while `lease` is held, and the key `leader` is as it was when this store
    raised its epoch: whoever takes the lock or raises the epoch changes it. `address` is what the
    key `leader` then tells of the leader: the URL of its operator API. Raises Unavailable when
    Consul is away, and Refused with code `consul_forbidden` when its token does not suffice.
    """

    def __init__(
        self,
        client: ConsulClient,
        clock: Clock,
        prefix: str = "serai/",
        lease: ConsulLease | None = None,
        address: str = "",
    ) -> None:
        self._client = client
        self._clock = clock
        self._prefix = prefix
        self._lease = lease
        self._address = address
        self._fence: Fence | None = None
        self._last: dict[str, Snapshot] = {}
        self._marks = Marks()
        self.outrun = asyncio.Event()
        """Set once a commit found a higher epoch than that which was raised here: somebody else's,
        or one that was written by hand. Nothing can be written before it is raised anew."""

    @property
    def leader_key(self) -> str:
        """Return the full name of the key that the lease locks."""
        return self._prefix + LEADER

    # Reading -------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        _, found = await self._client.entries(self._prefix + key, recurse=False)
        return self._entry(found[0]) if found else None

    async def scan(self, prefix: str) -> Snapshot:
        return await self._read(prefix, 0, 0.0)

    async def _read(self, prefix: str, after: int, wait_s: float) -> Snapshot:
        self._last.pop(prefix, None)  # after a failure nothing is known
        index, found = await self._client.entries(
            self._prefix + prefix, recurse=True, index=after, wait_s=wait_s
        )
        entries = tuple(self._entry(one) for one in found)
        self._last[prefix] = Snapshot(revision=index, entries=entries)
        return self._last[prefix]

    async def mark(self) -> str:
        """As the port says: the index of all keys, for which Consul sends none of their values."""
        asked_s, told_s = self._clock.now(), self._marks.told_s
        self._marks.told_s = NEVER  # after a failure nothing is known
        answer = await self._client.get(
            f"/v1/kv/{self._prefix}", {"keys": "true", "separator": "/"}
        )
        if asked_s - told_s > MARK_HOLDS_S:
            self._marks.gaps += 1
        self._marks.told_s = asked_s
        return f"{answer.index}.{self._marks.gaps}"

    def _entry(self, found: Mapping[str, Any]) -> Entry:
        return Entry(
            key=found["Key"].removeprefix(self._prefix),
            value=found["Value"] or b"",
            revision=found["ModifyIndex"],
        )

    async def watch(self, prefix: str, after: int, wait_s: float) -> Snapshot:
        until_s = self._clock.now() + wait_s
        while True:
            last = self._last.get(prefix)
            before = last if last is not None and last.revision == after else None
            left_s = max(LEAST_WAIT_S, until_s - self._clock.now())
            # A Consul that lost its data would wait for an index that comes late or never: it is
            # asked to wait only from an index that it gave itself, with no failure since.
            found = await self._read(prefix, after if before is not None else 0, left_s)
            set_back = found.revision < after
            if set_back or self._clock.now() >= until_s or _differs(found, before, after):
                return found
            after = found.revision

    # Writing -------------------------------------------------------------------------------------

    async def commit(self, writes: Sequence[Write], epoch: int) -> int:
        check_sizes(writes)
        if self._lease is not None and not self._lease.held:
            raise Refused("the lease is over: somebody else may lead", "fenced")
        fence = await self._fence_of(epoch)
        guards = self._guards(fence)
        operations = [*guards, *(self._operation(write) for write in writes)]
        answer = await self._client.put("/v1/txn", operations)
        if answer.status == 409:
            raise self._refusal(answer, len(guards), writes, epoch)
        written = {result["KV"]["Key"]: result["KV"]["ModifyIndex"] for result in _results(answer)}
        indices = [
            written.get(self._prefix + write.key, 0) for write in writes if write.value is not None
        ]
        if writes and not indices:  # deleting gives no index back, reading what is gone does
            gone = await self._client.get(f"/v1/kv/{self._prefix}{writes[0].key}")
            return gone.index
        return max(indices, default=fence.index)

    async def _fence_of(self, epoch: int) -> Fence:
        if self._fence is None or self._fence.epoch != epoch:
            try:
                found = await self._leader()
            except (
                ConfigError
            ) as error:  # until it is mended: somebody else's it cannot have become
                raise Unavailable(str(error)) from error
            if epoch < found.epoch:
                self.outrun.set()
                raise Refused(f"epoch {epoch} is over: {found.epoch} has been seen", "fenced")
            return found
        return self._fence

    async def _leader(self) -> Fence:
        found = await self.get(LEADER)
        if found is None:
            return Fence(epoch=0, index=0)
        if not found.value:  # locked for the first time, not yet written
            return Fence(epoch=0, index=found.revision)
        return Fence(epoch=read_leader(found.value, self.leader_key).epoch, index=found.revision)

    async def _ordered(self) -> int:
        """Return the highest epoch of all routes, 0 without any."""
        epochs = [0]
        for entry in (await self.scan(ROUTES)).entries:
            with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                epochs.append(msgspec.json.decode(entry.value, type=_Ordered).epoch)
        return max(epochs)

    def _guards(self, fence: Fence) -> list[dict[str, Any]]:
        """Return the operations that fail once somebody else leads."""
        if fence.index:
            as_it_was = {"Verb": "check-index", "Key": self.leader_key, "Index": fence.index}
        else:
            as_it_was = {"Verb": "check-not-exists", "Key": self.leader_key}
        if self._lease is None:
            return [{"KV": as_it_was}]
        session = self._lease.session
        holds = {"Verb": "check-session", "Key": self.leader_key, "Session": session}
        return [{"KV": as_it_was}, {"KV": holds}]

    def _operation(self, write: Write) -> dict[str, Any]:
        operation: dict[str, Any] = {"Key": self._prefix + write.key}
        if write.value is not None:
            operation |= {"Value": base64.b64encode(write.value).decode()}
        if write.expect is None:
            verb = "set" if write.value is not None else "delete"
        elif write.value is None and write.expect == 0:
            verb = "check-not-exists"
        else:
            verb = "cas" if write.value is not None else "delete-cas"
            operation |= {"Index": write.expect}
        return {"KV": {"Verb": verb, **operation}}

    def _refusal(
        self, answer: Answer, guards: int, writes: Sequence[Write], epoch: int
    ) -> Refused | Unavailable:
        """Return why a transaction was rolled back: it names the operations that failed."""
        errors = answer.decoded(dict).get("Errors") or []
        failed = sorted(error["OpIndex"] for error in errors)
        if not failed:
            return Unavailable(f"Consul rolled a transaction back: {answer.body[:300]}")
        if failed[0] < guards:
            self._fence = None
            return Refused(f"epoch {epoch} is over: somebody else leads by now", "fenced")
        key = writes[failed[0] - guards].key
        return Refused(f"{key} was changed by somebody else meanwhile; read it again", "conflict")

    async def raise_epoch(self) -> int:
        """As the port says; Refused with code `fenced` when the session holds the lease no more.

        It is above that of each route, too: gateways believe in no leader below the orders that
        they have, and the key `leader` may have been removed or changed by hand.
        """
        for _ in range(RAISE_TRIES):
            found = await self._leader()
            epoch = max(found.epoch, await self._ordered()) + 1
            leader = wire.encode(Leader(epoch=epoch, address=self._address))
            write = self._operation(Write(key=LEADER, value=leader, expect=found.index))
            guards = self._guards(found)
            answer = await self._client.put("/v1/txn", [*guards, write])
            if answer.status != 409:
                index = _results(answer)[-1]["KV"]["ModifyIndex"]
                self._fence = Fence(epoch=epoch, index=index)
                self.outrun.clear()
                return epoch
            errors = answer.decoded(dict).get("Errors") or []
            if any(error["OpIndex"] == 1 for error in errors) and len(guards) > 1:
                raise Refused("the lease is lost: somebody else may lead", "fenced")
        raise Unavailable(f"Consul's key {self.leader_key} changes all the time")


def _differs(found: Snapshot, before: Snapshot | None, after: int) -> bool:
    """Say whether something may have changed after a revision: Consul wakes its watchers often."""
    if before is not None:
        return before.entries != found.entries
    return found.revision > after and (after > 0 or bool(found.entries))


def _results(answer: Answer) -> list[dict[str, Any]]:
    """Return what the operations of a transaction gave, those that give something."""
    results: list[dict[str, Any]] = answer.decoded(dict).get("Results") or []
    return results
