"""One process that serves: listens first, imports and loads the predictor on a thread, drains.

Run by the supervisor as `python -m serai_runtime.worker OPTIONS PROCESS BEAT_FD LIFE_FD DUMP_FD`.
It tells the supervisor what it does in lines on BEAT_FD (`beat`, `phase NAME`, `failure JSON`),
ends when LIFE_FD, held by the supervisor, is closed, and writes stacks to DUMP_FD.
"""

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import json
import os
import signal
import socket
import sys
import threading
from typing import Any, cast

import uvloop
from aiohttp import web

from serai_runtime import clock
from serai_runtime.errors import PredictorError
from serai_runtime.listener import BACKLOG, PortTaken, hear_again, listen, refuse_new
from serai_runtime.load import Predictor, Style
from serai_runtime.loading import Failed, load
from serai_runtime.logs import Log, take_over_logging
from serai_runtime.options import Options, from_json
from serai_runtime.pool import Pool
from serai_runtime.server import Server
from serai_runtime.service import Service
from serai_runtime.slots import default_limit
from serai_runtime.state import EXIT_FAILED, Phase, WorkerState

BEAT_PERIOD_S = 0.5
REFUSE_S = 0.03
"""Between refusing new connections and closing the socket: a handshake on a local network takes
less. Who connects in between tries again after a second, so it must not be long either."""
LINGER_S = 1.0
"""How long an idle keep-alive connection may still bring its last request while draining."""
POLL_S = 0.02
CUT_AFTER_S = 0.1
"""How long a cancelled request may take to end; aiohttp takes 0 for no limit."""
CLOSE_LIMIT_S = 10.0
KEEPALIVE_S = 75.0


class Worker:
    """Everything one process does, in the order of its life."""

    def __init__(self, options: Options, process: int, beat_fd: int) -> None:
        self._options = options
        self._process = process
        self._beat_fd = beat_fd
        self._log = Log(options.log_format, _facts(options, process))
        self._state = WorkerState()
        self._pool = Pool(options.threads, asyncio.get_running_loop())
        self._server = Server(options, self._state, self._log, self._pool)
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        take_over_logging(self._log)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            sock = listen(self._options.host, self._options.ports[self._process])
        except PortTaken as error:
            return self._failed(Failed(str(error), ""))
        web_server = self._make_web_server()
        listener = await loop.create_server(web_server, sock=sock, backlog=BACKLOG)
        beating = loop.create_task(self._beat())
        self._enter(Phase.IMPORTING)
        try:
            failed = await self._load_until_stopped()
            if failed is not None:
                return self._failed(failed)
            await self._stop.wait()
            self._enter(Phase.DRAINING)
            self._log("draining", in_flight=self._state.open_requests)
            began_s = clock.now_s()
            await clock.sleep(self._options.deregistration_delay_s)
            refuse_new(sock)
            await clock.sleep(REFUSE_S)
            listener.close()
            _hear_again(web_server)
            await self._finish(web_server, began_s)
            await self._close()
        finally:
            beating.cancel()
        return 0

    def _make_web_server(self) -> web.Server:
        loop, limit_bytes = asyncio.get_running_loop(), self._options.body_max_bytes

        def make_request(
            message: Any, payload: Any, protocol: Any, writer: Any, task: Any
        ) -> web.BaseRequest:
            return web.BaseRequest(
                message, payload, protocol, writer, task, loop, client_max_size=limit_bytes
            )

        return web.Server(
            self._server.handle,
            handler_cancellation=True,
            request_factory=make_request,
            keepalive_timeout=KEEPALIVE_S,
            access_log=None,
        )

    # Loading -------------------------------------------------------------------------------------

    async def _load_until_stopped(self) -> Failed | None:
        """Load the predictor; give up when told to stop meanwhile."""
        began_s = clock.now_s()
        loading = asyncio.ensure_future(load(self._options, self._enter))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            return None
        found = loading.result()
        if isinstance(found, Failed):
            return found
        try:
            self._serve(found)
        except PredictorError as error:
            return Failed(str(error), "")
        # What was loaded stays: sparing the collector a walk over it keeps its pauses short.
        gc.collect()
        gc.freeze()
        self._server.metrics.load_s = clock.now_s() - began_s
        self._enter(Phase.READY)
        url = f"http://{self._options.host}:{self._options.ports[self._process]}"
        self._log("predictor ready", url=url, load_s=round(clock.now_s() - began_s, 3))
        return None

    def _serve(self, predictor: Predictor) -> None:
        options = self._options
        service = Service(predictor, options, self._pool, self._server.metrics)
        is_async = predictor.predict.style in (Style.ASYNC, Style.ASYNC_GENERATOR)
        concurrency = options.concurrency_of(self._process)
        if concurrency is None:
            concurrency = default_limit(options.threads, is_async, options.batch_max_size)
        if concurrency < options.batch_max_size:
            self._log(
                "batches stay small",
                level="warning",
                why=f"concurrency {concurrency} is below batch size {options.batch_max_size}",
            )
        blocks = predictor.predict.style is Style.BLOCKING and not options.batch_max_size
        if blocks and concurrency > options.threads:
            self._log(
                "requests wait in the replica",
                level="warning",
                why=f"concurrency {concurrency} is above the {options.threads} threads of predict",
            )
        self._server.serve_with(service, concurrency)

    def _failed(self, failed: Failed) -> int:
        self._enter(Phase.FAILED)
        facts = {"trace": failed.trace} if failed.trace else {}
        self._log("predictor cannot be served", level="error", why=failed.reason, **facts)
        self._tell("failure " + json.dumps({"reason": failed.reason, "log_tail": failed.trace}))
        return EXIT_FAILED

    # Telling the supervisor ----------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        if self._state.phase not in (Phase.DRAINING, Phase.FAILED):
            self._state.phase = phase
            self._tell(f"phase {phase.value}")

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._beat_fd, line.encode() + b"\n")

    async def _beat(self) -> None:
        while True:
            self._tell("beat")
            await clock.sleep(BEAT_PERIOD_S)

    # Ending --------------------------------------------------------------------------------------

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._log("second signal: exit at once", level="warning")
            os._exit(130)
        self._stop.set()

    async def _finish(self, web_server: web.Server, began_s: float) -> None:
        """Wait for what is in flight; every answer from here on closes its connection."""
        end_s = clock.now_s() + self._options.drain_limit_s
        while (
            self._server.unfinished or _unsent(web_server) or self._lingering(web_server, began_s)
        ):
            if clock.now_s() >= end_s:
                self._log("drain limit passed", level="warning", lost=self._server.unfinished)
                break
            await clock.sleep(POLL_S)
        await web_server.shutdown(timeout=CUT_AFTER_S)

    def _lingering(self, web_server: web.Server, began_s: float) -> bool:
        """Say whether an idle keep-alive connection may still bring a last request."""
        return bool(web_server.connections) and clock.now_s() - began_s < LINGER_S

    async def _close(self) -> None:
        service = self._server.service
        if service is not None and service.predictor.close is not None:
            try:
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await self._call_close(service.predictor.close)
            except Exception as error:  # noqa: BLE001  # the user's code may raise anything
                self._log.failure("close failed", error)
        self._pool.close()
        self._log("stopped")

    async def _call_close(self, close: Any) -> None:
        if inspect.iscoroutinefunction(close):
            await close()
        else:
            # Not on the pool: a call that hangs there must not keep `close` from running.
            await asyncio.to_thread(close)


