"""URLs of what `serai up` listens on."""

import pytest

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
