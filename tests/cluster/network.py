"""Machines of a network on one: namespaces on a bridge, each with an address of its own.

A link is cut by taking its end at the bridge down, as a pulled cable does; it is slowed by carrying
its frames. What a killed test run left is removed by the next one: the names hold the process id of
their owner.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.cluster.agents import Agent
from tests.cluster.slow_link import carried

NAMES = Path("/var/run/netns")
PREFIX = "serai-test"
CLONE_NEWNET = 0x40000000
MOST_HOSTS = 200


class Host:
    """One machine: a namespace with `eth0`, and the processes that were started in it."""

    def __init__(self, network: "Network", name: str, number: int) -> None:
        self.name = name
        self.address = f"{network.subnet}.{number}"
        self.namespace = f"{PREFIX}-{network.owner}-{name}"
        self._link = f"st{network.owner}-{number}"
        self._bridge = network.bridge

    def make(self) -> None:
        """Make the namespace and plug it in."""
        run("ip", "netns", "add", self.namespace)
        run(
            *("ip", "link", "add", self._link, "type", "veth"),
            *("peer", "name", "eth0", "netns", self.namespace),
        )
        run("ip", "link", "set", self._link, "master", self._bridge, "up")
        for command in (
            ("ip", "address", "add", f"{self.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
            ("ip", "link", "set", "lo", "up"),
        ):
            run(*self.inside(command))

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs in this machine's network, and otherwise as it is."""
        # `ip netns exec` would mount /sys anew, and hide the control groups below it.
        return ["nsenter", f"--net={NAMES / self.namespace}", *command]

    def agent(self, folder: Path, command: Sequence[str]) -> Agent:
        """Return a process of this machine, not yet started."""
        folder.mkdir(parents=True, exist_ok=True)
        return Agent(folder, self.inside(command))

    def processes(self) -> list[int]:
        """Return the ids of all processes in its network."""
        return [int(one) for one in run("ip", "netns", "pids", self.namespace).split()]

    def cut(self) -> None:
        """Take it off the network; what runs on it goes on."""
        run("ip", "link", "set", self._link, "down")

    def mend(self) -> None:
        """Plug it in again."""
        run("ip", "link", "set", self._link, "up")

    @contextmanager
    def slowed(self, delay_s: float) -> Iterator[None]:
        """Let all that it sends and gets be so much late for as long as the block lasts."""
        near, far = f"{self._link}n", f"{self._link}f"
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        try:
            for end in (near, self._link):  # else this machine answers what only passes through it
                run("ip", "link", "set", end, "arp", "off")
            run("ip", "link", "set", far, "master", self._bridge, "up")
            run("ip", "link", "set", self._link, "nomaster")
            run("ip", "link", "set", near, "up")
            with carried(self._link, near, delay_s):
                yield
        finally:
            run("ip", "link", "delete", near)
            run("ip", "link", "set", self._link, "arp", "on")
            run("ip", "link", "set", self._link, "master", self._bridge, "up")

    def listen(self, port: int) -> socket.socket:
        """Return a socket of this process that listens on the machine's loopback."""
        made: list[socket.socket] = []

        def enter() -> None:  # a namespace is a thread's, and this thread ends with it
            with (NAMES / self.namespace).open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    return
            made.append(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert made, f"cannot listen on port {port} of {self.name}"
        return made[0]


class Network:
    """A bridge with an address for this process, and its machines."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.bridge = f"sb{self.owner}"
        self.subnet = f"10.213.{_free_subnet()}"
        self.address = f"{self.subnet}.254"
        self.hosts: dict[str, Host] = {}

    def make(self) -> None:
        """Make the bridge, and let what passes over it through whatever dockerd has forbidden."""
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", f"{self.address}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        run("iptables", "-I", "FORWARD", *_passing(self.bridge))

    def add(self, name: str) -> Host:
        """Add a machine."""
        assert len(self.hosts) < MOST_HOSTS
        host = Host(self, name, len(self.hosts) + 1)
        host.make()
        self.hosts[name] = host
        return host


def run(*command: str) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


def _free_subnet() -> int:
    taken = set(re.findall(r"10\.213\.(\d+)\.254", run("ip", "-o", "-4", "address")))
    return next(number for number in range(256) if str(number) not in taken)


def _passing(bridge: str) -> tuple[str, ...]:
    return ("-i", bridge, "-o", bridge, "-j", "ACCEPT")


@contextmanager
def network() -> Iterator[Network]:
    """Have a network for as long as the block lasts; its processes end with it."""
    for owner in _owners():
        if not psutil.pid_exists(owner):
            remove(owner)
    made = Network()
    try:
        made.make()
        yield made
    finally:
        remove(made.owner)


def remove(owner: int) -> None:
    """Remove all that a process has made, and end what still runs in its namespaces."""
    names = [one for one in _namespaces() if one.startswith(f"{PREFIX}-{owner}-")]
    for name in names:
        for process in run("ip", "netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
    for name in names:
        run("ip", "netns", "delete", name)
    # A link goes with its namespace, but only when the last process of that is gone.
    for link in Path("/sys/class/net").glob(f"st{owner}-*"):
        with contextlib.suppress(AssertionError):  # it may go by itself at any moment
            run("ip", "link", "delete", link.name)
    bridge = f"sb{owner}"
    if Path(f"/sys/class/net/{bridge}").exists():
        run("ip", "link", "delete", bridge)
    rule = f"-A FORWARD {' '.join(_passing(bridge))}"
    for _ in range(run("iptables", "-S", "FORWARD").splitlines().count(rule)):
        run("iptables", "-D", "FORWARD", *_passing(bridge))


def _namespaces() -> list[str]:
    return sorted(path.name for path in NAMES.iterdir()) if NAMES.is_dir() else []


def _owners() -> set[int]:
    """Return the processes that have made namespaces or bridges."""
    names = [name.removeprefix(f"{PREFIX}-").partition("-")[0] for name in _namespaces()]
    bridges = [path.name.removeprefix("sb") for path in Path("/sys/class/net").glob("sb*")]
    return {int(one) for one in (*names, *bridges) if one.isdigit()}
