"""A link that takes its time: what a machine sends and gets waits a while on its way to the bridge.

Frames are carried by this process between the machine's end and a link of its own, so that what is
connected already becomes slow, too, whatever it speaks.
"""

import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

ALL_PROTOCOLS = 0x0003
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 1, 15, 23
PROMISCUOUS = 1
FRAME_BYTES = 70_000
"""A frame of a machine that leaves the cutting into packets to its card, with what says so."""
BUFFER_BYTES = 8 << 20
MOST_WAITING = 20_000
"""Frames on their way in one direction; those beyond are lost, as on any link."""
LOOK_S = 0.05


@contextmanager
def carried(machine_end: str, bridge_end: str, delay_s: float) -> Iterator[None]:
    """Carry frames between two interfaces, each `delay_s` late, for as long as the block lasts."""
    with _opened(machine_end) as one, _opened(bridge_end) as other:
        stop = threading.Event()
        ways = [_Way(one, other), _Way(other, one)]
        thread = threading.Thread(target=_carry, args=(ways, delay_s, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class _Way:
    """One direction: frames with the time at which they are to arrive."""

    def __init__(self, come: socket.socket, go: socket.socket) -> None:
        self.come, self._go = come, go
        self._waiting: deque[tuple[float, bytes]] = deque(maxlen=MOST_WAITING)

    def take_in(self, due_s: float) -> None:
        while True:
            try:
                self._waiting.append((due_s, self.come.recv(FRAME_BYTES)))
            except BlockingIOError:
                return

    def deliver(self, now_s: float) -> None:
        while self._waiting and self._waiting[0][0] <= now_s:
            try:
                self._go.send(self._waiting.popleft()[1])
            except OSError:  # the other side is full or down: the frame is lost
                continue

    @property
    def next_s(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None


def _carry(ways: list[_Way], delay_s: float, stop: threading.Event) -> None:
    while not stop.is_set():
        due = [way.next_s for way in ways if way.next_s is not None]
        wait_s = min([LOOK_S, *(one - _now_s() for one in due)])
        readable, _, _ = select.select([way.come for way in ways], [], [], max(0.0, wait_s))
        for way in ways:
            if way.come in readable:
                way.take_in(_now_s() + delay_s)
            way.deliver(_now_s())


def _now_s() -> float:
    return time.monotonic()  # noqa: TID251  # a slow line is made of real time


def _opened(interface: str) -> socket.socket:
    """Return a socket that sees every frame that arrives at an interface, none that leaves."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    made.bind((interface, ALL_PROTOCOLS))
    everything = struct.pack("IHH8s", socket.if_nametoindex(interface), PROMISCUOUS, 0, b"")
    made.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, everything)
    made.setblocking(False)
    return made
