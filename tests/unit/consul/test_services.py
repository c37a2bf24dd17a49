"""From Consul's instances to servers."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serai.consul.services import api_of, listed, meta_of, service_name
from tests.unit.edge.values import server


def instance(**changes: Any) -> dict[str, Any]:
    service = {
        "ID": "iris.v1.1.0",
        "Address": "10.0.0.1",
        "Port": 9000,
        "Meta": meta_of(server(), 0),
        **changes,
    }
    return {"Node": {"Address": "10.9.9.9"}, "Service": service}


def test_an_instance_is_a_server_again() -> None:
    assert listed("iris", [instance()]).servers == (server(),)
    assert listed("iris", [instance(Address="")]).servers[0].host == "10.9.9.9"
    twice = [instance(), instance(), instance(Meta=meta_of(server(number=2), 0))]
    assert listed("iris", twice).servers == (server(), server(number=2))


def test_what_cannot_be_read_takes_no_traffic_and_is_told() -> None:
    good = meta_of(server(), 0)
    bad: list[dict[str, Any]] = [
        {"Meta": None},
        {"Meta": {**good, "version": ""}},
        {"Meta": {**good, "capacity": "many"}},
        {"Meta": {**good, "capacity": "0"}},
        {"Meta": {**good, "process": "-1"}},
        {"Meta": {**good, "capacity": "9" * 5000}},
        {"Port": 0},
        {"Port": 70_000},
    ]
    for changes in bad:
        found = listed("iris", [instance(**changes), instance()])
        assert found.servers == (server(),), changes
        assert "iris.v1.1.0 has" in found.faults[0]


def test_what_is_no_instance_is_left_out() -> None:
    odd: list[Any] = [1, None, {}, {"Service": "text"}, {"Service": {"ID": ""}}]
    nowhere = {"Service": {**instance()["Service"], "Address": ""}}
    found = listed("iris", [*odd, nowhere, instance()])
    assert found.servers == (server(),)
    assert len(found.faults) == len(odd) + 1


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?", fullmatch=True))
def test_names_go_both_ways(api: str) -> None:
    assert api_of(service_name(api)) == api
    assert api_of(api) is None or api.startswith("serai-api-")
