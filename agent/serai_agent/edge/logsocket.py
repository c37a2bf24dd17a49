"""The datagram socket that HAProxy logs to."""

import asyncio
import logging
import socket
from pathlib import Path

from serai.errors import ConfigError
from serai_agent.edge.outcomes import Outcomes
from serai_agent.edge.socket import reachable

log = logging.getLogger(__name__)

RECEIVE_BUFFER_BYTES = 8 * 2**20
DATAGRAM_BYTES = 4096
BATCH = 500
GATHER_S = 0.01
"""How long lines gather: the kernel keeps some 270 per sending thread."""
QUEUE_LENGTH = 1024
QUEUE_PATH = Path("/proc/sys/net/unix/max_dgram_qlen")


class LogSocket:
    """Feeds HAProxy's lines to an aggregation; HAProxy drops lines while nobody reads."""

    def __init__(self, path: Path, outcomes: Outcomes) -> None:
        self._path = path
        self._outcomes = outcomes
        self._socket: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Bind anew, where a running HAProxy finds it by its path; ConfigError if that fails."""
        _raise_queue_length()
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        try:
            self._path.unlink(missing_ok=True)
            with reachable(self._path) as short:
                opened.bind(short)
        except OSError as error:
            opened.close()
            raise ConfigError(
                f"cannot listen for HAProxy's log at {self._path}: {error.strerror}; "
                "make the folder writable"
            ) from error
        self._socket = opened
        self._listen()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _listen(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        """Take what is there, then let lines gather: being woken for each line costs most."""
        if self._socket is None:
            return
        add, receive = self._outcomes.add, self._socket.recv
        try:
            for _ in range(BATCH):  # bounded: other tasks of the loop have their turn
                add(receive(DATAGRAM_BYTES))
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            self._pause = loop.call_later(GATHER_S, self._listen)


def _raise_queue_length() -> None:
    """Let the kernel keep more lines than its default (often 10) while we are busy."""
    try:
        if int(QUEUE_PATH.read_text()) < QUEUE_LENGTH:
            QUEUE_PATH.write_text(str(QUEUE_LENGTH))
    except (OSError, ValueError):
        log.info(
            "log queue not raised",
            extra={
                "why": "needs root: sysctl net.unix.max_dgram_qlen=1024; lost lines are counted"
            },
        )
