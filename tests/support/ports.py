"""Ports that nobody listens on."""

import socket

_told: set[int] = set()


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
