"""Whose orders count: the epoch in the key `leader` of Consul, which stays while nobody leads."""

from serai.consul.leader import LEADER, read_leader
from serai.errors import ConfigError
from serai.store import Store


async def leader_epoch(store: Store) -> int | None:
    """Return the epoch of the last leader, None for unknown."""
    entry = await store.get(LEADER)
    if entry is None or not entry.value:
        return None
    try:
        return read_leader(entry.value, LEADER).epoch
    except ConfigError:
        return None
