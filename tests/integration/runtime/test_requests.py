"""Requests in and answers out, through the real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.runtime import PREDICTORS, Served, served
from tests.support.wait import auntil


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("runtime")
    options = ("--body-max-bytes", "200000", "--concurrency", "4", "--threads", "2")
    with served("everything", folder, *options, config={"threshold": 0.5}) as found:
        yield found


@pytest.fixture
async def client(runtime: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(runtime.url) as session:
        yield session


async def ask(client: aiohttp.ClientSession, do: str, **more: Any) -> tuple[int, bytes, Any]:
    async with client.post("/", json={"do": do, **more}) as response:
        return response.status, await response.read(), response.headers


async def until_told(client: aiohttp.ClientSession, do: str, what: str) -> None:
    """Ask again and again until the answer holds `what`."""

    async def told() -> bool:
        return what in json.loads((await ask(client, do))[1])

    await auntil(told)


@pytest.mark.parametrize(
    ("body", "content_type", "payload"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b"a=1&a=2&b=", "application/x-www-form-urlencoded", {"a": ["1", "2"], "b": ""}),
        (b"hello", "text/plain", "hello"),
        (b"\x00\x01", "application/octet-stream", r"b'\x00\x01'"),
        (b"\x89PNG", "image/png", r"b'\x89PNG'"),
        (b"--b--", "multipart/mixed; boundary=b", "b'--b--'"),
    ],
)
async def test_bodies_by_content_type(
    client: aiohttp.ClientSession, body: bytes, content_type: str, payload: Any
) -> None:
    headers = {"Content-Type": content_type}
    async with client.post("/any/path", data=body, headers=headers) as response:
        assert (await response.json())["payload"] == payload


async def test_a_multipart_form_keeps_its_files_byte_for_byte(
    client: aiohttp.ClientSession,
) -> None:
    data = bytes(range(256)) * 300 + b"\r\n--x\r\r\n\n"
    form = aiohttp.FormData({"name": "value"})
    form.add_field("file", data, filename="ab.bin", content_type="image/png")
    async with client.post("/", data=form) as response:
        payload = (await response.json())["payload"]
    assert payload["name"] == "value"
    assert payload["file"] == (
        f"Upload(filename='ab.bin', content_type='image/png', data={data!r})"
    )


async def test_query_and_headers_and_no_body(client: aiohttp.ClientSession) -> None:
    url = "/?a=1&a=2&b=x%20y"
    async with client.get(url, headers={"X-Mine": "me"}) as response:
        assert await response.json() == {
            "payload": "None",
            "query": {"a": ["1", "2"], "b": "x y"},
            "agent": "me",
        }


async def test_a_body_in_chunks(client: aiohttp.ClientSession) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"a":'
        yield b" 1}"

    headers = {"Content-Type": "application/json"}
    async with client.post("/", data=parts(), headers=headers) as response:
        assert (await response.json())["payload"] == {"a": 1}


async def test_who_asks_before_sending_a_body_is_told_to_go_on(runtime: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", runtime.ports[0])
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert b" 200 " in await reader.readline()
    writer.close()


async def test_answers_by_type(client: aiohttp.ClientSession) -> None:
    status, body, headers = await ask(client, "text")
    assert (status, body) == (200, b"some text")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    _, body, headers = await ask(client, "raw")
    assert (body, headers["Content-Type"]) == (b"\x00\x01", "application/octet-stream")
    status, body, headers = await ask(client, "response")
    assert (status, body) == (202, b"<p>hi</p>")
    assert headers["Content-Type"].startswith("text/html")
    assert headers["X-Request-Id"]
    _, body, _ = await ask(client, "settings")
    assert json.loads(body)["threshold"] == 0.5
    _, body, _ = await ask(client, "large", size=3_000_000)
    assert body == b"x" * 3_000_000


async def test_head_has_no_body_and_http_1_0_is_served(
    client: aiohttp.ClientSession, runtime: Served
) -> None:
    async with client.head("/") as response:
        assert (response.status, await response.read()) == (200, b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", runtime.ports[0])
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    assert b" 200 OK\r\n" in answer and b'"payload":"None"' in answer
    writer.close()


async def test_the_working_directory_is_the_project(client: aiohttp.ClientSession) -> None:
    _, body, _ = await ask(client, "place")
    found = json.loads(body)
    assert Path(found["folder"]) == PREDICTORS
    assert found["thread"].startswith("predict-")


def error_of(body: bytes) -> dict[str, str]:
    error: dict[str, str] = json.loads(body)["error"]
    return error


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b'{"a"', "application/json", "the body is not valid JSON"),
        (b"", "application/json", "the body is empty"),
        (b"x", "multipart/form-data", "not a valid multipart form"),
        (b"x", "multipart/form-data; boundary=b", "not a valid multipart form"),
        (b"\xff", "text/plain; charset=utf-8", "not utf-8 text"),
    ],
)
async def test_an_unreadable_body_is_400_with_the_reason(
    client: aiohttp.ClientSession, body: bytes, content_type: str, reason: str
) -> None:
    headers = {"Content-Type": content_type}
    async with client.post("/", data=body, headers=headers) as response:
        error = error_of(await response.read())
        assert (response.status, error["code"]) == (400, "bad_body")
        assert reason in error["message"]


async def test_a_body_that_is_too_large(client: aiohttp.ClientSession) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 10_000

    for data in (b"x" * 200_001, parts()):
        async with client.post("/", data=data) as response:
            assert response.status == 413
            assert error_of(await response.read())["code"] == "body_too_large"
    form = aiohttp.FormData()
    form.add_field("file", b"x" * 250_000, filename="f")
    async with client.post("/", data=form) as response:
        assert response.status == 413


async def test_errors_of_the_predictor(client: aiohttp.ClientSession, runtime: Served) -> None:
    status, body, headers = await ask(client, "refuse")
    assert (status, error_of(body)["message"], headers["X-Pot"]) == (418, "no coffee", "tea")
    status, body, _ = await ask(client, "not_found")
    assert (status, error_of(body)["message"]) == (404, "nothing here")
    status, body, headers = await ask(client, "fail")
    error = error_of(body)
    assert (status, error["code"]) == (500, "predictor_failed")
    assert error["request_id"] == headers["X-Request-Id"]
    assert b"secret" not in body
    events = runtime.events("predict failed")
    logged = [one for one in events if one["request_id"] == error["request_id"]]
    assert "ValueError: a secret of the server" in logged[0]["trace"]


async def test_an_error_without_words_is_told_like_any_other(
    client: aiohttp.ClientSession,
) -> None:
    status, body, _ = await ask(client, "speechless")
    assert (status, error_of(body)["code"]) == (500, "predictor_failed")


async def test_a_header_of_an_error_may_be_a_number(client: aiohttp.ClientSession) -> None:
    status, _, headers = await ask(client, "busy")
    assert (status, headers["Retry-After"]) == (429, "5")


async def test_errors_that_cannot_be_sent_as_they_are_are_answered_all_the_same(
    client: aiohttp.ClientSession,
) -> None:
    status, body, _ = await ask(client, "odd_detail")
    assert (status, error_of(body)["message"]) == (422, "{1, 2}")
    status, body, _ = await ask(client, "two_lines")
    assert (status, error_of(body)["code"]) == (500, "predictor_failed")


async def test_a_response_that_has_been_sent_before_is_an_error(
    client: aiohttp.ClientSession,
) -> None:
    assert (await ask(client, "same_response"))[:2] == (200, b"kept")
    status, body, _ = await ask(client, "same_response")
    assert (status, "sent already" in error_of(body)["message"]) == (500, True)


async def test_what_cannot_be_sent_and_what_ends_the_program_are_errors(
    client: aiohttp.ClientSession,
) -> None:
    status, body, _ = await ask(client, "unserialisable")
    assert status == 500
    assert "builtins.object, which cannot be sent" in error_of(body)["message"]
    assert (await ask(client, "leave"))[0] == 500
    assert (await ask(client, "text"))[0] == 200


async def test_request_ids_are_taken_over_and_reach_the_users_log(
    client: aiohttp.ClientSession, runtime: Served
) -> None:
    headers = {"X-Request-Id": "mine-1"}
    async with client.post("/", json={"do": "log", "word": "w"}, headers=headers) as response:
        assert response.headers["X-Request-Id"] == "mine-1"
    logged = await auntil(lambda: runtime.events("seen w"))
    assert (logged[0]["request_id"], logged[0]["logger"]) == ("mine-1", "mine")


async def test_post_predict_runs_with_the_result(client: aiohttp.ClientSession) -> None:
    await ask(client, "text")
    await until_told(client, "after", "some text")


@pytest.mark.parametrize(
    ("items", "kind", "body"),
    [
        (["a", "b"], "text/plain; charset=utf-8", b"ab"),
        ([{"n": 1}, {"n": 2}], "application/x-ndjson", b'{"n":1}\n{"n":2}\n'),
        ([], "text/plain; charset=utf-8", b""),
        (["a", "", "b"], "text/plain; charset=utf-8", b"ab"),
    ],
)
async def test_a_generator_streams(
    client: aiohttp.ClientSession, items: list[Any], kind: str, body: bytes
) -> None:
    status, found, headers = await ask(client, "stream", items=items)
    assert (status, found, headers["Content-Type"]) == (200, body, kind)


async def test_a_generator_streams_events_to_those_who_want_them(
    client: aiohttp.ClientSession,
) -> None:
    headers = {"Accept": "text/event-stream"}
    asked = {"do": "stream", "items": ["a\nb", {"n": 1}]}
    async with client.post("/", json=asked, headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.read() == b'data: a\ndata: b\n\ndata: {"n":1}\n\n'


async def test_an_error_in_a_stream(client: aiohttp.ClientSession, runtime: Served) -> None:
    status, body, _ = await ask(client, "bad_start")
    assert (status, error_of(body)["message"]) == (409, "not begun")
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(client, "bad_stream")
    events = await auntil(lambda: runtime.events("stream failed"))
    assert "in the midst" in events[0]["why"]


async def test_a_stream_whose_client_has_gone_is_closed(client: aiohttp.ClientSession) -> None:
    async with client.post("/", json={"do": "endless", "name": "e1"}) as response:
        assert await response.content.readexactly(4) == b"tick"
        response.close()
    await until_told(client, "closed", "e1")


async def test_the_clients_timeout_header_bounds_a_stream(client: aiohttp.ClientSession) -> None:
    headers = {"X-Serai-Total-Timeout-Ms": "200"}
    asked = {"do": "endless", "name": "e2"}
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.post("/", json=asked, headers=headers) as response:
            await response.read()


async def test_metrics_count_what_was_answered(
    client: aiohttp.ClientSession, runtime: Served
) -> None:
    await ask(client, "text")
    text = runtime.get("/metrics")[1]
    assert 'serai_runtime_requests_total{status="200"}' in text
    assert "serai_runtime_load_seconds" in text
    assert "serai_runtime_request_seconds_bucket" in text


async def test_an_answer_that_is_no_http_is_400(runtime: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", runtime.ports[0])
    writer.write(b"nonsense\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
