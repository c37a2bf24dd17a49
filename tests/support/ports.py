"""Ports that nobody listens on."""

import os
import socket
from itertools import count

TASK_PORTS = range(30_000, 32_760)
"""Above those that a local engine gives out, below those that the kernel does."""
AT_ONCE = 4
"""So many agents of one test process have ports of their own at a time."""
_told: set[int] = set()
_agents = count()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago, another one at each call.

    The kernel may give the same one twice, since nobody listens there yet.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _told:
            _told.add(port)
            return port


def task_ports() -> tuple[int, int]:
    """Return the first and the last port for the tasks of one Nomad.

    Nomad does not look whether anybody listens on a port, so that two agents of one machine need
    ports of their own, those of tests that run at the same time among them.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(TASK_PORTS) // (workers * AT_ONCE)
    first = TASK_PORTS.start + size * (worker * AT_ONCE + next(_agents) % AT_ONCE)
    return first, first + size - 1
