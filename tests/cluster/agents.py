"""Real agents of the engines on free ports, in folders of their own; none outlives its test run."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.support.certificates import Tls
from tests.support.ports import free_port
from tests.support.stopping import stand_still
from tests.support.wait import until

PROGRAMS = Path(__file__).parents[2] / ".engine" / "bin"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0


def program(name: str) -> str:
    """Return the path of an engine's program; a test that needs one fails without it."""
    path = PROGRAMS / name
    assert path.exists(), f"{path} is missing: run `make engine`"
    return str(path)


class Agent:
    """One process that dies with the test run; what it says is in FOLDER/log."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder = folder
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, anew after an end: its data are kept."""
        # The kernel ends it when this process dies, however that happens.
        command = ["setpriv", "--pdeathsig", "KILL", *self.command]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def log(self) -> str:
        """Return the end of what it said."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def pause(self) -> None:
        """Let it stand still, as a process on an overloaded machine does."""
        assert self.process is not None
        stand_still(self.process.pid)

    def resume(self) -> None:
        """Let it go on after a pause."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """Let it read its files anew, as an engine does with certificates that were renewed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_LIMIT_S)

    def stop(self) -> None:
        """End it in order, or by force when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_LIMIT_S)


class ConsulAgent(Agent):
    """A Consul server alone, with its data on the disk."""

    def __init__(self, folder: Path, token: str = "", tls: Tls | None = None) -> None:
        """With a `token`, nothing is allowed without it.

        With `tls` it also listens at `https`, for those who show a certificate of the same CA.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.tls, self.https = tls, free_port()
        self.port, self.dns = free_port(), free_port()
        settings: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": 1,
            "data_dir": str(folder / "data"),
            "node_name": folder.name,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "disable_update_check": True,
            "session_ttl_min": "1s",
            "performance": {"raft_multiplier": 1},
            "limits": {"http_max_conns_per_client": 700},
            "ports": {
                **{"http": self.port, "dns": self.dns},
                **{"server": free_port(), "serf_lan": free_port(), "serf_wan": -1},
                **{"grpc": -1, "grpc_tls": -1},
            },
        }
        if token:
            tokens = {"initial_management": token, "agent": token}
            settings["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        if tls:
            settings["ports"]["https"] = self.https
            shown = {"ca_file": tls.ca, "cert_file": tls.certificate, "key_file": tls.key}
            settings["tls"] = {"https": {"verify_incoming": True, **shown}}
        self._token = token
        (folder / "consul.json").write_text(json.dumps(settings))
        command = [program("consul"), "agent", "-config-file", str(folder / "consul.json")]
        super().__init__(folder, command)

    def ready(self) -> bool:
        """Say whether it has a leader and knows its own node."""
        assert self.process is not None and self.process.poll() is None, self.log()
        url = f"http://127.0.0.1:{self.port}/v1/catalog/nodes"
        try:
            with urlopen(
                Request(url, headers={"X-Consul-Token": self._token}), timeout=2
            ) as answer:
                return bool(json.load(answer))
        except (URLError, OSError, ValueError):
            return False

    def start(self) -> None:
        super().start()
        until(self.ready, START_LIMIT_S, f"Consul is not ready: {self.log()}")


@contextmanager
def consul(folder: Path, token: str = "", tls: Tls | None = None) -> Iterator[ConsulAgent]:
    """Run a Consul for as long as the block lasts."""
    agent = ConsulAgent(folder, token, tls)
    try:
        agent.start()
        yield agent
    finally:
        agent.stop()
