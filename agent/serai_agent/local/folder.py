"""A replica's folder on disk: what it was ordered to be, and what its keeper recorded."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from serai import wire
from serai.errors import ConfigError
from serai.model import Exit, Value, Version
from serai_agent.local.keeper import start_time_of, write_json

LOG_LIMIT_BYTES = 10 * 2**20
LOG_COUNT = 5
DEFAULT_GRACE_S = 30.0


class Order(Value):
    """What the engine keeps of a replica so that it can adopt it after a crash."""

    replica: str
    version: Version
    ports: tuple[int, ...]
    created_at_s: float


class KeeperState(Value):
    """What the keeper told of the program; None where it has not happened."""

    keeper_pid: int
    keeper_start: str | None
    pid: int
    began_at_s: float
    ended_at_s: float | None
    exit_code: int | None
    signal: str | None
    oom: bool
    asked: bool
    why: str

    @property
    def exit(self) -> Exit:
        return Exit(exit_code=self.exit_code, signal=self.signal, oom=self.oom)

    @property
    def keeper_lives(self) -> bool:
        """Say whether the keeper still runs; a reused process id is told apart."""
        return self.keeper_start is not None and (
            start_time_of(self.keeper_pid) == self.keeper_start
        )


class ReplicaFolder:
    """Paths and records of one replica."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"

    def create(self, order: Order) -> None:
        """Make the folder with its order; OSError when the disk does not let us."""
        (self.path / "tmp").mkdir(parents=True, exist_ok=True)
        temporary = self.path / "replica.json.new"
        temporary.write_bytes(wire.encode(order))
        temporary.replace(self.path / "replica.json")

    def order(self) -> Order | None:
        """Return the order, or None when it cannot be read."""
        try:
            return wire.decode((self.path / "replica.json").read_bytes(), Order)
        except (OSError, ConfigError):
            return None

    def write_command(
        self, arguments: tuple[str, ...], environment: dict[str, str], folder: Path
    ) -> None:
        """Write what the keeper is to run."""
        order: dict[str, Any] = {
            "command": list(arguments),
            "environment": environment,
            "folder": str(folder),
            "log_limit_bytes": LOG_LIMIT_BYTES,
            "log_count": LOG_COUNT,
            "grace_s": DEFAULT_GRACE_S,
        }
        write_json(str(self.path / "order.json"), order)

    def state(self) -> KeeperState | None:
        """Return what the keeper recorded, or None before it has."""
        try:
            return wire.decode((self.path / "state.json").read_bytes(), KeeperState)
        except (OSError, ConfigError):
            return None

    def runtime_failure(self) -> str:
        """Return why the runtime gave up, in its own words, or "" when it did not say."""
        failure = self._runtime().get("failure")
        return str(failure.get("reason", "")) if isinstance(failure, dict) else ""

    def runtime_restarts(self) -> int:
        """Return how many of the replica's processes have been started again."""
        processes = self._runtime().get("processes")
        return sum(int(p.get("restarts", 0)) for p in processes) if processes else 0

    def _runtime(self) -> dict[str, Any]:
        try:
            raw = json.loads((self.path / "runtime.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return raw if isinstance(raw, dict) else {}

    def mark_ended(self, at_s: float, why: str) -> None:
        """Remember an end that no keeper recorded."""
        with contextlib.suppress(OSError):
            write_json(str(self.path / "ended.json"), {"at_s": at_s, "why": why})

    def ended(self) -> tuple[float, str] | None:
        """Return when and why it ended, when `mark_ended` said so."""
        try:
            raw = json.loads((self.path / "ended.json").read_bytes())
            return float(raw["at_s"]), str(raw["why"])
        except (OSError, ValueError, KeyError):
            return None

    def set_grace(self, grace_s: float) -> None:
        """Tell the keeper how long the program may take to end."""
        with contextlib.suppress(OSError):
            (self.path / "grace").write_text(str(grace_s))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def clean(self) -> None:
        """Remove what an ended replica needs no more; logs and records stay."""
        shutil.rmtree(self.path / "tmp", ignore_errors=True)


def lives(pid: int) -> bool:
    """Say whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
