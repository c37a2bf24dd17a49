"""What a probe makes of a server that takes the connection and ends it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from serai.model import Server
from serai.probe import Prober
from serai.readiness import Verdict

RESET = struct.pack("ii", 1, 0)
"""A connection that lingers for no time is reset when it is closed."""


@pytest.fixture(params=["closes", "resets", "resets what it has read"])
def ending(request: pytest.FixtureRequest) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_end_all, args=(listening, request.param), daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        yield Server(
            id="one.v1.1.0",
            replica="one.v1.1",
            api="one",
            version="v1",
            host="127.0.0.1",
            port=port,
            capacity=1,
        )
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _end_all(listening: socket.socket, how: str) -> None:
    while True:
        try:
            taken, _ = listening.accept()
        except OSError:
            return
        with closing(taken):
            if how != "resets":
                taken.recv(1024)
            if how != "closes":
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def test_it_was_closed_however_that_shows(ending: Server) -> None:
    prober = Prober(2.0)
    try:
        for _ in range(20):
            told = await prober.ask(ending, "/")
            assert told == (Verdict.CLOSED, "GET /: the connection was closed without an answer")
            verdict, said = await prober.ask(ending, "/", inside=8080)
            assert verdict is Verdict.CLOSED, said
            assert said.startswith("nothing listens on port 8080 of its container yet")
    finally:
        await prober.close()
