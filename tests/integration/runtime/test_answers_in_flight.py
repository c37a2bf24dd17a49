"""Answers that are on their way when a process ends, and what must never become no answer."""

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.runtime import served

SOURCE = """
import logging
from aiohttp import web

class Predictor:
    def predict(self, query_params):
        if query_params["m"] == "big":
            return b"x" * 20_000_000
        if query_params["m"] == "header":
            return web.Response(headers={"X": "a\\r\\nb"})
        if query_params["m"] == "status":
            return web.Response(status=99)
        if query_params["m"] == "socket":
            return web.WebSocketResponse()
        logging.getLogger("mine").info("%d apples", "many")
        return {"logged": True}
"""


def test_a_large_answer_to_a_slow_client_survives_the_drain(tmp_path: Path) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(SOURCE)
    with served(path, tmp_path) as runtime, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect(("127.0.0.1", runtime.ports[0]))
        client.sendall(b"GET /?m=big HTTP/1.1\r\nHost: x\r\n\r\n")
        got = len(client.recv(65_536))
        runtime.process.send_signal(signal.SIGTERM)
        runtime.event("draining")
        # Nothing is read for longer than idle connections linger.
        with pytest.raises(subprocess.TimeoutExpired):
            runtime.process.wait(1.5)
        while data := client.recv(1 << 20):
            got += len(data)
        assert got > 20_000_000
        assert runtime.process.wait(10) == 0


def test_a_log_call_with_wrong_arguments_does_not_fail_the_request(tmp_path: Path) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(SOURCE)
    with served(path, tmp_path) as runtime:
        status, _ = runtime.get("/?m=log")
        assert status == 200
        assert runtime.event("%d apples")["why"] == "the arguments do not fit the message"


@pytest.mark.parametrize("mistake", ["header", "status", "socket"])
def test_a_response_that_cannot_be_sent_is_an_error_and_not_silence(
    tmp_path: Path, mistake: str
) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(SOURCE)
    with served(path, tmp_path) as runtime:
        status, body = runtime.get(f"/?m={mistake}")
        assert (status, body["error"]["code"]) == (500, "predictor_failed")
        assert runtime.get("/?m=log")[0] == 200
        _, told = runtime.get("/metrics")
        assert 'requests_total{status="500"} 1.0' in told


def test_bodies_on_their_way_take_no_slot(tmp_path: Path) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(SOURCE)
    with served(path, tmp_path) as runtime, contextlib.ExitStack() as stack:
        for _ in range(20):  # more than its one slot and its queue
            client = stack.enter_context(socket.create_connection(("127.0.0.1", runtime.ports[0])))
            client.sendall(b"POST /?m=log HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        assert runtime.get("/?m=log")[0] == 200


HANGS_AFTERWARDS = """
import time

class Predictor:
    def predict(self):
        return 1

    def post_predict(self):
        time.sleep(1000)
"""


def test_a_post_predict_that_hangs_is_told_and_its_thread_is_not_given_out(tmp_path: Path) -> None:
    path = tmp_path / "predictor.py"
    path.write_text(HANGS_AFTERWARDS)
    options = ("--total-timeout-s", "0.3", "--queue", "0")
    with served(path, tmp_path, *options) as runtime:
        assert runtime.get("/")[0] == 200
        told = runtime.event("post_predict failed")
        assert told["why"] == "it did not end within 0.3 s" and told["request_id"]
        status, body = runtime.get("/")
        assert (status, body["error"]["code"]) == (503, "overloaded")
