"""Who leads, as Consul's key `leader` tells: what agents and other schedulers call."""

from collections.abc import Mapping
from typing import Any

from serai import wire
from serai.consul.client import ConsulClient
from serai.errors import ConfigError
from serai.model import Value

LEADER = "leader"


class Leader(Value):
    """The value of the key `leader`; its lock is the leader's session.

    `address` is the URL of the leader's operator API, such as `https://scheduler-1:7070`.
    """

    epoch: int = 0
    address: str = ""


async def leader_of(client: ConsulClient, prefix: str = "serai/") -> Leader | None:
    """Return who leads, None while nobody does; raises as `watch_leader` does."""
    return (await watch_leader(client, prefix, 0, 0.0))[1]


async def watch_leader(
    client: ConsulClient, prefix: str, after: int, wait_s: float
) -> tuple[int, Leader | None]:
    """Return the key's index and who leads, once the key changed after `after`, or after `wait_s`.

    `after` is the index of the answer before, 0 for none: after any error too, since a Consul that
    lost its data would wait for an index that comes late or never. It may return without a change.
    A leader that has just taken the lock is told with the address of the one before it until it
    has raised its epoch. Raises Unavailable and Refused as the client does, and ConfigError for a
    value that is none of ours.
    """
    index, found = await client.entries(prefix + LEADER, recurse=False, index=after, wait_s=wait_s)
    leader = _leader(found[0], prefix + LEADER) if found else None
    return (index if index >= after else 0), leader


def _leader(entry: Mapping[str, Any], key: str) -> Leader | None:
    if not entry.get("Session") or not entry.get("Value"):
        return None
    leader = read_leader(entry["Value"], key)
    return leader if leader.address else None


def read_leader(value: bytes, key: str) -> Leader:
    """Read the key's value; ConfigError names the key when it is none of ours."""
    try:
        return wire.decode_answer(value, Leader)
    except ConfigError as error:
        raise ConfigError(f"Consul's key {key}: {error}; mend it") from error
