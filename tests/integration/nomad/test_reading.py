"""Replicas as a real Nomad runs and ends them, read from its list of allocations."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serai.model import Replica, ReplicaState
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.names import parse_id
from serai_scheduler.nomad.snapshot import Held, Snapshot, held, replicas_of
from serai_scheduler.nomad.tasks import MAIN_TASK
from tests.cluster.nomad import nomad
from tests.integration.nomad.test_client import sleeping
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


def running(api: str, *command: str) -> dict[str, Any]:
    made = sleeping(f"serai-{api}--v1-0123abcd")
    group = made["TaskGroups"][0]
    group["Name"] = "1"
    group["RestartPolicy"] = {"Attempts": 0, "Mode": "fail", "Interval": 10**10, "Delay": 10**9}
    group["ReschedulePolicy"] = {"Attempts": 0, "Unlimited": False, "Interval": 0}
    task = group["Tasks"][0]
    task["Name"] = MAIN_TASK
    task["Config"] = {"command": command[0], "args": list(command[1:])}
    task["KillSignal"], task["KillTimeout"] = "SIGTERM", 10**9
    return made


async def seen(client: NomadClient) -> dict[str, Replica]:
    jobs: dict[str, Held] = {}
    for stub in (await client.jobs("serai-")).items:
        name, body = parse_id("serai", stub["ID"]), await client.job(stub["ID"])
        assert name is not None and body is not None
        jobs[stub["ID"]] = held(body, name)
    allocations = (await client.allocations("serai-")).items
    seen = replicas_of(Snapshot(jobs=jobs, allocations=allocations), "serai", (), {})
    return {one.replica.api: one.replica for one in seen}


async def test_every_end_has_its_state_and_reason(tmp_path: Path) -> None:
    jobs = (
        running("runs", "/bin/sleep", "1000"),
        running("exits", "/bin/sh", "-c", "exit 7"),
        running("leaves", "/bin/sh", "-c", "exit 0"),
        running("dies", "/bin/sh", "-c", "kill -9 $$"),
        running("lacks", "/no/such/program"),
        running("obeys", "/bin/sleep", "1000"),
        running("resists", "/bin/sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"),
    )
    with nomad(tmp_path) as agent:
        client = NomadClient(NomadSettings(port=agent.port))
        for job in jobs:
            await client.register(job, 0)

        async def all_run_or_ended() -> bool:
            early = (ReplicaState.PENDING, ReplicaState.STARTING)
            replicas = (await seen(client)).values()
            return len(replicas) == len(jobs) and all(one.state not in early for one in replicas)

        await auntil(all_run_or_ended, 30.0)
        for api in ("obeys", "resists"):
            await client.stop(f"serai-{api}--v1-0123abcd", purge=False)

        async def both_stopped() -> bool:
            states = {name: one.state for name, one in (await seen(client)).items()}
            return states["obeys"] == states["resists"] == ReplicaState.STOPPED

        await auntil(both_stopped, 30.0)
        found = await seen(client)
        told = {name: (one.state.value, one.reason) for name, one in found.items()}
        assert told == {
            "runs": ("loading", "its check does not pass yet"),
            "exits": ("failed", "exit code 7"),
            "leaves": ("failed", "it ended by itself with exit code 0"),
            "dies": ("failed", "killed by SIGKILL"),
            "lacks": ("failed", told["lacks"][1]),
            "obeys": ("stopped", ""),
            "resists": ("stopped", "killed: it had not ended in its time"),
        }
        assert 'binary "/no/such/program" could not be found' in told["lacks"][1]
        assert found["exits"].ended_at_s and found["exits"].node
        await asyncio.to_thread(agent.purge, "serai-runs--v1-0123abcd")
        await client.close()
