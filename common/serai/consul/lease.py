"""The lease of a cluster: a lock on Consul's key `leader`, held by a session with a time to live.

The recipe is Consul's own (sessions, behaviour `release`); the lock is taken in a transaction,
since the plain call would replace the key's value, which holds the epoch.
"""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from serai.clock import Clock
from serai.consul.client import ConsulClient
from serai.errors import Refused, Unavailable, ungrouped
from serai.lease import NEVER, LeaseSettings

AGAIN_S = 0.2


class ConsulLease:
    """`key` is the full name of the key that is locked; `name` tells people whose session it is."""

    def __init__(
        self, client: ConsulClient, clock: Clock, key: str, name: str, settings: LeaseSettings
    ) -> None:
        self._client = client
        self._clock = clock
        self._key = key
        self._name = name
        self.settings = settings
        self._session = ""
        self._safe_until_s = NEVER
        self._locked = False
        self.renewal_s: float | None = None
        """How long Consul took for the last renewal, None before the first."""

    @property
    def held_until_s(self) -> float:
        return self._safe_until_s if self._locked else NEVER

    @property
    def held(self) -> bool:
        return self._clock.now() < self.held_until_s

    @property
    def session(self) -> str:
        """Return the session that locks the key, "" while there is none."""
        return self._session if self._locked else ""

    # Taking it -----------------------------------------------------------------------------------

    async def acquire(self, wait_s: float) -> bool:
        until_s = self._clock.now() + wait_s
        index = 0
        while not self.held:
            asked_at_s = self._clock.now()
            await self._renew_or_begin()
            late = self._clock.now() - asked_at_s > self.settings.renew_period_s
            left_s = max(0.0, until_s - self._clock.now())
            index, entry = await self._entry(index, min(left_s, self.settings.renew_period_s))
            holder = entry.get("Session", "") if entry else ""
            if holder in ("", self._session) and await self._lock(entry):
                self._locked = True
                if not await self._lasts():  # others may be nearer
                    await self.release()
                    raise self._too_slow()
                return True
            elif self._clock.now() >= until_s:
                if late:  # its session may end before each answer: nobody would ever lead
                    raise self._too_slow()
                return False
            elif not holder:  # its last holder died: Consul keeps it free for the lock delay
                index = 0
                await self._clock.sleep(min(AGAIN_S, left_s))
        return True

    def _too_slow(self) -> Unavailable:
        return Unavailable(
            f"Consul answers too slowly for a lease of {self.settings.ttl_s:g} s, where it may "
            f"take {self.settings.longest_answer_s:g} s: look at the network to Consul and at its "
            "load, or raise `lease.ttl_s` on all schedulers"
        )

    async def _entry(self, index: int, wait_s: float) -> tuple[int, Mapping[str, Any]]:
        found, entries = await self._client.entries(
            self._key, recurse=False, index=index, wait_s=wait_s
        )
        return (found if found >= index else 0), (entries[0] if entries else {})

    async def _renew_or_begin(self) -> None:
        """Keep the session alive while it waits; make one when there is none any more."""
        try:
            if self._session:
                self._safe_until_s = await self._prolonged()
        except Refused:
            self._forget()
        if self._session:
            return
        began_s, settings = self._clock.now(), self.settings
        answer = await self._client.put(
            "/v1/session/create",
            {
                "Name": self._name,
                "TTL": f"{round(settings.ttl_s * 1000)}ms",
                "LockDelay": f"{round(settings.lock_delay_s * 1000)}ms",
                "Behavior": "release",
                # None: a node that Consul takes for failed may well hold its lease.
                "NodeChecks": [],
                "ServiceChecks": [],
            },
        )
        self._session = str(answer.decoded(dict).get("ID", ""))
        self._safe_until_s = settings.safe_until_s(began_s)

    async def _lock(self, entry: Mapping[str, Any]) -> bool:
        """Lock the key as it was read; its value stays."""
        as_read = (
            {"Verb": "check-index", "Key": self._key, "Index": entry["ModifyIndex"]}
            if entry
            else {"Verb": "check-not-exists", "Key": self._key}
        )
        return await self._transaction([as_read, self._with_value("lock", entry)])

    def _with_value(self, verb: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        value = base64.b64encode(entry.get("Value") or b"").decode()
        return {"Verb": verb, "Key": self._key, "Session": self._session, "Value": value}

    async def _lasts(self) -> bool:
        """Renew a lease that took long to get; say whether the next renewal can be in time."""
        now_s = self._clock.now()
        if now_s < self.settings.renew_at_s(self._safe_until_s):
            return True
        self._safe_until_s = await self._prolonged()
        done_s = self._clock.now()
        return done_s + (done_s - now_s) < self._safe_until_s

    async def _transaction(self, operations: list[dict[str, Any]]) -> bool:
        answer = await self._client.put("/v1/txn", [{"KV": one} for one in operations])
        return answer.status == 200

    # Keeping it, giving it back ------------------------------------------------------------------

    async def renew(self) -> None:
        if not self.held:
            self._forget()
            raise Refused("the lease is over", "lease_lost")
        # At once, since a Consul that is slow leaves time for one call. The session outlives its
        # lock when somebody deletes the key or takes the lock away.
        with ungrouped(Refused, Unavailable):
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._entry(0, 0.0))
                prolonging = group.create_task(self._prolonged())
        _, entry = reading.result()
        if entry.get("Session") != self._session:
            self._forget()
            raise Refused("the lease is over: the key is locked by it no more", "lease_lost")
        self._safe_until_s = prolonging.result()

    async def _prolonged(self) -> float:
        """Renew the session; return until when the lease may be used then."""
        began_s = self._clock.now()
        answer = await self._client.put(f"/v1/session/renew/{self._session}", {})
        if answer.status == 404:
            self._forget()
            raise Refused("the lease is over: Consul has ended its session", "lease_lost")
        self.renewal_s = self._clock.now() - began_s
        return self.settings.safe_until_s(began_s)

    def _forget(self) -> None:
        self._session, self._locked, self._safe_until_s = "", False, NEVER

    async def release(self) -> None:
        session = self._session
        if not session:
            return
        self._locked = False  # from now on another may have it
        try:
            _, entry = await self._entry(0, 0.0)
            if entry.get("Session") == session:  # unlocked first: destroying has the lock delay
                await self._transaction([self._with_value("unlock", entry)])
            await self._client.put(f"/v1/session/destroy/{session}", {})
        except (Unavailable, Refused):
            return  # it ends by itself once it is renewed no more
        finally:
            self._forget()
