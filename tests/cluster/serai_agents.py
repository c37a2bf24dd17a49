"""Real `serai-agent` processes beside a real Consul, each with a HAProxy that outlives it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from serai import wire
from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.leader import LEADER
from serai.consul.services import meta_of, service_name
from serai.consul.store import ConsulStore
from serai.errors import Unavailable
from serai.model import Server
from serai.routes import ROUTES, Route
from serai.store import Write
from tests.cluster.agents import Agent, ConsulAgent
from tests.support.gateways import PROGRAMS
from tests.support.ports import free_port
from tests.support.wait import until

PROGRAM = str(Path(sys.executable).parent / "serai-agent")
START_LIMIT_S = 20.0


class SeraiAgent(Agent):
    """One agent with its data folder; `roles` are those of its node."""

    def __init__(
        self,
        folder: Path,
        consul_port: int,
        roles: Sequence[str] = ("gateway",),
        consul_token: str = "",
        token: str = "agent-token",
        haproxy: str = "",
    ) -> None:
        """`haproxy` is a program other than the one that the agent finds."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name = folder.name
        self.gateway, self.listen, self.data = free_port(), free_port(), folder / "data"
        self.token = token
        (folder / "token").write_text(self.token + "\n")
        (folder / "consul-token").write_text(consul_token)
        token_file = f"{folder}/consul-token" if consul_token else ""
        (folder / "agent.toml").write_text(
            f"""
node = "{self.name}"
roles = {json.dumps(list(roles))}
data_dir = "{self.data}"
[consul]
port = {consul_port}
token_file = "{token_file}"
[scheduler]
token_file = "{folder}/token"
[listen]
port = {self.listen}
[gateway]
port = {self.gateway}
program = "{haproxy}"
check_period_s = 0.2
notice_s = 0.5
drain_limit_s = 20
"""
        )
        super().__init__(folder, [PROGRAM, "--config", str(folder / "agent.toml")])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway}"

    def start(self) -> None:
        super().start()
        until(self.alive, START_LIMIT_S, f"the agent does not answer: {self.log()}")

    def alive(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        with contextlib.suppress(OSError):
            return self._ask("/healthz")[0] == 200
        return False

    def problems(self) -> list[str]:
        """Return why it is not ready; an empty list when it is."""
        found: list[str] = json.loads(self._ask("/readyz")[1])["problems"]
        return found

    def ready(self) -> bool:
        return not self.problems()

    def metrics(self, path: str = "/metrics") -> str:
        return self._ask(path)[1]

    def _ask(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self.listen}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def haproxy(self) -> int | None:
        """Return the process id of its HAProxy, as far as there is one."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data / "gateway" / "haproxy.pid").read_text())
            os.kill(pid, 0)
            return pid
        return None

    def drain(self) -> subprocess.Popen[bytes]:
        """Begin to drain it as an operator does."""
        return subprocess.Popen([*self.command, "--drain"], stderr=subprocess.PIPE)

    def stop(self) -> None:
        super().stop()
        pid = self.haproxy()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


@contextmanager
def agents(folder: Path, beside: ConsulAgent, *names: str) -> Iterator[list[SeraiAgent]]:
    """Run gateways of these names for as long as the block lasts, each version in turn."""
    made = [
        SeraiAgent(folder / name, beside.port, haproxy=haproxy)
        for name, haproxy in zip(names, cycle(PROGRAMS.values()), strict=False)
    ]
    try:
        for agent in made:
            agent.start()
        yield made
    finally:
        for agent in made:
            agent.stop()


class Orders:
    """What a leader and its replicas tell Consul, for an `async with` block."""

    def __init__(self, consul_port: int, token: str = "") -> None:
        self._client = ConsulClient(ConsulSettings(port=consul_port, token=token))
        self.store = ConsulStore(self._client, SystemClock())
        self.epoch = 0
        self._session = ""

    async def __aenter__(self) -> "Orders":
        self.epoch = await self.store.raise_epoch()
        made = await self._client.put("/v1/session/create", {"LockDelay": "0s"})
        self._session = str(made.decoded(dict)["ID"])
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(Unavailable):  # some tests end Consul
            await self._client.put(f"/v1/session/destroy/{self._session}", None)
        await self._client.close()

    async def lead(self, epoch: int, address: str = "") -> None:
        """Become the leader of an epoch, who holds the lock."""
        leader = {"epoch": epoch, "address": address}
        held = {"acquire": self._session}
        answer = await self._client.put(f"/v1/kv/serai/{LEADER}", leader, held)
        assert answer.decoded(bool), "somebody else holds the lock"
        self.epoch = epoch

    async def order(self, *routes: Route) -> None:
        writes = [Write(key=ROUTES + one.api, value=wire.encode(one)) for one in routes]
        await self.store.commit(writes, self.epoch)

    async def delete(self, api: str) -> None:
        await self.store.commit([Write(key=ROUTES + api, value=None)], self.epoch)

    async def register(self, server: Server) -> None:
        """Register a server that passes its check until somebody says otherwise."""
        check = {"CheckID": f"ready:{server.id}", "TTL": "1h", "Status": "passing"}
        await self._client.put(
            "/v1/agent/service/register",
            {
                "ID": server.id,
                "Name": service_name(server.api),
                "Address": server.host,
                "Port": server.port,
                "Meta": meta_of(server, 0),
                "Check": check,
            },
        )

    async def deregister(self, server: Server) -> None:
        await self._client.put(f"/v1/agent/service/deregister/{server.id}", None)

    async def token_with(self, rules: str, name: str) -> str:
        """Make a token of Consul's that may do what the rules say, and nothing else."""
        await self._client.put("/v1/acl/policy", {"Name": name, "Rules": rules})
        made = await self._client.put("/v1/acl/token", {"Policies": [{"Name": name}]})
        return str(made.decoded(dict)["SecretID"])

    async def checks(self) -> dict[str, str]:
        """Return the state of each gateway's check, by the gateway's name."""
        answer = await self._client.get("/v1/health/checks/serai-gateway")
        found: list[dict[str, Any]] = answer.decoded(list)
        return {one["ServiceID"].removeprefix("serai-gateway-"): one["Status"] for one in found}
