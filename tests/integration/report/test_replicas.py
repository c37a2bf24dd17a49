"""The use of replicas, seen on real processes with the environment of Nomad's tasks."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from serai.clock import SystemClock
from serai_agent.report.replicas import ReplicaUse
from tests.support.wait import auntil

# Its child has lost the environment, as one that was started cleanly has.
TREE = """
import subprocess, sys
busy = "held = b'x' * 2**25\\nwhile True: pass"
subprocess.run([sys.executable, "-c", busy], env={})
"""


@contextmanager
def replica(name: str) -> Iterator[None]:
    marks = {"NOMAD_ALLOC_ID": str(uuid.uuid4()), "SERAI_REPLICA": name}
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", TREE]
    made = subprocess.Popen(command, env={**os.environ, **marks}, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(made.pid, 9)
        made.wait(10)


async def test_a_replica_is_the_processes_that_name_it_and_all_below() -> None:
    name, use = f"iris.v1-a.{uuid.uuid4()}", ReplicaUse(SystemClock())
    with replica(name):

        async def busy() -> bool:
            await use.measure()
            found = [one for one in await use.current() if one.replica == name]
            return any(
                one.processes == 2 and one.cpu_cores > 0.1 and one.memory_bytes > 2**25
                for one in found
            )

        await auntil(busy, 20.0)
    await use.measure()
    assert name not in [one.replica for one in await use.current()]
