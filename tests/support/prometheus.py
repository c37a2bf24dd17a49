"""A real Prometheus for a test."""

import shutil
import signal
import subprocess
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

from tests.support.ports import free_port

UNPACKED = Path(__file__).parents[2] / ".cache" / "prometheus" / "usr" / "bin"


class RunningPrometheus:
    """One process with its data in a folder; `config` is its file."""

    def __init__(self, folder: Path, config: str = "{}") -> None:
        binary = shutil.which("prometheus") or shutil.which("prometheus", path=UNPACKED)
        assert binary, "there is no prometheus on PATH; `sh tools/prometheus.sh` unpacks Debian's"
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        folder.mkdir(exist_ok=True)
        file = folder / "prometheus.yml"
        file.write_text(config)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def ready(self) -> bool:
        """Say whether it takes queries."""
        try:
            with urlopen(f"{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    def end(self) -> None:
        """Kill it, also while it is stopped; once more does no harm."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
