"""The engine's side of the keepers: start one, ask it to end, clear up after a dead one."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from pathlib import Path

from serai import wire
from serai.errors import ConfigError, Unavailable
from serai_agent.leftovers import end_marked
from serai_agent.local.folder import Launch, ReplicaFolder, Stop, disk_error

KEEPER = Path(__file__).with_name("keeper.py")
START_LIMIT_S = 20.0


async def launch(folder: ReplicaFolder, order: Launch) -> None:
    """Start a keeper and return once its child runs.

    Raises ConfigError when the program cannot be run, Unavailable when the machine cannot.
    """
    lock_fd = take_lock(folder)
    try:
        await _launch(folder, order, lock_fd)
    finally:
        os.close(lock_fd)


def take_lock(folder: ReplicaFolder) -> int:
    """Return the lock of a replica that has no keeper, as an open file for its keeper to be.

    Raises Unavailable when the disk refuses, or when the replica has a keeper after all.
    """
    try:
        fd = os.open(folder.path / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise disk_error(error, folder.path) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise Unavailable("an earlier keeper of the replica still lives") from error
    return fd


async def _launch(folder: ReplicaFolder, order: Launch, lock_fd: int) -> None:
    folder.drop("state.json", "stop.json", "status.json", "ready.json")
    folder.write("launch.json", wire.encode(order))
    command = (sys.executable, "-I", "-S", "-E", str(KEEPER), str(folder.path), str(lock_fd))
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={},
            pass_fds=(lock_fd,),
        )
    except OSError as error:
        raise disk_error(error, folder.path) from error
    try:
        async with asyncio.timeout(START_LIMIT_S):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        ask_to_end(folder, 0.0)
        raise Unavailable(f"the replica's keeper did not start within {START_LIMIT_S} s") from None
    if process.returncode == 0:
        return
    why = said.decode("utf-8", "replace").strip()
    if "No space left" in why:
        raise Unavailable(f"the disk that holds {folder.path} is full; free some space")
    raise ConfigError(
        f"cannot run {order.command[0]}: {why or f'exit {process.returncode}'}; name a program on "
        "this node's PATH, or an executable file of the folder as ./NAME"
    )


def ask_to_end(folder: ReplicaFolder, grace_s: float) -> None:
    """Tell a living keeper to end its child; a grace that cannot be written down is the default."""
    with contextlib.suppress(Unavailable):
        folder.write("stop.json", wire.encode(Stop(grace_s=grace_s)))
    state = folder.keeper_state()
    if state is not None and folder.keeper_lives():
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.keeper_pid, signal.SIGTERM)


def end_leftovers(folder: ReplicaFolder) -> int:
    """Kill what a dead keeper left running; return how many processes that were.

    They are recognised by their TMPDIR, which no other replica has. For a thread.
    """
    return end_marked("TMPDIR", str(folder.temporary))
