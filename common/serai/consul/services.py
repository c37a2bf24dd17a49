"""How replicas stand in Consul: one service for each API, one instance for each process. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from serai.model import Server, Value, server_id

PREFIX = "serai-api-"
MAX_PROCESSES = 1000
MAX_CAPACITY = 100_000


class Listed(Value):
    """The ready servers of a service, and why instances of it were left out."""

    servers: tuple[Server, ...]
    faults: tuple[str, ...] = ()


def service_name(api: str) -> str:
    """Return the name of an API's service."""
    return PREFIX + api


def api_of(service: str) -> str | None:
    """Return the API whose service this is; None for a service of somebody else's."""
    return service.removeprefix(PREFIX) if service.startswith(PREFIX) else None


def meta_of(server: Server, process: int) -> dict[str, str]:
    """Return what an instance tells of itself; Consul takes texts only."""
    return {
        "replica": server.replica,
        "version": server.version,
        "process": str(process),
        "capacity": str(server.capacity),
    }


def listed(api: str, instances: Sequence[Mapping[str, Any]]) -> Listed:
    """Read the answer of `/v1/health/service`; an instance that cannot be read takes no traffic."""
    servers: dict[str, Server] = {}
    faults: list[str] = []
    for instance in instances:
        found = _server(api, instance)
        if isinstance(found, Server):
            servers[found.id] = found
        else:
            faults.append(found)
    return Listed(servers=tuple(servers[name] for name in sorted(servers)), faults=tuple(faults))


def _server(api: str, instance: Mapping[str, Any]) -> Server | str:
    service = instance.get("Service") if isinstance(instance, Mapping) else None
    if not isinstance(service, Mapping) or not service.get("ID"):
        return f"an instance of {api} is none: {str(instance)[:100]}"
    name, meta = service["ID"], service.get("Meta") or {}
    if missing := [key for key in ("replica", "version") if not meta.get(key)]:
        return f"{name} has no {' and no '.join(missing)} in its meta"
    process = _number(meta.get("process", "0"), 0, MAX_PROCESSES)
    capacity = _number(meta.get("capacity", ""), 1, MAX_CAPACITY)
    port = _number(str(service.get("Port", "")), 1, 65_535)
    if process is None or capacity is None or port is None:
        return f"{name} has a process, capacity or port that is no number within its bounds"
    # An instance without an address of its own is reached at its node's.
    host = service.get("Address") or (instance.get("Node") or {}).get("Address") or ""
    if not host:
        return f"{name} has no address, nor has its node"
    return Server(
        id=server_id(meta["replica"], process),
        replica=meta["replica"],
        api=api,
        version=meta["version"],
        host=host,
        port=port,
        capacity=capacity,
    )


def _number(text: str, least: int, most: int) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return int(text) if least <= int(text) <= most else None
