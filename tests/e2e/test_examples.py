"""Every example is deployed as its README says and asked for real."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.serai import Answer, Serai, call

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}
FLOWER = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}'


@dataclass(frozen=True)
class Case:
    """A request to an example and what must hold of the answer."""

    body: bytes
    holds: Callable[[Answer], bool]
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    status: int = 200


def text_of(answer: Answer) -> str:
    return answer.body.decode()


CASES: dict[str, tuple[Case, ...]] = {
    "file-type": (
        Case(
            (EXAMPLES / "file-type" / "samples" / "upper.txt").read_bytes(),
            lambda a: a.json()["label"] == "python" and a.json()["score"] > 0.5,
            BYTES,
        ),
        Case(
            (EXAMPLES / "ocr" / "sample.png").read_bytes(),
            lambda a: a.json()["mime_type"] == "image/png",
            BYTES,
        ),
        Case(b"", lambda a: "send the file as the body" in text_of(a), BYTES, 400),
        Case(b'{"a": 1}', lambda a: "application/octet-stream" in text_of(a), JSON, 400),
    ),
    "iris": (
        Case(FLOWER, lambda a: a.json()["label"] == "setosa"),
        Case(b'{"sepal_length": 5}', lambda a: "sepal_width" in text_of(a), JSON, 400),
        Case(b"{", lambda a: "JSON" in text_of(a), JSON, 400),
    ),
    "ocr": (
        Case(
            (EXAMPLES / "ocr" / "sample.png").read_bytes(),
            lambda a: "Serai" in a.json()["text"],
            {"Content-Type": "image/png"},
        ),
        Case(b"no image", lambda a: "no image" in text_of(a), BYTES, 400),
    ),
    "stream": (
        Case(
            b'{"prompt": "What is Serai?"}',
            lambda a: (
                a.headers["content-type"].startswith("text/event-stream")
                and text_of(a).startswith("data: What")
            ),
            {**JSON, "Accept": "text/event-stream"},
        ),
        Case(b'{"prompt": "Hello"}', lambda a: "nomads rest" in text_of(a)),
        Case(b"{}", lambda a: "prompt" in text_of(a), JSON, 400),
    ),
    "any-http": (Case(b"three little words", lambda a: a.json() == {"words": 3}, BYTES),),
}


NO_API = "policy"
"""An example that is none: `tests/integration/autoscale` runs it."""


def test_every_example_has_cases() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == {*CASES, NO_API}


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.timeout(300)
def test_an_example_answers_as_its_readme_says(shared: Serai, name: str) -> None:
    said = shared.deploy(EXAMPLES / name)
    assert f"{shared.url}/{name}" in said
    for case in CASES[name]:
        answer = call(f"{shared.url}/{name}", case.body, case.headers, method="POST")
        assert answer.status == case.status, answer.body
        assert case.holds(answer), answer.body


def test_predict_sends_files_and_json(shared: Serai) -> None:
    shared.deploy(EXAMPLES / "iris")
    done = shared.run("predict", "iris", FLOWER.decode())
    assert done.returncode == 0 and json.loads(done.stdout)["label"] == "setosa"
    wrong = shared.run("predict", "iris", "{}")
    assert wrong.returncode == 1 and "sepal_length" in wrong.stdout
    assert shared.run("predict", "iris", "not json").returncode == 2
    missing = shared.run("predict", "irys", "{}")
    assert missing.returncode == 4 and "did you mean iris" in missing.stderr
