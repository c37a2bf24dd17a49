"""From a file to a checked predictor: its class, its methods and which arguments they take."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from serai_runtime.errors import PredictorError

CLASS_NAMES = ("Predictor", "PythonPredictor")
PREDICT_ARGUMENTS = ("payload", "query_params", "headers")
POST_ARGUMENTS = ("payload", "response", "query_params", "headers")
MODULE_NAME = "serai_user_predictor"


class Style(Enum):
    """How `predict` is called."""

    BLOCKING = "blocking"
    ASYNC = "async"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


@dataclass(frozen=True)
class Method:
    """A method of the user's and which of the offered arguments it takes, by name."""

    call: Callable[..., Any]
    takes: tuple[str, ...]
    style: Style


@dataclass(frozen=True)
class Plan:
    """What was found in the predictor's class before anything of it was made."""

    kind: type
    constructor_takes_config: bool


@dataclass(frozen=True)
class Predictor:
    """A predictor that has been made and loaded."""

    predict: Method
    pre_process: Method | None
    post_predict: Method | None
    load: Callable[[], Any] | None
    close: Callable[[], Any] | None


def import_file(path: Path, folder: Path) -> ModuleType:
    """Run the predictor's file as a module; its own errors pass through."""
    for place in (str(folder.resolve()), str(path.resolve().parent)):
        if place not in sys.path:
            sys.path.insert(0, place)
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise PredictorError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    return module


def find_class(module: ModuleType, file: str) -> Plan:
    """Find the predictor's class and check its methods before it is made."""
    for name in CLASS_NAMES:
        kind = getattr(module, name, None)
        if inspect.isclass(kind):
            return _check_class(kind, file)
    raise PredictorError(f"{file} defines no class Predictor (or PythonPredictor)")


def _check_class(kind: type, file: str) -> Plan:
    predict = getattr(kind, "predict", None)
    if predict is None:
        raise PredictorError(f"{file}: {kind.__name__} has no method predict")
    for name in ("predict", "pre_process", "post_predict", "load", "close"):
        found = getattr(kind, name, None)
        if found is not None and not callable(found):
            raise PredictorError(f"{file}: {kind.__name__}.{name} is not a function")
    _arguments(kind, "predict", PREDICT_ARGUMENTS, file)
    for name in ("load", "close"):
        if hasattr(kind, name):
            _arguments(kind, name, (), file)
    if hasattr(kind, "pre_process"):
        _arguments(kind, "pre_process", PREDICT_ARGUMENTS, file)
    if hasattr(kind, "post_predict"):
        _arguments(kind, "post_predict", POST_ARGUMENTS, file)
    if kind.__init__ is object.__init__:  # type: ignore[misc]  # read, not called
        return Plan(kind, constructor_takes_config=False)
    takes = _arguments(kind, "__init__", ("config",), file)
    return Plan(kind, constructor_takes_config="config" in takes)


def _arguments(kind: type, name: str, offered: tuple[str, ...], file: str) -> tuple[str, ...]:
    """Return which of the offered arguments a method takes; refuse any other that it needs."""
    given = parameters = list(inspect.signature(getattr(kind, name)).parameters.values())
    raw = inspect.getattr_static(kind, name)
    bound = isinstance(raw, staticmethod | classmethod)
    lacks_self = not bound and (not given or given[0].name in offered)
    if not bound:
        parameters = parameters[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and not lacks_self:
        return offered
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
    unknown = [p.name for p in parameters if p.name not in offered and p.default is p.empty]
    if lacks_self or unknown or by_position:
        found = ", ".join(str(p) for p in given)
        raise PredictorError(
            f"{file}: {kind.__name__}.{name} has the wrong arguments: expected "
            f"({', '.join(('self', *offered))}){' or a part of these' if offered else ''}, "
            f"found ({found})"
        )
    return tuple(p.name for p in parameters if p.name in offered)


def make(plan: Plan, config: dict[str, Any]) -> Any:
    """Make the user's object; its constructor's errors pass through."""
    return plan.kind(config) if plan.constructor_takes_config else plan.kind()


def methods(plan: Plan, instance: Any, file: str) -> Predictor:
    """Return the methods of a predictor ready to be called."""
    return Predictor(
        predict=_method(plan.kind, instance, "predict", PREDICT_ARGUMENTS, file),
        pre_process=_optional(plan.kind, instance, "pre_process", PREDICT_ARGUMENTS, file),
        post_predict=_optional(plan.kind, instance, "post_predict", POST_ARGUMENTS, file),
        load=getattr(instance, "load", None),
        close=getattr(instance, "close", None),
    )


def _optional(
    kind: type, instance: Any, name: str, offered: tuple[str, ...], file: str
) -> Method | None:
    return _method(kind, instance, name, offered, file) if hasattr(kind, name) else None


def _method(kind: type, instance: Any, name: str, offered: tuple[str, ...], file: str) -> Method:
    call = getattr(instance, name)
    return Method(call, _arguments(kind, name, offered, file), _style(call))


def _style(call: Callable[..., Any]) -> Style:
    if inspect.isasyncgenfunction(call):
        return Style.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(call):
        return Style.ASYNC
    if inspect.isgeneratorfunction(call):
        return Style.GENERATOR
    return Style.BLOCKING


def arguments_for(method: Method, offered: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a method takes, of those that are offered."""
    return {name: offered[name] for name in method.takes}
