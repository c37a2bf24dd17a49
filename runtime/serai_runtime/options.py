"""What `serai-runtime` may be told; the same values travel from the supervisor to its workers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class Options:
    """Settings of one runtime; `concurrency` and `queue` are per process, times in seconds."""

    predictor: str
    host: str = "127.0.0.1"
    ports: tuple[int, ...] = (DEFAULT_PORT,)
    threads: int = 1
    concurrency: tuple[int, ...] = ()
    queue: int = 8
    config: str = ""
    batch_max_size: int = 0
    batch_max_wait_ms: float = 5.0
    body_max_bytes: int = 32 * 2**20
    total_timeout_s: float = 600.0
    deregistration_delay_s: float = 0.0
    drain_limit_s: float = 600.0
    project_dir: str = ""
    log_format: str = "json"
    api: str = ""
    version: str = ""
    replica: str = ""
    status_file: str = ""
    access_log: bool = False

    @property
    def processes(self) -> int:
        return len(self.ports)

    @property
    def folder(self) -> Path:
        """Return the user's folder: its working directory and where its imports are found."""
        return Path(self.project_dir) if self.project_dir else Path(self.predictor).parent

    def concurrency_of(self, process: int) -> int | None:
        """Return how many requests a process runs at once, or None when it was not told."""
        if not self.concurrency:
            return None
        return self.concurrency[min(process, len(self.concurrency) - 1)]


def to_json(options: Options) -> str:
    return json.dumps(asdict(options))


def from_json(text: str) -> Options:
    raw: dict[str, Any] = json.loads(text)
    raw["ports"] = tuple(raw["ports"])
    raw["concurrency"] = tuple(raw["concurrency"])
    return Options(**raw)
