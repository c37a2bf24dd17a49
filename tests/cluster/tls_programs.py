"""Certificates of engines that speak TLS, right and wrong, and Serai's programs that call them."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.agents import Agent
from tests.cluster.nomad import NAMES, NomadAgent
from tests.cluster.operating import Operator
from tests.cluster.serai_cluster import ADMIN_TOKEN, AGENT_TOKEN, PLATFORM
from tests.support.certificates import Authority, Tls
from tests.support.examples import AGENT, SCHEDULER, with_values
from tests.support.ports import free_port
from tests.support.serai import call

BIN = Path(sys.executable).parent
UPDATE_LIMIT_S = 45.0
"""How long a new version may take until it is given up."""
OTHER_CA, OTHER_NAME = "a certificate of another CA", "another name than the certificate's"
NOTHING_SHOWN, STRANGE = "nothing is shown", "what is shown is of another CA"
EXPIRED = "a certificate whose time is over"
TOLD = {
    OTHER_CA: "(unable to get local issuer certificate); name the certificates that it is checked "
    "by in `{section}.ca`",
    OTHER_NAME: "(Hostname mismatch, certificate is not valid for 'localhost'); call it in "
    "`{address}` as that does, or give it one for the name it is called by",
    EXPIRED: "(certificate has expired); renew the certificate there, or set the clock here",
}
ASKS = "it asks for a certificate, and none is shown"
REFUSES = "it refuses this program's certificate"
SHOW = (
    "name one that its CA has signed, and the key, in `{section}.certificate` and `{section}.key`"
)


def refused(told: str, how: str, address: str) -> bool:
    """Say whether a message tells this fault; `address` is the setting that holds the name."""
    section = address.partition(".")[0]
    if how in TOLD:
        words = f"its certificate cannot be verified {TOLD[how]}"
        return words.format(section=section, address=address) in told
    if "does not answer" in told:  # the end of the connection has overtaken the reason
        return f"it may refuse this program's certificate: see `{section}.certificate`" in told
    why = ASKS if how == NOTHING_SHOWN else REFUSES
    return why in told and SHOW.format(section=section) in told


@dataclass(frozen=True)
class Side:
    """How something calls an engine: by which name, trusting whom, showing what."""

    tls: Tls
    host: str = "127.0.0.1"


class Certificates:
    """Those of the engines, of who calls them, and of strangers."""

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder / "ours")
        self._strangers = strangers = Authority(folder / "strangers")
        self.engines, self.serai = self.renew(), self._authority.issue("serai")
        self.stranger = strangers.issue("stranger")

    def renew(self, days: int = 2) -> Tls:
        """Put another certificate of the engines in the place of the one before."""
        return self._authority.issue("engines", NAMES, days)

    @property
    def right(self) -> Side:
        return Side(self.serai)

    @contextmanager
    def replaced(self, program: Agent) -> Iterator[None]:
        """Let an engine that runs show a certificate of another CA for that time."""
        shown = [Path(name) for name in (self.engines.certificate, self.engines.key)]
        others = self._strangers.issue("engines", NAMES)
        for file, other in zip(shown, (others.certificate, others.key), strict=True):
            file.write_bytes(Path(other).read_bytes())
        program.reload()
        try:
            yield
        finally:
            self.renew()
            program.reload()

    @contextmanager
    def wrong_for(self, program: Agent, how: str) -> Iterator[Side]:
        """Yield how to call an engine with a fault, which may be the engine's for that time."""
        if how != EXPIRED:
            yield self.wrong(how)
            return
        self.renew(days=-1)
        program.reload()
        try:
            yield self.right
        finally:
            self.renew()
            program.reload()

    def wrong(self, how: str) -> Side:
        nothing = Tls(ca=self.serai.ca, certificate="", key="")
        return {
            OTHER_CA: Side(self.serai.trusting(self.stranger)),
            OTHER_NAME: Side(self.serai, "localhost"),
            NOTHING_SHOWN: Side(nothing),
            STRANGE: Side(self.serai.showing(self.stranger)),
        }[how]


