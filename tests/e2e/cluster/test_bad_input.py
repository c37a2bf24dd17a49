"""Versions that cannot come to serve, on one machine with everything real.

Each is told by its plain reason in the deploy's output; the version before serves all the time,
and nothing of the new one is left.
"""

import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from serai_cli.exits import REFUSED
from tests.cluster.serai_agents import SeraiAgent
from tests.cluster.serai_machine import READY_S, SeraiMachine, serai_machine
from tests.support.gateway_traffic import Traffic, steady
from tests.support.http_program import PYTHON, container, program, serving, write_project
from tests.support.ports import free_port
from tests.support.registry import PASSWORD, login, registry, silent_registry
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

RATE = 5
LEFT_LIMIT_S = 30.0
FILL_AGAIN_S = 0.005
NOTICED_LIMIT_S = 30.0
DRIVER_TRIES_S = 60.0
"""How long Nomad's docker driver tries to start a container, whoever stops it meanwhile."""
HOARDS = "x = [bytearray(2**20) for _ in range(1000)]"
SAYS_AND_EXITS = "import sys; print('no model here'); sys.exit(3)"


@dataclass(frozen=True)
class Site:
    """A machine, and what its bad versions need of it."""

    machine: SeraiMachine
    registry: str
    silent: str
    memory_mib: int


@dataclass(frozen=True)
class Bad:
    """What is wrong with a version: its spec, and the words that tell it at the end of a deploy.

    `meanwhile` are words that are shown before that, for what takes its time.
    """

    spec: Callable[[str, Site], dict[str, Any]]
    words: str
    meanwhile: str = ""


def runs(code: str, **more: Any) -> Callable[[str, Site], dict[str, Any]]:
    return lambda name, site: container(name, [PYTHON, "-c", code], **more)


def answers(text: str, status: int) -> Callable[[str, Site], dict[str, Any]]:
    return lambda name, site: program(name, serving(text, status))


def listens(port: Callable[[Site], int]) -> Callable[[str, Site], dict[str, Any]]:
    return lambda name, site: program(name, serving("", port=port(site)))


def asks(beyond_mib: int) -> Callable[[str, Site], dict[str, Any]]:
    """Ask for all memory of the node and some more (or less)."""
    return lambda name, site: program(
        name, serving(""), compute={"mem": f"{site.memory_mib + beyond_mib}Mi"}
    )


BAD = {
    "no-image": Bad(
        lambda name, site: container(name, ["x"], image=f"{site.registry}/team/none:1"),
        "there is no image 127.0.0.1:",
    ),
    "stalls": Bad(
        lambda name, site: container(name, ["x"], image=f"{site.silent}/team/model:1"),
        "did not arrive in its time: its registry is slow, or stands still",
        "its image is being pulled",
    ),
    "exits": Bad(runs(SAYS_AND_EXITS), "exit code 3: no model here"),
    "hoards": Bad(
        runs(HOARDS, compute={"mem": "32Mi"}),
        "killed: out of memory; it may use 32Mi: give it more by compute.mem",
    ),
    "unready": Bad(
        answers("the weights are not there", 503),
        f"not ready within {READY_S:g} s: its check does not pass yet: "
        "GET / answers 503: the weights are not there",
        "1 loading (its check does not pass yet: GET / answers 503: the weights are not there)",
    ),
    "no-path": Bad(
        answers("", 404),
        "GET / answers 404; set readiness.path to one that it has",
        "answers 404",
    ),
    "other-port": Bad(
        listens(lambda site: free_port()),
        "nothing listens on port ",
        "nothing listens on port ",
    ),
    "inner-port": Bad(
        lambda name, site: container(name, [PYTHON, "-m", "http.server", "8099"]),
        "nothing listens on port 8080 of its container yet (pod.port)",
        "nothing listens on port 8080 of its container yet (pod.port)",
    ),
    "taken-port": Bad(
        listens(lambda site: site.machine.agent.gateway),
        "exit code 1: another program of its node has the port that it wants; let it listen on $P",
    ),
    "no-room": Bad(
        asks(-8),
        f"not ready within {READY_S:g} s: waits for room: asks for 0.2 cores and ",
        "1 pending (waits for room: asks for 0.2 cores and ",
    ),
    "too-large": Bad(asks(8), "more than any node has in all"),
}


