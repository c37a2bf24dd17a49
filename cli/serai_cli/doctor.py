"""`serai doctor`: what this machine has and lacks, each line with what to do next."""

import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from serai.errors import SeraiError
from serai.operator import Info
from serai_cli import targets
from serai_cli.client import Client
from serai_cli.whereabouts import folder_in_use

OK, WARN, FAIL = "ok", "warn", "fail"
FEW_FILES = 4096
LITTLE_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    verdict: str
    what: str
    told: str


def examine() -> Iterator[Finding]:
    """Yield a finding for each thing that Serai depends on."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python, _haproxy, _uv, _files, _disk, _ports, _docker, _scheduler,
    )  # fmt: skip
    for check in checks:
        yield check()


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(OK, "python", f"{version} at {sys.executable}")


def _haproxy() -> Finding:
    try:
        from serai_agent.edge.process import find
    except ImportError:
        return Finding(WARN, "haproxy", "only the CLI is installed here; `serai up` needs more")
    try:
        program, version = find()
    except SeraiError as error:
        return Finding(FAIL, "haproxy", str(error))
    return Finding(OK, "haproxy", f"{version} at {program}")


def _uv() -> Finding:
    try:
        import uv

        return Finding(OK, "uv", str(uv.find_uv_bin()))
    except (ImportError, FileNotFoundError):
        return Finding(FAIL, "uv", "not installed; pip install uv (requirements need it)")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"{soft} open files, at most {hard}"
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        return Finding(WARN, "files", f"{told}: few connections fit; raise it with ulimit -n")
    return Finding(OK, "files", told)


def _disk() -> Finding:
    folder = folder_in_use()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free
    told = f"{free / 2**30:.1f} GiB free for {folder}"
    if not os.access(there, os.W_OK):
        return Finding(FAIL, "data", f"{there} is not writable; choose --data-dir")
    return Finding(OK if free > LITTLE_DISK_BYTES else WARN, "data", told)


def _ports() -> Finding:
    taken = []
    for port in (8080, 7070):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(str(port))
    if taken:
        return Finding(WARN, "ports", f"{', '.join(taken)} in use (by a `serai up`, perhaps)")
    return Finding(OK, "ports", "8080 and 7070 are free")


def _docker() -> Finding:
    if Path("/var/run/docker.sock").exists():
        return Finding(OK, "docker", "dockerd has a socket here")
    return Finding(WARN, "docker", "no dockerd: APIs of containers cannot run here")


def _scheduler() -> Finding:
    try:
        target = targets.find()
        info = Client(target, deadline_s=5.0).get("/v1/info", Info)
    except SeraiError as error:
        return Finding(WARN, "scheduler", str(error))
    return Finding(OK, "scheduler", f"{info.serai_version} at {target.url}")
