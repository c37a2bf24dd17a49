"""HAProxy's runtime API: text in, text out, nothing else."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from serai.errors import Unavailable

DEADLINE_S = 5.0
ANSWER_LIMIT_BYTES = 64 * 2**20
LINE_LIMIT_BYTES = 12_000
"""How long one line of commands may be: HAProxy takes one buffer at most."""
SOCKET_PATH_LIMIT_BYTES = 100


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a path of a socket that is short enough for the kernel, however deep its folder is."""
    if len(os.fsencode(path)) < SOCKET_PATH_LIMIT_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def is_listened_at(path: Path) -> bool:
    """Say whether a process has this socket: not when it was removed, or put there by a copy."""
    with reachable(path) as short, socket.socket(socket.AF_UNIX) as one:
        one.setblocking(False)
        return one.connect_ex(short) not in (errno.ENOENT, errno.ECONNREFUSED)


_unheard: set[asyncio.Task[str]] = set()
"""Answers that are read to their end though nobody waits for them any more."""


async def ask(path: Path, command: str) -> str:
    """Send one line (commands joined by `;`) and return the answer; Unavailable otherwise.

    Who is cancelled waits no longer, but the answer is still read: HAProxy would keep a caller that
    left in the middle of one, and would not end before it has forgotten it.
    """
    asking = asyncio.create_task(_ask(path, command))
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        _unheard.add(asking)
        asking.add_done_callback(_forget)
        raise


def _forget(asked: asyncio.Task[str]) -> None:
    _unheard.discard(asked)
    if not asked.cancelled():
        asked.exception()  # that it failed is nobody's concern


async def _ask(path: Path, command: str) -> str:
    try:
        async with asyncio.timeout(DEADLINE_S):
            with reachable(path) as short:
                reader, writer = await asyncio.open_unix_connection(short)
            try:
                return await _exchange(reader, writer, command)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        why = str(error) or f"no answer within {DEADLINE_S:g} s"
        raise Unavailable(f"HAProxy does not answer at {path}: {why}") from error


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str
) -> str:
    writer.write(command.encode() + b"\n")
    writer.write_eof()  # the master keeps a connection open until its end
    answer = bytearray()
    while chunk := await reader.read(65536):
        answer += chunk
        if len(answer) > ANSWER_LIMIT_BYTES:
            raise Unavailable(f"HAProxy's answer to {command[:60]!r} has no end")
    return answer.decode("utf-8", "replace")


def lines_of(commands: Sequence[str]) -> Iterator[str]:
    """Join commands to as few lines as HAProxy takes."""
    line = ""
    for command in commands:
        if line and len(line) + len(command) + 1 > LINE_LIMIT_BYTES:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line
