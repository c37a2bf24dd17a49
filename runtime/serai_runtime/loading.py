"""Imports and makes the predictor on a thread of its own, while the probes already answer."""

import asyncio
import inspect
import json
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serai_runtime.errors import PredictorError, in_words
from serai_runtime.load import Predictor, find_class, import_file, make, methods
from serai_runtime.options import Options
from serai_runtime.state import Phase

TRACE_LINES = 20
TRACE_CHARS = 6000
"""With the reason it has to fit into the pipe to the supervisor, which is never waited for."""


@dataclass(frozen=True)
class Failed:
    """Why there is no predictor, in words, and the end of the trace."""

    reason: str
    trace: str


async def load(options: Options, enter: Callable[[Phase], None]) -> Predictor | Failed:
    """Return the predictor, loaded; `enter` is told each phase, on the loop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Predictor | Failed] = loop.create_future()

    def work() -> None:
        result = _load(options, lambda phase: loop.call_soon_threadsafe(enter, phase))
        loop.call_soon_threadsafe(_settle, done, result)

    threading.Thread(target=work, name="load", daemon=True).start()
    result = await done
    if isinstance(result, Predictor) and inspect.iscoroutinefunction(result.load):
        try:
            await result.load()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _failed(error, Phase.LOADING)  # nobody cancelled us: it came out of `load`
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            return _failed(error, Phase.LOADING)
    return result


def _settle(done: "asyncio.Future[Any]", result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _load(options: Options, enter: Callable[[Phase], object]) -> Predictor | Failed:
    phase = Phase.IMPORTING
    path = Path(options.predictor).resolve()
    try:
        plan = find_class(import_file(path, options.folder), path.name)
        phase = Phase.LOADING
        enter(phase)
        instance = make(plan, _config(options.config))
        predictor = methods(plan, instance, path.name)
        if predictor.load is not None and not inspect.iscoroutinefunction(predictor.load):
            predictor.load()
    except PredictorError as error:
        return Failed(str(error), "")
    except BaseException as error:  # noqa: BLE001  # the user's code, even a SystemExit at import
        return _failed(error, phase)
    return predictor


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


def _failed(error: BaseException, phase: Phase) -> Failed:
    doing = "importing it" if phase is Phase.IMPORTING else "making or loading it"
    reason = f"the predictor failed while {doing}: {in_words(error)}{_place(error)}{_hint(error)}"
    lines = "".join(traceback.format_exception(error)).splitlines()
    return Failed(reason, "\n".join(lines[-TRACE_LINES:])[-TRACE_CHARS:])


def _place(error: BaseException) -> str:
    """Name the line of the user's that failed: the innermost one that is not ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # Python's own words name it
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "importlib" not in name and "serai_runtime" not in name:
            place = f" ({Path(name).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _hint(error: BaseException) -> str:
    """Say what to do about the commonest fault of all: a package that is not there."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.partition(".")[0]
        return f"; if {missing} comes from a package, name that in requirements.txt"
    return ""
