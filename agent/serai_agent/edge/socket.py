"""HAProxy's runtime API: text in, text out, nothing else."""

import asyncio
from pathlib import Path

from serai.errors import Unavailable

DEADLINE_S = 5.0
ANSWER_LIMIT_BYTES = 64 * 2**20


async def ask(path: Path, command: str) -> str:
    """Send one command (or several joined by `;`) and return the answer; Unavailable otherwise."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(command.encode() + b"\n")
                writer.write_eof()  # the master keeps a connection open until its end
                answer = bytearray()
                while chunk := await reader.read(65536):
                    answer += chunk
                    if len(answer) > ANSWER_LIMIT_BYTES:
                        raise Unavailable(f"HAProxy's answer to {command[:60]!r} has no end")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"HAProxy does not answer at {path}: {error}") from error
    return answer.decode("utf-8", "replace")