class Programs:
    """A scheduler and an agent that call Nomad and Consul as they are told to."""

    def __init__(self, folder: Path, engine: NomadAgent, of_nomad: Side, of_consul: Side) -> None:
        folder.mkdir()
        self.folder, self.engine = folder, engine
        self._nomad, self._consul = of_nomad, of_consul
        self.operator_port, self.gateway_port, self.listen_port = (free_port() for _ in range(3))
        (folder / "admin.token").write_text(ADMIN_TOKEN)
        (folder / "agent.token").write_text(AGENT_TOKEN)
        self.scheduler = self._program("scheduler", self._scheduler())
        self.agent = self._program("agent", self._agent())
        self.operator = Operator(f"http://127.0.0.1:{self.operator_port}", ADMIN_TOKEN)

    def _program(self, name: str, config: str) -> Agent:
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.toml").write_text(config)
        command = [str(BIN / f"serai-{name}"), "--config", str(folder / "config.toml")]
        return Agent(folder, command)

    def _scheduler(self) -> str:
        values: dict[str, object] = {
            "data_dir": str(self.folder / "data" / "scheduler"),
            "gateway_url": f"http://127.0.0.1:{self.gateway_port}",
            "advertise": f"http://127.0.0.1:{self.operator_port}",
            "peers_ca": "",
            "blobs": "",
            "listen.host": "127.0.0.1",
            "listen.port": self.operator_port,
            "listen.certificate": "",
            "listen.key": "",
            "tokens.admin": str(self.folder / "admin.token"),
            "tokens.agent": str(self.folder / "agent.token"),
            "predictors.python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "consul.token_file": "",
            "nomad.tls": True,
            "nomad.host": self._nomad.host,
            "nomad.port": self.engine.port,
            "nomad.token_file": "",
            "jobs.cache_dir": str(self.folder / "data" / "agent" / "cache"),
            "jobs.platform": PLATFORM,
            "lease.ttl_s": 4.0,
            "lease.margin_s": 1.0,
            "updates.ready_s": UPDATE_LIMIT_S,
        }
        return with_values(SCHEDULER, {**values, **self._both()})

    def _agent(self) -> str:
        values: dict[str, object] = {
            "node": socket.gethostname(),
            "data_dir": str(self.folder / "data" / "agent"),
            "scheduler.token_file": str(self.folder / "agent.token"),
            "listen.port": self.listen_port,
            "nomad.address": f"https://{self._nomad.host}:{self.engine.port}",
            "gateway.host": "127.0.0.1",
            "gateway.port": self.gateway_port,
            "gateway.certificate": "",
        }
        return with_values(AGENT, {**values, **self._both()})

    def _both(self) -> dict[str, object]:
        """Return what both files hold of TLS."""
        of_nomad = {f"nomad.{key}": value for key, value in asdict(self._nomad.tls).items()}
        of_consul = {f"consul.{key}": value for key, value in asdict(self._consul.tls).items()}
        where = {"consul.host": self._consul.host, "consul.port": self.engine.beside.https}
        return {**of_nomad, **of_consul, **where, "consul.tls": True}

    def doctor(self, verdict: str, what: str) -> str:
        """Return what `serai doctor` says of a thing with this verdict."""
        begin = f"{verdict:<8} {what:<11} "
        lines = self.operator.run("doctor").stdout.splitlines()
        return "\n".join(line for line in lines if line.startswith(begin))

    def problems(self) -> str:
        """Return why the agent is not ready, as its `/readyz` tells."""
        with contextlib.suppress(OSError):
            return str(call(f"http://127.0.0.1:{self.listen_port}/readyz").body, "utf-8")
        return ""

    def reported(self) -> str:
        """Return what the agent reports of its Nomad."""
        reports = [one["report"] for one in self.operator.json("nodes")["nodes"]]
        return "".join(one["nomad"]["problem"] for one in reports if one and one["nomad"])

    def log(self) -> str:
        return self.scheduler.log() + self.agent.log()


@contextmanager
def programs(
    folder: Path, engine: NomadAgent, of_nomad: Side, of_consul: Side
) -> Iterator[Programs]:
    made = Programs(folder, engine, of_nomad, of_consul)
    try:
        made.scheduler.start()
        made.agent.start()
        yield made
    finally:
        made.agent.stop()
        made.scheduler.stop()
        pid = made.folder / "data" / "agent" / "gateway" / "haproxy.pid"
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int(pid.read_text()), signal.SIGKILL)
