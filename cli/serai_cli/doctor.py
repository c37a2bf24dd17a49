"""`serai doctor`: what this machine has and lacks, each line with what to do next."""

import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from serai.errors import SeraiError
from serai.operator import Examination, Finding, Info, Verdict
from serai_cli import targets
from serai_cli.client import Client
from serai_cli.whereabouts import folder_in_use

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL
FEW_FILES = 4096
LITTLE_DISK_BYTES = 2 * 2**30
SCHEDULER_LIMIT_S = 15.0
"""Longer than a scheduler waits for what it asks."""


def examine() -> Iterator[Finding]:
    """Yield a finding for each thing that Serai depends on, here and then in the cluster."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python, _haproxy, _uv, _files, _disk, _ports, _docker,
    )  # fmt: skip
    for check in checks:
        yield check()
    yield from _scheduler()


def _finding(verdict: Verdict, what: str, told: str) -> Finding:
    return Finding(verdict=verdict, what=what, told=told)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return _finding(OK, "python", f"{version} at {sys.executable}")


def _haproxy() -> Finding:
    try:
        from serai_agent.edge.process import find
    except ImportError:
        return _finding(WARN, "haproxy", "only the CLI is installed here; `serai up` needs more")
    try:
        program, version = find()
    except SeraiError as error:
        return _finding(FAIL, "haproxy", str(error))
    return _finding(OK, "haproxy", f"{version} at {program}")


def _uv() -> Finding:
    try:
        import uv

        return _finding(OK, "uv", str(uv.find_uv_bin()))
    except (ImportError, FileNotFoundError):
        return _finding(FAIL, "uv", "not installed; pip install uv (requirements need it)")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"{soft} open files, at most {hard}"
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        return _finding(WARN, "files", f"{told}: few connections fit; raise it with ulimit -n")
    return _finding(OK, "files", told)


def _disk() -> Finding:
    folder = folder_in_use()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free
    told = f"{free / 2**30:.1f} GiB free for {folder}"
    if not os.access(there, os.W_OK):
        return _finding(FAIL, "data", f"{there} is not writable; choose --data-dir")
    return _finding(OK if free > LITTLE_DISK_BYTES else WARN, "data", told)


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
        return _finding(WARN, "ports", f"{', '.join(taken)} in use (by a `serai up`, perhaps)")
    return _finding(OK, "ports", "8080 and 7070 are free")


def _docker() -> Finding:
    if Path("/var/run/docker.sock").exists():
        return _finding(OK, "docker", "dockerd has a socket here")
    return _finding(WARN, "docker", "no dockerd: APIs of containers cannot run here")


def _scheduler() -> Iterator[Finding]:
    """Yield whether a scheduler answers, and what it finds of its cluster."""
    try:
        target = targets.find()
        client = Client(target, deadline_s=SCHEDULER_LIMIT_S)
        info = client.get("/v1/info", Info)
        yield _finding(OK, "scheduler", f"{info.serai_version} at {target.url}")
        yield from client.get("/v1/doctor", Examination).findings
    except SeraiError as error:
        yield _finding(WARN, "scheduler", str(error))
