"""Answers as its payload's `do` asks, so that one process serves many tests."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from serai_runtime import HTTPError

released = threading.Event()
closed_streams: list[str] = []
after: list[Any] = []
kept = web.Response(text="kept")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Predictor:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def predict(self, payload: Any, query_params: Any, headers: Any) -> Any:
        do = payload.get("do") if isinstance(payload, dict) else None
        if do is None:
            return {"payload": told(payload), "query": query_params, "agent": headers.get("x-mine")}
        answer: Any = getattr(self, do)(payload)
        return answer

    def post_predict(self, payload: Any, response: Any) -> None:
        if isinstance(payload, dict) and payload.get("do") == "text":
            after.append(response)

    def text(self, payload: Any) -> str:
        return "some text"

    def raw(self, payload: Any) -> bytes:
        return b"\x00\x01"

    def large(self, payload: Any) -> bytes:
        return b"x" * int(payload["size"])

    def response(self, payload: Any) -> web.Response:
        return web.Response(status=202, text="<p>hi</p>", content_type="text/html")

    def same_response(self, payload: Any) -> web.Response:
        return kept

    def busy(self, payload: Any) -> Any:
        raise HTTPError(429, "later", headers={"Retry-After": 5})

    def odd_detail(self, payload: Any) -> Any:
        raise HTTPError(422, {1, 2})  # type: ignore[arg-type]

    def two_lines(self, payload: Any) -> Any:
        raise HTTPError(422, "no", headers={"x-why": "one\ntwo"})

    def speechless(self, payload: Any) -> Any:
        raise Speechless

    def settings(self, payload: Any) -> Any:
        return self.config

    def place(self, payload: Any) -> Any:
        return {"folder": os.getcwd(), "thread": threading.current_thread().name}

    def refuse(self, payload: Any) -> Any:
        raise HTTPError(418, "no coffee", headers={"X-Pot": "tea"})

    def not_found(self, payload: Any) -> Any:
        raise web.HTTPNotFound(text="nothing here")

    def fail(self, payload: Any) -> Any:
        raise ValueError("a secret of the server")

    def log(self, payload: Any) -> Any:
        logging.getLogger("mine").info("seen %s", payload["word"])
        return "logged"

    def unserialisable(self, payload: Any) -> Any:
        return {"object": object()}

    def leave(self, payload: Any) -> Any:
        raise SystemExit(5)

    def after(self, payload: Any) -> Any:
        return after

    def stream(self, payload: Any) -> Iterator[Any]:
        yield from payload["items"]

    def bad_stream(self, payload: Any) -> Iterator[Any]:
        yield "one"
        raise ValueError("in the midst")

    def bad_start(self, payload: Any) -> Iterator[Any]:
        if payload:
            raise HTTPError(409, "not begun")
        yield "never"

    def endless(self, payload: Any) -> Iterator[Any]:
        try:
            while True:
                yield "tick"
                threading.Event().wait(0.01)
        finally:
            closed_streams.append(payload["name"])

    def closed(self, payload: Any) -> Any:
        return closed_streams


class PythonPredictor:
    def predict(self, payload: Any) -> Any:
        raise AssertionError("Predictor goes before")


def told(payload: Any) -> Any:
    if isinstance(payload, dict):
        return {name: told(value) for name, value in payload.items()}
    if isinstance(payload, list):
        return [told(value) for value in payload]
    return repr(payload) if not isinstance(payload, str | int | float) else payload


async def unused() -> None:
    await asyncio.Event().wait()
