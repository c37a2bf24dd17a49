"""The yardstick: a plain aiohttp+uvloop handler, as a tutorial would write it."""

import sys
import time
from typing import Any

import uvloop
from aiohttp import web

BURN_NS = 1_000_000


def burn() -> None:
    end_ns = time.thread_time_ns() + BURN_NS
    while time.thread_time_ns() < end_ns:
        pass


def add(payload: dict[str, Any]) -> dict[str, Any]:
    return {"sum": payload["a"] + payload["b"] + payload["c"]}


async def hello(request: web.Request) -> web.Response:
    return web.json_response(add(await request.json()))


async def burning(request: web.Request) -> web.Response:
    payload = await request.json()
    burn()
    return web.json_response(add(payload))


def main() -> None:
    app = web.Application()
    app.router.add_post("/", hello)
    app.router.add_post("/burn", burning)
    loop = uvloop.new_event_loop()
    web.run_app(
        app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop
    )


if __name__ == "__main__":
    main()
