"""What the CLI makes of every way in which a scheduler can answer, or not."""

import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from serai import wire
from serai.errors import ConfigError, Unavailable
from serai.operator import Done, FieldProblem, Problem
from serai_cli.client import MAX_ANSWER_BYTES, Client, ProblemAnswer
from serai_cli.exits import BAD_INPUT, REFUSED, UNREACHABLE, status_of
from serai_cli.requesting import request
from serai_cli.targets import Target
from tests.integration.cli.servers import CERTIFICATE, sending, server
from tests.support.ports import free_port

DONE = sending(wire.encode(Done(message="done")))


def client(url: str, deadline_s: float = 10.0, ca: str = "", name: str = "lab") -> Client:
    return Client(Target(name=name, url=url, token="t", ca=ca), deadline_s)


def refusing(status: int, code: str, *problems: FieldProblem) -> bytes:
    return wire.encode(
        Problem(status=status, code=code, title=code, detail="so it is", problems=problems)
    )


def test_an_answer_comes_as_its_type() -> None:
    with server(DONE) as url:
        assert client(url).get("/v1/x", Done) == Done(message="done")
        assert client(url).post("/v1/x", Done(message="y"), Done) == Done(message="done")


@pytest.mark.parametrize(
    ("answering", "words"),
    [
        (sending(b"{}", length=100), "the answer broke off"),
        (sending(b"<html>", 502), "not as a Serai scheduler does"),
        (sending(b"[1]"), "compare `serai version`"),
        (sending(b"\xff\xfe"), "compare `serai version`"),
        (sending(refusing(503, "starting"), 503), "so it is"),
    ],
)
def test_answers_that_are_none_say_what_to_do(answering: object, words: str) -> None:
    with server(answering) as url, pytest.raises(Unavailable, match=words) as caught:  # type: ignore[arg-type]
        client(url).get("/v1/x", Done)
    assert status_of(caught.value) == UNREACHABLE


def test_nobody_there_is_told_with_the_next_step() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=r"connection refused.*serai env show"):
        client(url).get("/v1/x", Done)
    with pytest.raises(Unavailable, match="is `serai up` running"):
        client(url, name="local").get("/v1/x", Done)
    with pytest.raises(Unavailable, match="its name is not known"):
        client("http://no-such-host.invalid:7070").get("/v1/x", Done)


def test_a_silent_and_a_dripping_scheduler_both_meet_the_deadline() -> None:
    ended = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        ended.wait(20)

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            while not ended.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            handler.close_connection = True

    for answering in (silent, dripping):
        with server(answering) as url:
            with pytest.raises(Unavailable, match="no answer in time"):
                client(url, deadline_s=0.3).get("/v1/x", Done)
            ended.set()
        ended.clear()


def test_an_endless_answer_is_given_up() -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(2 * MAX_ANSWER_BYTES))
        handler.end_headers()
        try:
            for _ in range(2 * MAX_ANSWER_BYTES // 2**20):
                handler.wfile.write(bytes(2**20))
        except OSError:
            handler.close_connection = True

    with server(endless) as url, pytest.raises(Unavailable, match="answers more than"):
        client(url).get("/v1/x", Done)


def test_a_refusal_names_every_problem_with_its_place_and_its_exit_status() -> None:
    placed = FieldProblem(path="a.b", message="a.b: too big", file="serai.yaml", line=3, column=7)
    other = FieldProblem(path="c", message="c: missing")
    invalid = sending(refusing(422, "invalid_spec", placed, other), 422)
    with server(invalid) as url, pytest.raises(ProblemAnswer) as caught:
        client(url).get("/v1/x", Done)
    assert str(caught.value) == "serai.yaml:3:7: a.b: too big\nc: missing"
    assert status_of(caught.value) == BAD_INPUT
    unknown = sending(refusing(404, "unknown_api"), 404)
    with server(unknown) as url, pytest.raises(ProblemAnswer, match="so it is") as caught:
        client(url).get("/v1/x", Done)
    assert status_of(caught.value) == REFUSED


def test_certificates_are_checked_and_those_named_are_trusted(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with server(DONE, secure=True) as url:
        with pytest.raises(Unavailable, match=r"cannot be verified .*--ca FILE"):
            client(url).get("/v1/x", Done)
        assert client(url, ca=str(CERTIFICATE)).get("/v1/x", Done).message == "done"
        trusting = Target(name="lab", url=url, ca=str(CERTIFICATE))
        assert request(trusting, f"{url}/iris", b"{}", "application/json", (), "POST") == 200
    assert capsysbinary.readouterr().out.startswith(b'{"message"')
    nothing = tmp_path / "empty.pem"
    nothing.write_text("")
    for ca, words in ((nothing, "it holds none"), (tmp_path / "none.pem", "No such file")):
        with pytest.raises(ConfigError, match=words):
            client("https://localhost:1", ca=str(ca)).get("/v1/x", Done)


@pytest.mark.parametrize(
    "url", ["ftp://x", "localhost:7070", "http://", "http://x:99999", "http://[1"]
)
def test_what_is_no_url_is_said_so(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a URL"):
        client(url).get("/v1/x", Done)


def test_headers_that_cannot_be_sent_are_wrong_input() -> None:
    target = Target(name="lab", url="http://127.0.0.1:1", token="two\nlines")
    with pytest.raises(ConfigError, match="cannot ask"):
        Client(target).get("/v1/x", Done)
    with pytest.raises(ConfigError, match="NAME:VALUE"):
        request(target, "http://127.0.0.1:1/x", None, "", ("nothing",), "GET")


def test_a_body_that_is_refused_before_its_end_shows_the_refusal(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(413)
        handler.send_header("Content-Length", "3")
        handler.end_headers()
        handler.wfile.write(b"big")
        handler.close_connection = True

    with server(refuse) as url:
        target = Target(name="lab", url=url)
        assert request(target, url, bytes(64 * 2**20), "text/plain", (), "POST") == 413
    assert capsysbinary.readouterr().out == b"big"