@dataclass(frozen=True)
class Tried:
    """What came of a bad version: what its deploy printed, and how the API was `after` that.

    `first` is the version before it.
    """

    status: int
    printed: str
    after: dict[str, Any]
    traffic: Traffic
    first: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "registry").mkdir()
    with ExitStack() as stack:
        address = stack.enter_context(registry(folder / "registry"))
        silent = stack.enter_context(silent_registry())
        logins = folder / "logins.json"
        logins.write_text(json.dumps({"auths": {address: {"auth": login(PASSWORD)}}}))
        made = stack.enter_context(
            serai_machine(folder / "machine", f'auth {{ config = "{logins}" }}')
        )
        (node,) = made.nomad.call("GET", "/nodes?resources=true")
        yield Site(made, address, silent, node["NodeResources"]["Memory"]["MemoryMB"])


@pytest.fixture(scope="module")
def tried(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tried]:
    """Try all bad versions at the same time, each in place of one that serves."""
    specs = {name: bad.spec(name, site) for name, bad in BAD.items()}
    return try_all(site.machine, specs, tmp_path_factory.mktemp("projects"))


def try_all(
    machine: SeraiMachine,
    specs: dict[str, dict[str, Any]],
    folder: Path,
    meanwhile: AbstractContextManager[None] | None = None,
) -> dict[str, Tried]:
    """Let an API serve for each spec, then deploy that, all at the same time."""
    first = write_project(folder / "first", *(program(name, serving("one")) for name in specs))
    done = machine.operator.run("deploy", str(first), "--wait", "-y")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{machine.scheduler.log()}"
    before = {name: status["version"] for name, status in machine.statuses().items()}
    with ExitStack() as stack:
        traffic = {
            name: stack.enter_context(steady([machine.agent.url], f"/{name}", RATE))
            for name in specs
        }
        for one in traffic.values():
            until(lambda t=one: t.answered > RATE)  # type: ignore[misc]
        stack.enter_context(meanwhile or nullcontext())
        pool = stack.enter_context(ThreadPoolExecutor(len(specs)))
        projects = {name: write_project(folder / name, spec) for name, spec in specs.items()}
        deploys = {
            name: pool.submit(machine.operator.run, "deploy", str(project), "--wait", "-y")
            for name, project in projects.items()
        }
        ended = {name: deploy.result() for name, deploy in deploys.items()}
        for one in traffic.values():
            until(lambda t=one, n=one.answered: t.answered > n + RATE)  # type: ignore[misc]
    after = machine.statuses()
    return {
        name: Tried(
            done.returncode, done.stdout + done.stderr, after[name], traffic[name], before[name]
        )
        for name, done in ended.items()
    }


def check(
    machine: SeraiMachine, name: str, found: Tried, words: str, left_limit_s: float = LEFT_LIMIT_S
) -> None:
    """Insist that a bad version was told, that the one before served, and that nothing is left."""
    status = found.after
    assert found.status == 1, found.printed
    (told,) = [line for line in found.printed.splitlines() if " failed: " in line]
    assert words in told, found.printed
    assert told == f"{name}: {status['failed_version']} failed: {status['last_error']}"
    assert (status["state"], status["version"], status["ready"]) == ("live", found.first, 1)
    assert found.traffic.lost == []
    left = partial(machine.left_of, name, status["failed_version"])
    until(lambda: not left(), left_limit_s, lambda: f"left: {left()}")