def _unsent(web_server: web.Server) -> bool:
    """Say whether a part of an answer still waits in this process for a slow client."""
    return any(
        connection.transport is not None and connection.transport.get_write_buffer_size() > 0
        for connection in web_server.connections
    )


def _hear_again(web_server: web.Server) -> None:
    for connection in web_server.connections:
        if connection.transport is not None:
            fd = connection.transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(fd)) as sock:
                hear_again(sock)


def _facts(options: Options, process: int) -> dict[str, Any]:
    return {
        "api": options.api,
        "version": options.version,
        "replica": options.replica,
        "process": process if options.processes > 1 else None,
    }


def _die_with_supervisor(life_fd: int) -> None:
    """End at once when the supervisor is gone, however it went and whatever this process does."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(life_fd, 1)
        os._exit(137)

    threading.Thread(target=watch, name="life", daemon=True).start()
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    options, process = from_json(sys.argv[1]), int(sys.argv[2])
    beat_fd, life_fd, dump_fd = (int(text) for text in sys.argv[3:6])
    _die_with_supervisor(life_fd)
    for fd in (beat_fd, dump_fd):
        os.set_blocking(fd, False)
    faulthandler.enable(file=dump_fd)
    faulthandler.register(signal.SIGUSR1, file=dump_fd, all_threads=True)
    os.chdir(options.folder)

    async def run() -> int:
        return await Worker(options, process, beat_fd).run()

    with asyncio.Runner(loop_factory=cast(Any, uvloop.new_event_loop)) as runner:
        status = runner.run(run())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the predictor may have closed it
                stream.flush()
        # Threads of a hung predictor must not keep the process: everything is finished by now.
        os._exit(status)


if __name__ == "__main__":
    main()
