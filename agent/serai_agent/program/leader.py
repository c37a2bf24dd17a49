"""Whose orders count, and who is reported to: both are in the key `leader` of Consul."""

from dataclasses import dataclass

from serai.consul.leader import LEADER, read_leader
from serai.consul.leader_book import LeaderBook
from serai.errors import ConfigError
from serai.store import Store
from serai_agent.program.schedulers import Schedulers


@dataclass(frozen=True)
class LeadingScheduler:
    """The leader as the receiver of reports."""

    book: LeaderBook
    schedulers: Schedulers

    def leader_url(self) -> str:
        """As the port says."""
        return self.schedulers.leader_url()

    async def moved_from(self, url: str) -> None:
        """As the port says."""
        await self.book.moved_from(url)


async def leader_epoch(store: Store) -> int | None:
    """Return the epoch of the last leader, which stays while nobody leads; None for unknown."""
    entry = await store.get(LEADER)
    if entry is None or not entry.value:
        return None
    try:
        return read_leader(entry.value, LEADER).epoch
    except ConfigError:
        return None
