"""What `serai up` listens on, and for whom."""

import pytest

from serai.errors import ConfigError
from serai_cli.embedded.node import Listening


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("*", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
        ("::", "http://[::1]:8080"),
        ("box.lab", "http://box.lab:8080"),
    ],
)
def test_what_is_told_can_be_reached_from_this_machine(host: str, url: str) -> None:
    assert Listening(host, 8080, 7070).gateway_url == url


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0", "::", "10.0.0.7", "box.lab"])
def test_others_reach_it_only_where_that_is_said_to_be_insecure(host: str) -> None:
    with pytest.raises(ConfigError, match=r"has no TLS.*add --insecure"):
        Listening(host, 8080, 7070).check()
    Listening(host, 8080, 7070, insecure=True).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_reaches_it_without_more(host: str) -> None:
    Listening(host, 8080, 7070).check()
