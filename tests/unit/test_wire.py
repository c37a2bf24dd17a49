"""What releases of Serai understand of each other."""

import msgspec
import pytest

from serai import wire
from serai.errors import ConfigError
from serai.memory import MemoryStore
from serai.model import Value
from serai.operator import ApiDescription, ApiList
from serai.store import Write
from serai_scheduler.record import api_key
from serai_scheduler.state import State
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.views import description_of, status_of
from tests.support.scheduling import deployed, spec
from tests.unit.scheduler.test_plan import live


class Inner(Value):
    a: int


class Outer(Value):
    one: Inner
    none: Inner | None
    many: tuple[Inner, ...]
    named: dict[str, Inner]
    at_s: float = 0.0


NEWER = (
    b'{"one":{"a":1,"b":2},"none":{"a":1,"c":{}},"many":[{"a":1},{"a":2,"d":[]}],'
    b'"named":{"e":{"a":1,"f":null}},"g":1}'
)
KNOWN = Outer(
    one=Inner(a=1), none=Inner(a=1), many=(Inner(a=1), Inner(a=2)), named={"e": Inner(a=1)}
)


def test_what_is_not_known_of_an_answer_is_left_out() -> None:
    with pytest.raises(ConfigError, match="unknown field"):
        wire.decode(NEWER, Outer)
    assert wire.decode_answer(NEWER, Outer) == KNOWN
    found = wire.without_unknown(NEWER, Outer)
    assert found is not None
    assert set(found[1]) == {"g", "one.b", "none.c", "many[1].d", "named.e.f"}


@pytest.mark.parametrize("wrong", [b'{"a":"1","b":2}', b'{"b":2}', b"[]", b"{", b"\xff", b"null"])
def test_what_does_not_fit_is_no_answer_with_or_without_it(wrong: bytes) -> None:
    with pytest.raises(ConfigError, match="not a valid Inner"):
        wire.decode_answer(wrong, Inner)


def test_an_answer_of_a_newer_scheduler_is_read() -> None:
    stored, _, ready = live(1)
    status = status_of(stored, ready, TrafficBook(), 0.0, "")
    told = description_of(stored, status, ready, TrafficBook(), {}, {}, 0.0, 0.0)
    newer = msgspec.json.decode(wire.encode(told))
    newer["status"]["since_then"] = newer["replicas"][0]["replica"]["since_then"] = "x"
    newer["spec"]["since_then"] = {"a": 1}
    assert wire.decode_answer(msgspec.json.encode(newer), ApiDescription) == told
    listed = msgspec.json.encode({"apis": [newer["status"]], "since_then": 1})
    assert wire.decode_answer(listed, ApiList).apis == (status,)


async def test_what_a_newer_scheduler_has_stored_stays_as_it_is() -> None:
    _, stored = deployed(None, spec())
    newer = msgspec.json.decode(wire.encode(stored.record))
    newer["since_then"], newer["candidate"]["since_then"] = 1, 2
    store = MemoryStore()
    written = Write(key=api_key("iris"), value=msgspec.json.encode(newer), expect=0)
    await store.commit([written], 0)
    state = State(store)
    assert await state.read() == {}
    assert state.faults["iris"] == (
        "the store's key apis/iris was written by a newer Serai (it tells since_then, "
        "candidate.since_then): update this scheduler, too"
    )
