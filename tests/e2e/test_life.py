"""`serai up` from its first start to its end, crashes included."""

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

from tests.support.ports import free_port
from tests.support.serai import SERAI, Serai, call, write_predictor
from tests.support.stopping import stand_still
from tests.support.wait import until

HELLO = """
class Predictor:
    def predict(self, payload):
        return {"hello": payload["name"]}
"""
SLOW = """
import time
class Predictor:
    def predict(self, payload):
        time.sleep(payload["seconds"])
        return "done"
"""
JSON = {"Content-Type": "application/json"}


def test_apis_come_back_as_they_were_after_a_restart(own: Serai, tmp_path: Path) -> None:
    project = write_predictor(tmp_path / "hello", HELLO, "autoscaling: {min_replicas: 2}\n")
    own.deploy(project)
    before = own.describe("hello")
    assert own.down() == 0
    until(lambda: not own.processes(), 20)
    own.up()
    until(lambda: own.describe("hello")["status"]["state"] == "live", 60)
    after = own.describe("hello")
    assert after["status"]["version"] == before["status"]["version"]
    answer = call(f"{own.url}/hello", b'{"name": "again"}', JSON)
    assert (answer.status, answer.json()) == (200, {"hello": "again"})


def test_a_crash_stops_no_request_and_doubles_no_replica(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO, "autoscaling: {min_replicas: 2}\n"))
    ids = {r["replica"]["id"] for r in own.describe("hello")["replicas"]}
    own.kill()
    for number in range(50):
        answer = call(f"{own.url}/hello", b'{"name": "%d"}' % number, JSON)
        assert answer.status == 200, "HAProxy and the replicas serve without the process"
    own.up()

    def settled() -> bool:
        described = own.describe("hello")
        alive = [r for r in described["replicas"] if r["replica"]["state"] == "ready"]
        return described["status"]["state"] == "live" and len(alive) == 2

    until(settled, 30)
    assert {r["replica"]["id"] for r in own.describe("hello")["replicas"]} == ids
    for _ in range(20):
        assert call(f"{own.url}/hello", b'{"name": "x"}', JSON).status == 200


def test_what_haproxy_has_not_taken_is_not_said_to_serve(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO))
    haproxies = [pid for pid in own.processes() if _is_haproxy(pid)]
    assert haproxies
    for pid in haproxies:
        stand_still(pid)
    try:
        changed = write_predictor(tmp_path / "again" / "hello", HELLO.replace('"hello"', '"hallo"'))
        assert own.run("deploy", str(changed), "--detach", "-y").returncode == 0

        def waits() -> bool:
            status = own.describe("hello")["status"]
            return "its HAProxy does not answer" in status["waits_for"]

        until(waits, 30)
        status = own.describe("hello")["status"]
        assert status["version"].startswith("v2-") and status["state"] == "updating"
        assert "to take the route" in own.run("get").stdout
    finally:
        for pid in haproxies:
            os.kill(pid, signal.SIGCONT)
    until(lambda: own.describe("hello")["status"]["state"] == "live", 30)
    answer = call(f"{own.url}/hello", b'{"name": "x"}', JSON)
    assert answer.json() == {"hallo": "x"}


def _is_haproxy(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "haproxy"


def test_a_taken_port_leaves_the_haproxy_of_a_crash_as_it_is(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO))
    own.kill()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = own.run("up", "--port", port, "--control-port", str(free_port()), timeout_s=60)
    assert refused.returncode == 3
    assert "Address already in use" in refused.stderr and port in refused.stderr
    assert call(f"{own.url}/hello", b'{"name": "x"}', JSON).status == 200


def test_ctrl_c_lets_requests_in_flight_finish(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "slow", SLOW, name="slow"))
    answers: list[int] = []
    url, body = f"{own.url}/slow", b'{"seconds": 2}'
    request = threading.Thread(target=lambda: answers.append(call(url, body, JSON).status))
    request.start()

    def in_flight() -> bool:
        return any(r["in_flight"] for r in own.describe("slow")["replicas"])

    until(in_flight, 10)
    assert own.process is not None
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(30) == 0
    request.join()
    assert answers == [200]
    until(lambda: not own.processes(), 10)


