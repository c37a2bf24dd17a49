"""The listening socket, and how it is closed without losing a connection."""

import array
import contextlib
import errno
import socket
import struct
import sys

BACKLOG = 1024
_SO_ATTACH_FILTER = 26


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
    yet, and their requests are lost. A packet filter that drops what opens a connection (SYN
    without ACK) comes first; after a moment everything that was under way has been accepted, and
    the socket can be closed. Where there is no such filter, closing stays as it is elsewhere.
    """
    if sys.platform != "linux":
        return
    program = (
        (0x30, 0, 0, 13),  # load the byte with TCP's flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, 0xFFFF_FFFF),  # take everything else
    )
    code = array.array("B", b"".join(struct.pack("HBBI", *line) for line in program))
    with contextlib.suppress(OSError):
        sock.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", len(program), code.buffer_info()[0]),
        )
