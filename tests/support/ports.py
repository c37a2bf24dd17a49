"""Ports that nobody listens on."""

import os
import socket
from itertools import count, cycle

TASK_PORTS = range(30_000, 32_760)
"""Above those that a local engine gives out, below those that the kernel does."""
AT_ONCE = 4
"""So many agents of one test process have ports of their own at a time."""
FREE_PORTS = range(10_000, 14_600)
"""Below those of a local engine."""


def _mine(ports: range) -> range:
    """Return the part of some ports that belongs to this process of a test run."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(ports) // workers
    return ports[worker * size : (worker + 1) * size]


def _begun_anywhere(ports: range) -> list[int]:
    """Return ports so that two runs at the same time hardly begin with the same."""
    first = os.getpid() * 101 % len(ports)
    return [*ports[first:], *ports[:first]]


_ports = cycle(_begun_anywhere(_mine(FREE_PORTS)))
_agents = count()


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago, another one at each call.

    It is none that the kernel gives to outgoing connections, nor of another test process, so that
    nobody takes it until whoever it is for listens, nor while that one ends and begins again.
    """
    for port in _ports:
        if _is_free(port, socket.SOCK_STREAM) and _is_free(port, socket.SOCK_DGRAM):
            return port
    raise AssertionError("unreachable: the ports come round again")


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def task_ports() -> tuple[int, int]:
    """Return the first and the last port for the tasks of one Nomad.

    Nomad does not look whether anybody listens on a port, so that two agents of one machine need
    ports of their own, those of tests that run at the same time among them.
    """
    ports = _mine(TASK_PORTS)
    size = len(ports) // AT_ONCE
    first = ports.start + size * (next(_agents) % AT_ONCE)
    return first, first + size - 1
