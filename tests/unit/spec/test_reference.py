"""What is told of a spec elsewhere (documents, JSON Schema, tables of keys) fits its types."""

import json
from pathlib import Path

import jsonschema
import pytest

from serai.spec import IDENTITY_KEYS, SETTINGS_KEYS, VERSION_KEYS, load_text, schema
from serai.spec.codec import to_builtins
from serai.spec.constraints import spec_type
from serai.spec.cortex import CONTAINER_NOTES, MOVES, NOTES
from serai.spec.read import all_keys
from serai.spec.reference import change_of, reference

ROOT = Path(__file__).parents[3]
GOOD = sorted((ROOT / "tests" / "golden" / "spec" / "good").glob("*.yaml"))


def test_the_document_holds_the_table_made_from_the_types() -> None:
    assert reference() in (ROOT / "docs" / "spec.md").read_text()


def test_every_key_has_a_meaning() -> None:
    assert [row for row in reference().splitlines() if "|  |" in row.rpartition("| ")[0]] == []


def test_every_key_is_of_one_sort() -> None:
    """A key makes a new version, or is a setting, or is the identity: never two, never none."""
    sorts = (IDENTITY_KEYS, VERSION_KEYS, SETTINGS_KEYS)
    for key in all_keys(spec_type()):
        if key != "concurrency":  # some of its keys are of one sort, some of another
            holders = [
                one
                for keys in sorts
                for one in keys
                if key == one or key.startswith((one + ".", one + "["))
            ]
            assert len(holders) == 1, key


def test_every_sort_names_keys_that_exist() -> None:
    assert {*IDENTITY_KEYS, *VERSION_KEYS, *SETTINGS_KEYS} <= set(all_keys(spec_type()))


@pytest.mark.parametrize(
    ("key", "change"),
    [("name", "a new API"), ("pod.containers[].image", "new version"), ("timeouts.idle", "setting"),
     ("concurrency.per_replica", "new version"), ("concurrency.queue", "setting")],
)  # fmt: skip
def test_what_a_change_makes(key: str, change: str) -> None:
    assert change_of(key) == change


def test_the_document_about_cortex_names_every_key_of_the_tables() -> None:
    text = (ROOT / "docs" / "cortex.md").read_text()
    named = [".".join(old) for old, _ in MOVES] + [".".join(keys) for keys in NOTES]
    named += [f"pod.containers[].{key}" for key in CONTAINER_NOTES]
    assert [key for key in named if f"`{key}`" not in text] == []


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    json.dumps(schema())


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_the_schema_takes_what_is_valid(file: Path) -> None:
    specs = [to_builtins(spec) for spec in load_text(file.read_text(), "f").apis]
    written = [{key: value for key, value in spec.items() if value is not None} for spec in specs]
    jsonschema.validate(written, schema())
    jsonschema.validate(written[0], schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a"},
        {"name": "A", "predictor": {"path": "p.py"}},
        {"name": "a", "predictor": {"path": "p.py"}, "pod": {"command": ["x"]}},
        {"name": "a", "predictor": {"path": "p.py"}, "cpu": 1},
        {"name": "a", "predictor": {"path": "p.py"}, "compute": {"cpu": "x"}},
        {"name": "a", "predictor": {"path": "p.py"}, "retry": "x"},
        {"name": "a", "predictor": {"path": "p.py"}, "kind": "AsyncAPI"},
        [],
    ],
)
def test_the_schema_refuses_what_is_not(wrong: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema())


def test_the_schema_takes_numbers_where_text_is_taken() -> None:
    predictor = {"path": "p.py", "python": 3.12}
    jsonschema.validate({"name": "a", "predictor": predictor, "env": {"A": 1}}, schema())
    jsonschema.validate({"name": "a", "pod": {"command": ["x", 1, True]}}, schema())


def test_the_schema_shows_help_and_defaults() -> None:
    parts = schema()["$defs"]
    assert parts["Compute"]["properties"]["cpu"]["default"] == "200m"
    assert parts["Concurrency"]["properties"]["queue_timeout"]["default"] == "30s"
    assert "default" not in parts["Compute"]["properties"]["mem"]
    for name, part in parts.items():
        for key, value in part.get("properties", {}).items():
            assert "description" in value, f"{name}.{key}"
