"""What a node's Nomad says of itself, read from its own account."""

from typing import Any

import pytest

from serai.report import NomadReading
from serai_agent.report.nomad import read


def told(limit: object, enabled: bool = True) -> dict[str, Any]:
    """Return what matters of what Nomad 1.6.1 answers."""
    client = {"Enabled": enabled, "MaxKillTimeout": limit}
    return {"config": {"Client": client, "Version": {"Version": "1.6.1"}}}


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1h", 3600), ("1h30m0s", 5400)])
def test_the_time_to_end_is_read(text: str, seconds: float) -> None:
    assert read(told(text)) == NomadReading(version="1.6.1", max_kill_timeout_s=seconds)


@pytest.mark.parametrize("odd", ["", None, "1y", 7.5j])
def test_what_cannot_be_read_is_told(odd: object) -> None:
    found = read(told(odd))
    assert found.max_kill_timeout_s is None and "cannot be read" in found.problem


@pytest.mark.parametrize("odd", [[], "no", {"Client": [], "Version": 1}])
def test_an_account_of_another_shape_is_one_of_no_client(odd: object) -> None:
    assert read({"config": odd}).problem == "the Nomad there is no client"


def test_a_server_alone_limits_nothing() -> None:
    assert read(told("30s", enabled=False)).problem == "the Nomad there is no client"
    assert read({}).max_kill_timeout_s is None
