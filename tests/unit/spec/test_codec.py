import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.spec import load_text, normalised, validate
from serai.spec.codec import dec_hook, decode, enc_hook, encode, to_builtins
from serai.spec.scaling import Autoscaling
from serai.spec.types import (
    QUEUE_TIMEOUTS,
    ApiSpec,
    Batch,
    Compute,
    Concurrency,
    Container,
    Mount,
    Pod,
    Predictor,
    Readiness,
    Timeouts,
)
from serai.spec.write import to_yaml
from serai.units import Cpu, Duration, Size

names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
environments = st.dictionaries(st.from_regex(r"X[A-Z0-9_]{0,5}", fullmatch=True), texts, max_size=3)
paths = st.from_regex(r"/[a-z]{1,8}", fullmatch=True)
files = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
limits = st.integers(60_000, 86_400_000).map(lambda ms: Duration.parse(ms / 1000))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
predictors = st.builds(
    Predictor,
    path=files.map("{}.py".format),
    config=st.dictionaries(texts, json_values, max_size=3),
    requirements=st.none() | files,
    python=st.none() | st.sampled_from(["3.11", "3.20"]),
    processes=st.integers(1, 8),
    threads=st.integers(1, 256),
    batch=st.none() | st.builds(Batch, max_size=st.integers(1, 1024)),
)
containers = st.builds(
    Container, image=files, command=st.lists(texts, max_size=2).map(tuple), env=environments
)
pods = st.builds(Pod, port=st.integers(1, 65535), containers=st.tuples(containers)) | st.builds(
    Pod, command=st.lists(texts, min_size=1, max_size=3).map(tuple)
)
settings_of_specs: dict[str, st.SearchStrategy[Any]] = {
    "name": names,
    "endpoint": st.just("") | paths,
    "compute": st.builds(
        Compute,
        cpu=st.integers(20, 10**6).map(Cpu),
        mem=st.none() | st.integers(2**32, 2**46).map(Size),
        shm=st.none() | st.integers(2**20, 2**31).map(Size),
        gpu=st.integers(0, 64),
    ),
    "concurrency": st.builds(
        Concurrency,
        per_replica=st.integers(8, 30_000),
        queue_timeout=st.sampled_from(QUEUE_TIMEOUTS).map(Duration.parse),
        body_max=st.integers(1024, 2**30).map(Size),
    ),
    "timeouts": st.builds(Timeouts, first_byte=st.just(Duration(0.001)), idle=limits, total=limits),
    "retry": st.sampled_from(["never", "connection", "idempotent"]),
    "mounts": st.builds(Mount, host=paths, path=paths, read_only=st.booleans()).map(
        lambda mount: (mount,)
    ),
    "autoscaling": st.builds(
        Autoscaling, min_replicas=st.integers(0, 5), max_replicas=st.integers(5, 10_000)
    ),
    "readiness": st.builds(Readiness, path=paths, failures=st.integers(1, 100)),
    "env": environments,
}
specs = st.builds(ApiSpec, predictor=predictors, **settings_of_specs) | st.builds(
    ApiSpec, pod=pods, **settings_of_specs
)


@settings(deadline=None)
@given(specs)
def test_valid_specs_travel_as_json_unchanged(spec: ApiSpec) -> None:
    assert validate([spec]) == ()
    assert decode(encode(spec)) == spec
    assert json.loads(encode(spec)) == to_builtins(spec)


@settings(deadline=None)
@given(specs)
def test_what_is_sent_is_also_a_file(spec: ApiSpec) -> None:
    """The written form of a spec reads as the same spec."""
    plain = {key: value for key, value in to_builtins(spec).items() if value is not None}
    loaded = load_text(to_yaml(plain), "f")
    assert loaded.apis == (normalised(spec),)
    assert normalised(normalised(spec)) == normalised(spec)


def test_quantities_are_written_as_people_write_them() -> None:
    compute = {"cpu": "200m", "mem": None, "shm": None, "gpu": 0}
    assert to_builtins(ApiSpec(name="a"))["compute"] == compute


@pytest.mark.parametrize(
    "data",
    [
        b'{"name": "a", "nmae": 1}',
        b'{"name": "a\\n"}',
        b'{"name": "a", "compute": {"mem": "lots"}}',
        b'{"name": "a", "compute": {"cpu": {"millicores": 1}}}',
        b'{"name": "a", "retry": "always"}',
        b"[]",
    ],
)
def test_json_that_is_no_spec_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(data)


def test_hooks_refuse_what_they_do_not_know() -> None:
    with pytest.raises(NotImplementedError, match="set cannot be written"):
        enc_hook({1})
    with pytest.raises(NotImplementedError, match="complex cannot be read"):
        dec_hook(complex, 1)
