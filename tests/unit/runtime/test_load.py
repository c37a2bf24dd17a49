"""Which classes are predictors, and what is said of those that are not."""

from types import ModuleType
from typing import Any

import pytest

from serai_runtime.errors import PredictorError
from serai_runtime.load import Style, arguments_for, find_class, make, methods


def module(source: str) -> ModuleType:
    made = ModuleType("user")
    exec(source, made.__dict__)
    return made


def predictor(source: str, config: dict[str, Any] | None = None) -> Any:
    plan = find_class(module(source), "p.py")
    return methods(plan, make(plan, config or {}), "p.py")


def refusal(source: str) -> str:
    with pytest.raises(PredictorError) as found:
        predictor(source)
    return str(found.value)


def test_the_constructor_gets_the_config_if_it_takes_it() -> None:
    source = "class Predictor:\n def __init__(self, config): self.c = config\n"
    source += " def predict(self, payload): return self.c\n"
    assert predictor(source, {"a": 1}).predict.call("x") == {"a": 1}
    plain = "class Predictor:\n def __init__(self): pass\n def predict(self, payload): return 7\n"
    assert predictor(plain, {"a": 1}).predict.call("x") == 7
    none = "class PythonPredictor:\n def predict(self, payload): return 8\n"
    assert predictor(none).predict.call("x") == 8


def test_an_inherited_predict_counts_and_predictor_goes_before_python_predictor() -> None:
    source = "class Base:\n def predict(self, payload): return 'base'\n"
    source += "class PythonPredictor(Base): pass\nclass Predictor(Base):\n"
    source += " def predict(self, payload): return 'own'\n"
    assert predictor(source).predict.call(1) == "own"


@pytest.mark.parametrize(
    ("definition", "takes"),
    [
        ("def predict(self)", ()),
        ("def predict(self, payload)", ("payload",)),
        ("def predict(self, headers, payload)", ("headers", "payload")),
        ("def predict(self, payload, query_params=None)", ("payload", "query_params")),
        ("def predict(self, payload, mine=3)", ("payload",)),
        ("def predict(self, **all)", ("payload", "query_params", "headers")),
    ],
)
def test_predict_gets_what_it_names(definition: str, takes: tuple[str, ...]) -> None:
    found = predictor(f"class Predictor:\n {definition}: return 1\n").predict
    assert found.takes == takes
    offered = {"payload": 1, "query_params": {}, "headers": {}}
    assert list(arguments_for(found, offered)) == list(takes)


@pytest.mark.parametrize(
    ("body", "style"),
    [
        ("def predict(self, payload): return 1", Style.BLOCKING),
        ("async def predict(self, payload): return 1", Style.ASYNC),
        ("def predict(self, payload): yield 1", Style.GENERATOR),
        ("async def predict(self, payload): yield 1", Style.ASYNC_GENERATOR),
    ],
)
def test_how_predict_is_called(body: str, style: Style) -> None:
    assert predictor(f"class Predictor:\n {body}\n").predict.style is style


def test_a_wrong_argument_is_told_with_what_was_expected_and_found() -> None:
    told = refusal("class Predictor:\n def predict(self, p): return 1\n")
    assert told == (
        "p.py: Predictor.predict has the wrong arguments: expected (self, payload, query_params, "
        "headers) or a part of these, found (self, p)"
    )
    told = refusal("class Predictor:\n def __init__(self, cfg): ...\n def predict(self): ...\n")
    assert "Predictor.__init__ has the wrong arguments: expected (self, config)" in told
    assert "found (self, cfg)" in told


@pytest.mark.parametrize(
    "method",
    [
        "def predict(payload)",
        "def predict()",
        "def predict(self, *args)",
        "def predict(self, payload, /)",
        "def predict(self): ...\n def load(self, config)",
        "def predict(self): ...\n def close(self, x)",
    ],
)
def test_arguments_that_could_not_be_given_are_told_before_anything_runs(method: str) -> None:
    told = refusal(f"class Predictor:\n {method}: ...\n")
    assert "has the wrong arguments: expected (self" in told
    assert f"found ({method.rpartition('(')[2].replace(', /', '')}" in told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1", "p.py defines no class Predictor (or PythonPredictor)"),
        ("Predictor = 3", "p.py defines no class Predictor (or PythonPredictor)"),
        ("class Predictor: pass", "p.py: Predictor has no method predict"),
        ("class Predictor:\n predict = 3", "p.py: Predictor.predict is not a function"),
        (
            "class Predictor:\n close = 3\n def predict(self): ...",
            "p.py: Predictor.close is not a function",
        ),
    ],
)
def test_what_is_no_predictor(source: str, told: str) -> None:
    assert refusal(source) == told


def test_static_and_class_methods_have_no_self() -> None:
    source = "class Predictor:\n @staticmethod\n def predict(payload): return payload + 1\n"
    assert predictor(source).predict.call(1) == 2
    source = "class Predictor:\n @classmethod\n def predict(cls, payload): return payload + 2\n"
    assert predictor(source).predict.call(1) == 3
