"""`serai up`: a whole Serai on one machine, in one process plus HAProxy and the replicas.

The only part of the CLI that imports the other components; they are imported when it runs.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Allowed", "run_down", "run_up"]


@dataclass(frozen=True)
class Allowed:
    """What specs may use: folders to mount, one with modules of policies, a Prometheus' URL."""

    mount_roots: tuple[str, ...] = ()
    policies: str = ""
    prometheus: str = ""


def run_up(
    port: int,
    control_port: int,
    host: str,
    insecure: bool,
    data_dir: Path | None,
    allowed: Allowed,
    detach: bool,
) -> int:
    """Serve until told to stop (or, detached, until it serves); return the exit status."""
    from serai_cli.embedded.node import Listening
    from serai_cli.embedded.start import up

    return up(Listening(host, port, control_port, insecure), data_dir, allowed, detach)


def run_down(data_dir: Path | None) -> int:
    """End the Serai of a data folder with its HAProxy and replicas; return the exit status."""
    from serai_cli.embedded.start import down

    return down(data_dir)