def test_a_second_ctrl_c_exits_at_once(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "slow", SLOW, name="slow"))
    url, body = f"{own.url}/slow", b'{"seconds": 8}'

    def give_up() -> None:
        try:
            call(url, body, JSON)
        except OSError:
            return

    request = threading.Thread(target=give_up)
    request.start()
    until(lambda: any(r["in_flight"] for r in own.describe("slow")["replicas"]), 10)
    assert own.process is not None
    own.process.send_signal(signal.SIGINT)
    until(lambda: "draining" in own.log(), 10)
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(3) == 130
    assert "`serai down` ends them" in own.log()
    own.run("down")
    until(lambda: not own.processes(), 10)
    request.join()


def test_a_second_serai_on_one_folder_says_who_holds_it(own: Serai) -> None:
    other = subprocess.run(
        [SERAI, "up", "--port", str(free_port()), "--data-dir", str(own.data)],
        capture_output=True,
        text=True,
        timeout=30,
        env=own.environment,
    )
    assert other.returncode == 2
    assert own.process is not None and str(own.process.pid) in other.stderr
    assert own.url in other.stderr and len(other.stderr.strip().splitlines()) == 1


def test_ports_in_use_are_one_clear_line_and_nothing_half_started(
    own: Serai, tmp_path: Path
) -> None:
    second = Serai(tmp_path / "second")
    for option, port in (("--port", own.gateway), ("--control-port", own.control)):
        arguments = {"--port": str(second.gateway), "--control-port": str(second.control)}
        arguments[option] = str(port)
        flat = [word for pair in arguments.items() for word in pair]
        done = subprocess.run(
            [SERAI, "up", *flat, "--data-dir", str(second.data)],
            capture_output=True,
            text=True,
            timeout=30,
            env=second.environment,
        )
        assert done.returncode == 2, done.stderr
        assert str(port) in done.stderr and len(done.stderr.strip().splitlines()) == 1
        assert not second.processes()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = subprocess.run(
        [SERAI, "up", "--data-dir", str(tmp_path / "file" / "data")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "--data-dir" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def _refused(arguments: list[str], data: Path, before: str = "") -> str:
    """Return the one line with which `serai up` refuses; nothing of it is left running."""
    serai = Serai(data)
    done = subprocess.run(
        ["sh", "-c", f'{before} exec "$@"', "sh", SERAI, "up", *arguments],
        capture_output=True, text=True, timeout=30, env=serai.environment,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not serai.processes()
    return done.stderr


def test_what_cannot_be_listened_on_is_one_clear_line(tmp_path: Path) -> None:
    port = str(free_port())
    same = _refused(["--port", port, "--control-port", port], tmp_path / "data")
    assert "cannot both have port" in same
    nowhere = _refused(["--host", "300.1.1.1", "--insecure"], tmp_path / "data")
    assert "choose an address or name of this machine with --host" in nowhere
    assert "add --insecure" in _refused(["--host", "0.0.0.0"], tmp_path / "data")
    assert "65535" in _refused(["--control-port", "70000"], tmp_path / "data")


def test_a_detached_start_tells_why_it_failed_as_one_in_the_foreground_does(own: Serai) -> None:
    ports = ["--port", str(own.gateway), "--control-port", str(free_port()), "--detach"]
    told = _refused(ports, own.data.parent / "other")
    assert told.startswith(f"serai: cannot listen on 127.0.0.1:{own.gateway}")


def test_too_few_open_files_are_told_before_anything_starts(tmp_path: Path) -> None:
    ports = ["--port", str(free_port()), "--control-port", str(free_port())]
    assert "open files" in _refused(ports, tmp_path / "data", "ulimit -n 100;")


def test_a_serai_in_another_folder_is_found_by_itself(tmp_path: Path) -> None:
    places = {
        name: str(tmp_path / name.lower()) for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "HOME")
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SERAI_")}
    environment = {**kept, **places}

    def serai(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SERAI, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )

    ports = ["--port", str(free_port()), "--control-port", str(free_port())]
    started = serai("up", *ports, "--data-dir", str(tmp_path / "elsewhere"), "--detach")
    try:
        assert started.returncode == 0, started.stderr
        found = serai("get")
        assert (found.returncode, "no APIs" in found.stdout) == (0, True), found
    finally:
        ended = serai("down")
    assert (ended.returncode, "Serai has ended" in ended.stdout) == (0, True), ended
    assert "no Serai runs" in serai("get").stderr
