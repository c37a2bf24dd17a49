"""What reading the log costs: 10,000 lines a second from another process, counted to the last."""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serai_agent.edge.logsocket import LogSocket
from serai_agent.edge.outcomes import Outcomes

RATE = 10_000
SECONDS = 5.0

_SENDER = """
import socket, sys, time
path, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.setblocking(False)
out.connect(path)
dropped, began = 0, time.monotonic()
for number in range(int(rate * seconds)):
    while time.monotonic() < began + number / rate:
        time.sleep(0.002)
    line = "api-%d|v1-0123abcd|200|12|--|512|1024|-|-|%d|77" % (number % 20, number)
    try:
        out.send(line.encode())
    except BlockingIOError:
        dropped += 1
print(dropped)
"""


async def _measure() -> tuple[float, int, int]:
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Outcomes()
        logs = LogSocket(Path(folder) / "log.sock", outcomes)
        logs.open()
        try:
            sender = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _SENDER),
                *(str(Path(folder) / "log.sock"), str(RATE), str(SECONDS)),
                stdout=subprocess.PIPE,
            )
            began_s, cpu_s = time.monotonic(), time.process_time()
            told, _ = await sender.communicate()
            share = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
            await asyncio.sleep(0.1)
        finally:
            logs.close()
        return share, int(RATE * SECONDS) - outcomes.lines, int(told)


def measure() -> tuple[float, int, int]:
    """Return the share of a core used, and the lines missing here and dropped at the sender."""
    return asyncio.run(_measure())
