"""Gives ports to replicas, and tells whether a replica or a stranger listens on one."""

import socket
import zlib
from collections.abc import Iterable

import psutil

from serai.errors import Unavailable


class Ports:
    """Hands out ports of a range; `seed` says where it begins, so that two engines rarely meet."""

    def __init__(self, host: str, first: int, last: int, seed: str) -> None:
        self._host = host
        self._first = first
        self._count = last - first + 1
        self._next = zlib.crc32(seed.encode()) % self._count
        self._taken: set[int] = set()

    def hold(self, ports: Iterable[int]) -> None:
        """Note ports that adopted replicas have."""
        self._taken.update(ports)

    def release(self, ports: Iterable[int]) -> None:
        self._taken.difference_update(ports)

    def take(self, count: int) -> tuple[int, ...]:
        """Return ports that nobody listens on now; raise Unavailable when the range is used up.

        Somebody may still take one before the replica does: the engine then starts it again.
        """
        found: list[int] = []
        for _ in range(self._count):
            port = self._first + self._next
            self._next = (self._next + 1) % self._count
            if port not in self._taken and is_free(self._host, port):
                found.append(port)
            if len(found) == count:
                self._taken.update(found)
                return tuple(found)
        last = self._first + self._count - 1
        raise Unavailable(
            f"no {count} free ports between {self._first} and {last}; stop some replicas "
            "or widen the range of ports"
        )


def is_free(host: str, port: int) -> bool:
    """Say whether a program could listen on a port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def stranger_listens(root: int, port: int) -> bool:
    """Say whether a port is surely held by a process that is not `root` or below it.

    False when it cannot be told: a right that is missing must not stop a replica.
    """
    try:
        top = psutil.Process(root)
        for process in (top, *top.children(recursive=True)):
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return False
    except (psutil.Error, OSError):
        return False
    return True
