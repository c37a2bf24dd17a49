"""The listening socket, and how it is closed without losing a connection."""

import contextlib
import errno
import socket
import sys

BACKLOG = 1024
MOST_HOPS = 255
IP_MINTTL, IPV6_MINHOPCOUNT = 21, 73


class PortTaken(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; raise PortTaken when that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        # Some systems report a taken port only here; asyncio sets the same backlog again.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        in_use = error.errno == errno.EADDRINUSE
        hint = "another program listens there: choose another --port" if in_use else "check --host"
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}; {hint}") from error
    return sock


def refuse_new(sock: socket.socket) -> None:
    """Let no new connection begin, while those that are being set up still arrive.

    Closing a listening socket resets connections that the kernel has set up and nobody accepted
    yet, and their requests are lost. So packets that open a connection are dropped first, by asking
    for more time to live than any packet has left; after a moment everything that was under way has
    been accepted, and the socket can be closed. A packet filter would do, too, but some kernels
    refuse it to all but root. Where there is neither, closing stays as it is elsewhere.
    """
    _ask_time_to_live(sock, MOST_HOPS)


def hear_again(sock: socket.socket) -> None:
    """Take packets of a connection that was set up after `refuse_new`: it asks for the same."""
    _ask_time_to_live(sock, 0)


def _ask_time_to_live(sock: socket.socket, hops: int) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, hops)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, hops)
