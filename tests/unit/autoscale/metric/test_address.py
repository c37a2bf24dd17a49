"""Which addresses a Prometheus may have."""

from pathlib import Path

import pytest

from serai.clock import SimClock
from serai.errors import ConfigError
from serai_cli.embedded import Allowed
from serai_cli.embedded.node import Listening
from serai_cli.embedded.start import up
from serai_scheduler.autoscale.metric.address import address_fault, query_url
from serai_scheduler.autoscale.metric.prometheus import Prometheus


@pytest.mark.parametrize(
    "address",
    ["", "http://p:9090", "https://p.example./team/a/", "http://[::1]:9090", "http://10.0.0.1"],
)
def test_these_can_be_asked(address: str) -> None:
    assert address_fault(address) == ""


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("p:9090", "is no URL such as http://prometheus.example:9090"),
        ("ftp://p:9090", "is no URL"),
        ("http://", "is no URL"),
        ("http://p:x", "is no URL"),
        ("http://p q", "is no URL"),
        ("http://p\r\nX: y", "is no URL"),
        ("http://me:secret@p", "no user and no password"),
        ("http://prom..example:9090", "has a host that no name server can know"),
        (f"http://{'p' * 64}.example", "has a host that no name server can know"),
        ("http://p/?a=b", "should end with its path"),
        ("http://p/#a", "should end with its path"),
        ("http://p/api/v1/query", "should be without /api/v1/query"),
    ],
)
def test_these_cannot_and_that_is_told(address: str, words: str) -> None:
    assert words in address_fault(address)
    assert "secret" not in address_fault(address)


def test_queries_go_behind_its_path() -> None:
    assert query_url("http://p:9090") == "http://p:9090/api/v1/query"
    assert query_url("https://p/team/") == "https://p/team/api/v1/query"


async def test_one_that_its_library_cannot_ask_is_an_answer_like_any() -> None:
    async with Prometheus(SimClock(), "http://prom..example:9090") as prometheus:
        answer = await prometheus.ask("up")
    assert answer.value is None and "cannot be asked" in answer.fault


def test_serai_up_tells_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--prometheus: 'p:9090' is no URL"):
        up(Listening("127.0.0.1", 0, 0), tmp_path, Allowed(prometheus="p:9090"), detach=False)
