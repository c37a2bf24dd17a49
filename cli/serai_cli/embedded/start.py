"""Starting and ending a one-machine Serai, in the foreground or detached."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from serai.errors import ConfigError
from serai_cli.embedded import Allowed
from serai_cli.embedded.folder import DataFolder, Endpoint
from serai_cli.embedded.node import Listening
from serai_cli.embedded.serve import end_leftovers, serve
from serai_cli.whereabouts import folder_in_use, usual_folder
from serai_scheduler.autoscale.metric.address import address_fault

START_LIMIT_S = 30.0
STOP_LIMIT_S = 700.0
POLL_S = 0.05


def up(listening: Listening, data_dir: Path | None, allowed: Allowed, detach: bool) -> int:
    """Serve in the foreground, or start a process that does and wait until it serves."""
    listening.check()
    if fault := address_fault(allowed.prometheus):
        raise ConfigError(f"--prometheus: {fault}")
    folder = DataFolder(data_dir or usual_folder())
    if detach:
        return _up_detached(listening, folder, allowed)
    folder.hold()
    return asyncio.run(serve(folder, listening, allowed))


def _up_detached(listening: Listening, folder: DataFolder, allowed: Allowed) -> int:
    folder.hold()  # what is wrong with it is told here, since the log would be in it
    folder.release()
    log_path = folder.path / "serai.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serai_cli", "up"),
                *("--port", str(listening.gateway_port), "--host", listening.host),
                *("--control-port", str(listening.control_port)),
                *(("--insecure",) if listening.insecure else ()),
                *("--data-dir", str(folder.path)),
                *(f"--allow-mount={root}" for root in allowed.mount_roots),
                *((f"--policies={allowed.policies}",) if allowed.policies else ()),
                *((f"--prometheus={allowed.prometheus}",) if allowed.prometheus else ()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + START_LIMIT_S  # noqa: TID251  # no loop runs here
    while time.monotonic() < deadline_s:  # noqa: TID251
        endpoint = folder.endpoint()
        if endpoint is not None and endpoint.pid == process.pid:
            _print_welcome(endpoint, folder, log_path)
            return 0
        if process.poll() is not None:
            tail = log_path.read_text(errors="replace").splitlines()[-1:]
            told = tail[0].removeprefix("serai: ") if tail else ""
            raise ConfigError(told or "serai up ended at once; without --detach it says why")
        time.sleep(POLL_S)  # noqa: TID251
    process.terminate()
    raise ConfigError(f"serai up did not serve within {START_LIMIT_S:g} s; see {log_path}")


def _print_welcome(endpoint: Endpoint, folder: DataFolder, log_path: Path) -> None:
    print(f"Serai serves at {endpoint.gateway_url} (process {endpoint.pid})")
    print(f"  log    {log_path}")
    print("  next   serai deploy FOLDER | serai get | serai down")


def down(data_dir: Path | None) -> int:
    """End the process that holds the folder; it drains first."""
    folder = DataFolder(data_dir or folder_in_use())
    holder = folder.holder()
    if holder is None:
        return _end_leftovers(folder)
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_LIMIT_S  # noqa: TID251
    while folder.holder() == holder:
        if time.monotonic() > deadline_s:  # noqa: TID251
            raise ConfigError(f"process {holder} did not end within {STOP_LIMIT_S:g} s")
        time.sleep(POLL_S)  # noqa: TID251
    print("Serai has ended; `serai up` brings all APIs back")
    return 0


def _end_leftovers(folder: DataFolder) -> int:
    """End what a crash left running: HAProxy and replicas outlive the process on purpose."""
    if not folder.path.exists():
        print(f"nothing runs: there is no data folder {folder.path}")
        return 0
    ended = asyncio.run(end_leftovers(folder))
    folder.withdraw()
    if ended:
        print(f"no `serai up` held {folder.path}; {ended} replicas that it had left were ended")
    else:
        print(f"nothing runs: no `serai up` holds {folder.path}")
    return 0
