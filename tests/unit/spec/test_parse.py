import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.spec import SpecError, load_text
from serai.spec.nodes import Mapping, Node, Scalar, Sequence, resolve
from serai.spec.parse import parse
from serai.spec.write import to_yaml

KEYS = ["name", "kind", "predictor", "pod", "path", "compute", "cpu", "containers", "env", "config",
        "autoscaling", "workers_per_replica", "max_replica_concurrency", "readiness_probe", "type",
        "concurrency", "image", "mounts", "networking", "endpoint", "<<", "x"]  # fmt: skip
WORDS = ["a", "RealtimeAPI", "p.py", "1", "200m", "1Gi", "/a", "null", "~", "-1", "1.5", ".nan",
         "*a", "&a", "yes", "!t", "99999999999999999999999", "/a/../b"]  # fmt: skip


def plain(node: Node) -> object:
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {entry.key: plain(entry.value) for entry in node.entries}


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet=st.characters(), max_size=60)
    | st.text("ab:-[]{}&*!|>'\"%#?,<~ \n\t", max_size=60)
)
def test_no_text_raises_anything_but_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError) as raised:
        load_text(text, "f")
    assert raised.value.problems
    assert str(raised.value).isprintable() or "\n" in str(raised.value)


documents = st.recursive(
    st.sampled_from(WORDS) | st.text(max_size=5).map(lambda text: yaml.dump(text).split("\n")[0]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=6).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=30,
)


@settings(max_examples=500, deadline=None)
@given(documents)
def test_no_nest_of_known_keys_raises_anything_but_a_spec_error(text: str) -> None:
    try:
        load_text(text, "f")
    except SpecError as error:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


texts = st.text(max_size=8) | st.sampled_from(["0E0", "1e3", "0o7", ".inf", "1.", "y", "1:30"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5).filter(lambda key: key != "<<"), inner, max_size=3),
    max_leaves=15,
)  # fmt: skip


@settings(deadline=None)
@given(values)
def test_what_is_written_as_yaml_is_read_as_it_was(value: object) -> None:
    (node,), problems = parse(to_yaml(value), "f")
    assert problems == []
    assert plain(node) == value


@pytest.mark.parametrize(
    "text",
    ["12e34567", "1e00012", "1.5e12345", "-0o7", "0o" + "7" * 23, "9" * 400 + "e5", "y", "N"],
)
def test_what_only_other_readers_take_for_no_text_is_quoted(text: str) -> None:
    """The core schema of YAML 1.2 bounds no number; that of 1.1 has booleans of one letter."""
    assert to_yaml({"key": text}) == f"key: '{text}'\n"


def test_places_count_from_one() -> None:
    (node,), _ = parse("a: 1\nb:\n  - é: x\n", "f")
    assert isinstance(node, Mapping)
    inner = node.entries[1].value
    assert isinstance(inner, Sequence) and isinstance(inner.items[0], Mapping)
    value = inner.items[0].entries[0].value
    assert (value.mark.line, value.mark.column) == (3, 8)


def test_merge_keys_add_what_is_not_written() -> None:
    (node,), problems = parse("[&a {x: 1, y: 2}, &b {y: 3, z: 4}, {<<: [*a, *b], x: 0}]", "f")
    assert problems == []
    assert plain(node) == [{"x": 1, "y": 2}, {"y": 3, "z": 4}, {"x": 0, "y": 2, "z": 4}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{<<: 1}", "`<<` takes a mapping"),
        ("[&a {x: 1}, {<<: *a, <<: *a}]", "`<<` is written twice"),
        ("{[a]: 1}", "a key must be text"),
        ("{a: 1, 'a': 2}", "`a` is written twice, first in line 1"),
        ("a: !!binary aGk=", "the tag"),
        ("{1: a, '1': b}", "`1` is written twice"),
    ],
)
def test_faults_that_leave_a_file_readable(text: str, message: str) -> None:
    _, problems = parse(text, "f")
    assert [message in problem.message for problem in problems] == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 33 + "]" * 33, "nested more than 32 deep"),
        ("[" * 100_000, "nested more than 32 deep"),
        ("x: &a " + "[" * 20 + "]" * 20 + "\ny: " + "[" * 20 + "*a" + "]" * 20, "nested more"),
        ("- a\n" * 100_001, "more than 100000 values"),
        ("&a [*a]", "`*a` stands inside of what it refers to"),
        ("---\n&a x\n---\n*a\n", "`*a` refers to an anchor that is not written before it"),
        ("\ud800", "half of a pair"),
        ("x" * (2**20 + 1), "at most 1 MiB"),
    ],
    ids=["deep", "very-deep", "deep-alias", "many", "itself", "other-document", "half", "large"],
)
def test_what_cannot_be_read_at_all(text: str, message: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse(text, "f")
    assert message in raised.value.problems[-1].message


def test_many_merges_of_a_large_mapping_stop_early() -> None:
    """A merge is charged like an alias, or small files would take minutes."""
    large = "{" + ", ".join(f"k{index}: 1" for index in range(10_000)) + "}"
    with pytest.raises(SpecError, match="more than 100000 values"):
        parse(f"- &a {large}\n" + "- {<<: *a}\n" * 10_000, "f")


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("~", None), ("010", 10), ("0x1F", 31), ("1e3", 1000.0), ("1:30", "1:30"),
     ("on", True), ("Off", False), ("2020-01-01", "2020-01-01"), ("1_000", "1_000"),
     (".5", 0.5), ("1.", 1.0), ("9" * 5000, "9" * 5000)],
)  # fmt: skip
def test_unquoted_values_mean_what_people_mean(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)
