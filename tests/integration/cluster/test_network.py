"""The network that cluster tests run in: machines see each other until a link is cut."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.network import Host, network, run
from tests.support.wait import until

SLOW_S = 0.1
MESSAGE = bytes(10_000)
ECHO = """
import socket, threading
def echo(one):
    while data := one.recv(65536):
        one.sendall(data)
listening = socket.create_server(("0.0.0.0", 9000))
while True:
    threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()
"""
SERVE = "import http.server as h; h.test(bind='0.0.0.0', port=9000)"


def reaches(one: Host, address: str) -> bool:
    probe = f"import socket; socket.create_connection(('{address}', 9000), 0.5)"
    command = one.inside([sys.executable, "-c", probe])
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_machines_see_each_other_until_a_link_is_cut(tmp_path: Path) -> None:
    with network() as made:
        one, two, three = (made.add(name) for name in ("one", "two", "three"))
        server = two.agent(tmp_path / "server", [sys.executable, "-c", SERVE])
        server.start()
        until(lambda: reaches(one, two.address))
        two.cut()
        assert (
            not reaches(one, two.address)
            and not reaches(three, two.address)
            and reaches(two, two.address)
        )
        two.mend()
        until(lambda: reaches(one, two.address) and reaches(three, two.address))
        with socket.create_connection((two.address, 9000), 2):
            pass  # the test itself is on the bridge, too
        assert server.process is not None
        process = server.process
    process.wait(5)
    assert str(made.owner) not in run("ip", "netns", "list") + run("ip", "link")
    assert made.bridge not in run("iptables", "-S", "FORWARD")


def test_a_link_is_slowed_also_for_what_is_connected_already(tmp_path: Path) -> None:
    with network() as made:
        one, two = made.add("one"), made.add("two")
        echo = two.agent(tmp_path / "echo", [sys.executable, "-c", ECHO])
        echo.start()
        until(lambda: reaches(one, two.address))
        with socket.create_connection((two.address, 9000), 2) as connected:
            assert quickest_s(connected) < SLOW_S
            with two.slowed(SLOW_S):
                assert 2 * SLOW_S < quickest_s(connected) < 6 * SLOW_S
                assert reaches(one, two.address)
            assert quickest_s(connected) < SLOW_S
        echo.kill()


def quickest_s(connected: socket.socket) -> float:
    """Return the least of several round trips: a busy machine makes any one of them longer."""
    return min(round_trip_s(connected) for _ in range(5))


def round_trip_s(connected: socket.socket) -> float:
    """Send what takes many frames, and wait until all of it has come back."""
    began_s = time.monotonic()  # noqa: TID251  # real lines take real time
    connected.sendall(MESSAGE)
    left = len(MESSAGE)
    while left:
        left -= len(connected.recv(left))
    return time.monotonic() - began_s  # noqa: TID251


def test_a_socket_of_the_test_listens_in_a_machine() -> None:
    with network() as made:
        one = made.add("one")
        with one.listen(9000) as listening:
            assert reaches(one, "127.0.0.1")
            listening.settimeout(2)
            listening.accept()[0].close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", 9000), 0.5)


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """The child makes a network with a process in it and is killed before it can clean up."""
    child = os.fork()
    if child == 0:
        with network() as made:
            orphan = made.add("one").inside(["setsid", "sleep", "1000"])
            (tmp_path / "pid").write_text(str(subprocess.Popen(orphan).pid))
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert f"-{child}-one" in run("ip", "netns", "list")
    with network():
        left = run("ip", "netns", "list") + run("ip", "link") + run("iptables", "-S", "FORWARD")
        assert str(child) not in left
        sleeping = int((tmp_path / "pid").read_text())
        until(lambda: not _runs(sleeping))


def _runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