def test_a_container_whose_port_a_program_has_is_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the two ports that Nomad gives out the old version has one and a program the other.

    It stands first, so that its machine has ended before that of the others begins.
    """
    folder, ports = tmp_path_factory.mktemp("clash"), two_free_ports()
    with (
        serai_machine(folder, tasks=ports, ready_s=90.0) as machine,
        ExitStack() as stack,
    ):

        @contextmanager
        def other_taken() -> Iterator[None]:
            for port in ports:
                with suppress(OSError):  # the old version has it
                    taking = stack.enter_context(closing(socket.socket()))
                    taking.bind(("0.0.0.0", port))
                    taking.listen()
            yield

        name = "clash"
        spec = container(name, [PYTHON, "-m", "http.server", "8080"])
        found = try_all(machine, {name: spec}, tmp_path, meanwhile=other_taken())
        words = "of its node is taken by a program"
        check(machine, name, found[name], words, LEFT_LIMIT_S + DRIVER_TRIES_S)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_version_is_told_by_its_reason(
    site: Site, tried: dict[str, Tried], name: str
) -> None:
    check(site.machine, name, tried[name], BAD[name].words)
    before_its_end = tried[name].printed.partition(" failed: ")[0]
    assert BAD[name].meanwhile in before_its_end, before_its_end


def two_free_ports() -> tuple[int, int]:
    """Return two neighbours that nobody has, as far as that can be known."""
    while True:
        first, second = free_port(), free_port()
        if second == first + 1:
            return first, second


# Tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "words"), [("not-the-admins", "is wrong"), ("", "is needed")])
def test_whoever_lacks_the_token_is_told(
    site: Site, tmp_path: Path, token: str, words: str
) -> None:
    project = write_project(tmp_path / "project", program("none", serving("")))
    done = replace(site.machine.operator, token=token).run("deploy", str(project), "--wait", "-y")
    assert done.returncode == REFUSED
    assert f"{words}; see `serai env --help`" in done.stderr


def test_an_agent_with_a_wrong_token_is_told(site: Site, tmp_path: Path) -> None:
    consul_port = site.machine.nomad.beside.port
    agent = SeraiAgent(tmp_path / "other", consul_port, ("replicas",), token="not-the-agents")
    try:
        agent.start()
        until(lambda: not agent.ready(), 20.0)
        assert agent.problems() == [
            "its reports are refused: the token is wrong; an agent's `scheduler.token_file` has to "
            "hold what the schedulers' `tokens.agent` does"
        ]
        found = try_all(site.machine, {"deaf": answers("not yet", 503)("deaf", site)}, tmp_path)
        before_its_end = found["deaf"].printed.partition(" failed: ")[0]
        refused = "the reports of the agent at 127.0.0.1 are refused for a wrong token: its"
        assert f"{refused} `scheduler.token_file` has to hold" in before_its_end, before_its_end
        assert refused in site.machine.operator.run("doctor").stdout
    finally:
        agent.stop()


# A Nomad that becomes too old --------------------------------------------------------------------


def test_a_nomad_that_is_too_old_is_told(site: Site, tmp_path: Path) -> None:
    name, machine = "old-nomad", site.machine

    @contextmanager
    def old() -> Iterator[None]:
        with machine.between.changing(b'"build":"1.6.1"', b'"build":"1.4.9"'):
            until(lambda: "1.4.9" in machine.statuses()[name]["reason"], NOTICED_LIMIT_S)
            yield

    found = try_all(machine, {name: program(name, serving("two"))}, tmp_path, meanwhile=old())
    told = r"Nomad 1\.4\.9 on \S+ is older than 1\.6\.1, the oldest that Serai runs on: upgrade it"
    before_its_end, _, end = found[name].printed.partition(" failed: ")
    assert re.search(f"for now nothing is started or stopped: .*{told}", before_its_end)
    assert re.search(told, end), end
    until(lambda: "for now" not in machine.statuses()[name]["reason"], NOTICED_LIMIT_S)
    check(machine, name, found[name], f"not ready within {READY_S:g} s: ")


# A full disk -------------------------------------------------------------------------------------


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no room for another file on a disk, also once Nomad clears up what was before."""
    mine, done, numbers = folder / "filling", threading.Event(), count()
    mine.mkdir()

    def fill() -> None:
        with suppress(OSError):
            while not done.is_set():
                (mine / str(next(numbers))).touch()

    def fill_again() -> None:
        while not done.wait(FILL_AGAIN_S):
            fill()

    fill()
    filling = threading.Thread(target=fill_again)
    filling.start()
    try:
        yield
    finally:
        done.set()
        filling.join()
        shutil.rmtree(mine)


def test_a_full_disk_is_told(site: Site, tmp_path: Path) -> None:
    specs = {"disk": program("disk", serving("two"))}
    found = try_all(site.machine, specs, tmp_path, meanwhile=filled(site.machine.allocations))
    words = "the disk of its node is full; make room there ("
    check(site.machine, "disk", found["disk"], words)
