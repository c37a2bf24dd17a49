"""One process that serves: listens first, imports and loads the predictor on a thread, drains.

Run by the supervisor as `python -m serai_runtime.worker OPTIONS PROCESS BEAT_FD LIFE_FD`. It tells
the supervisor what it does in lines on BEAT_FD (`beat`, `phase NAME`, `failure JSON`) and ends
when LIFE_FD, held by the supervisor, is closed.
"""

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from aiohttp import web

from serai_runtime import clock
from serai_runtime.errors import PredictorError
from serai_runtime.load import find_class, import_file, make, methods
from serai_runtime.logs import Log
from serai_runtime.options import Options, from_json
from serai_runtime.pool import Pool
from serai_runtime.server import Server
from serai_runtime.service import Service
from serai_runtime.state import Phase, WorkerState

BEAT_PERIOD_S = 0.5
LINGER_S = 3.0
"""How long an idle keep-alive connection may still bring its last request while draining."""
POLL_S = 0.02
KEEPALIVE_S = 75.0
EXIT_FAILED = 3
"""Exit status of a predictor that cannot be loaded: starting again would not help."""


class Worker:
    """Everything one process does, in the order of its life."""

    def __init__(self, options: Options, process: int, beat_fd: int) -> None:
        self._options = options
        self._process = process
        self._beat_fd = beat_fd
        facts = {
            "api": options.api,
            "version": options.version,
            "replica": options.replica,
            "process": process if options.processes > 1 else None,
        }
        self._log = Log(options.log_format, facts)
        self._state = WorkerState()
        self._server = Server(options, process, self._state, self._log)
        self._stop = asyncio.Event()
        self._instance: Any = None

    async def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        web_server = web.Server(
            self._server.handle,
            handler_cancellation=True,
            request_factory=self._make_request,
            keepalive_timeout=KEEPALIVE_S,
            access_log=None,
        )
        port = self._options.ports[self._process]
        listener = await loop.create_server(
            web_server, self._options.host, port, backlog=1024, reuse_address=True
        )
        beating = loop.create_task(self._beat())
        pool = Pool(self._options.threads, loop)
        try:
            if not await self._load(pool):
                return EXIT_FAILED
            await self._stop.wait()
            await self._drain(listener, web_server)
        finally:
            beating.cancel()
            listener.close()
            await self._close(pool)
        return 0

    def _make_request(self, *parts: Any) -> web.BaseRequest:
        message, payload, protocol, writer, task = parts[:5]
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._options.body_max_bytes,
        )

    # Loading -------------------------------------------------------------------------------------

    async def _load(self, pool: Pool) -> bool:
        """Import and make the predictor while the probes already answer."""
        began_s = clock.now_s()
        loading: asyncio.Future[Service] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(
            target=self._load_on_thread, args=(loading, pool), name="load", daemon=True
        )
        thread.start()
        stopping = asyncio.ensure_future(self._stop.wait())
        waited: list[asyncio.Future[Any]] = [loading, stopping]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return True  # told to stop before it was loaded: nothing to drain
        stopping.cancel()
        try:
            service = loading.result()
        except PredictorError as error:
            return self._failed(str(error), "")
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            self._log.failure(f"predictor failed while {self._state.phase}", error)
            return self._failed(_in_words(error, self._state.phase), _last_frame(error))
        if inspect.iscoroutinefunction(getattr(self._instance, "load", None)):
            await self._instance.load()
        self._server.metrics.load_s = clock.now_s() - began_s
        self._server.serve_with(service)
        # What was loaded stays: sparing the collector a walk over it keeps its pauses short.
        gc.collect()
        gc.freeze()
        self._enter(Phase.READY)
        self._log("predictor ready", load_s=round(clock.now_s() - began_s, 3))
        return True

    def _load_on_thread(self, done: "asyncio.Future[Service]", pool: Pool) -> None:
        loop = done.get_loop()
        try:
            service = self._make_service(loop, pool)
        except BaseException as error:  # noqa: BLE001  # even SystemExit at import is the user's
            if not isinstance(error, Exception):
                error = PredictorError(f"the predictor ended the program: {error!r}")
            failure = error
            loop.call_soon_threadsafe(_settle, done, None, failure)
        else:
            loop.call_soon_threadsafe(_settle, done, service, None)

    def _make_service(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> Service:
        options = self._options
        path = Path(options.predictor).resolve()
        file = path.name
        plan = find_class(import_file(path, options.folder), file)
        loop.call_soon_threadsafe(self._enter, Phase.LOADING)
        self._instance = make(plan, _config(options.config))
        load = getattr(self._instance, "load", None)
        if load is not None and not inspect.iscoroutinefunction(load):
            load()
        predictor = methods(plan, self._instance, file)
        return Service(predictor, options, pool, self._server.metrics)

    def _failed(self, why: str, where: str) -> bool:
        self._state.failure = why
        self._enter(Phase.FAILED)
        self._log("predictor cannot be loaded", level="error", why=why)
        self._tell("failure " + json.dumps({"reason": why, "where": where}))
        return False

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

    async def _drain(self, listener: asyncio.AbstractServer, web_server: web.Server) -> None:
        """Go out of service without losing a request: readiness first, sockets last."""
        options, state = self._options, self._state
        self._enter(Phase.DRAINING)
        state.phase = Phase.DRAINING
        self._log("draining", in_flight=state.open_requests)
        await clock.sleep(options.deregistration_delay_s)
        listener.close()
        began_s = clock.now_s()
        # Every answer from here on closes its connection; an idle one may still bring a request.
        while clock.now_s() - began_s < options.drain_limit_s:
            connections = len(web_server.connections)
            idle = not self._server.unfinished
            if idle and (not connections or clock.now_s() - began_s >= LINGER_S):
                break
            await clock.sleep(POLL_S)
        else:
            self._log("drain limit passed", level="warning", unfinished=self._server.unfinished)
        await web_server.shutdown(timeout=0)

    async def _close(self, pool: Pool) -> None:
        service = self._server.service
        if service is not None and service.predictor.close is not None:
            try:
                result = service.predictor.close()
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001  # the user's code may raise anything
                self._log.failure("close failed", error)
        pool.close()
        self._log("stopped")


def _settle(
    done: "asyncio.Future[Service]", service: Service | None, failure: Exception | None
) -> None:
    if done.done():
        return
    if failure is not None:
        done.set_exception(failure)
    elif service is not None:
        done.set_result(service)


def _config(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        config = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise PredictorError(f"the config file {path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise PredictorError(f"the config file {path} holds no JSON object")
    return config


def _in_words(error: BaseException, phase: Phase) -> str:
    where = _last_frame(error)
    doing = "importing it" if phase is Phase.IMPORTING else "making or loading it"
    return f"the predictor failed while {doing}: {type(error).__name__}: {error}{where}"


def _last_frame(error: BaseException) -> str:
    trace = error.__traceback__
    place = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "importlib" not in name and "serai_runtime" not in name:
            place = f" ({Path(name).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


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
    beat_fd, life_fd = int(sys.argv[3]), int(sys.argv[4])
    _die_with_supervisor(life_fd)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    os.chdir(options.folder)

    async def run() -> int:
        return await Worker(options, process, beat_fd).run()

    try:
        import uvloop
    except ImportError:
        status = asyncio.run(run())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(run())
    sys.stdout.flush()
    # Threads of a hung predictor must not keep the process: everything is finished by now.
    os._exit(status)


if __name__ == "__main__":
    main()
