"""What the agents' token is enough for, and which headers concern one connection only."""

from multidict import CIMultiDict

from serai_scheduler.api.access import agents_may
from serai_scheduler.program.forward import passed_headers


def test_agents_report_and_read_blobs() -> None:
    assert agents_may("POST", "/v1/reports")
    assert agents_may("GET", f"/v1/blobs/{'a' * 64}")
    assert agents_may("GET", "/v1/info")


def test_agents_wake_for_those_who_call_their_gateway() -> None:
    assert agents_may("POST", "/v1/apis/iris/wake") and agents_may("GET", "/v1/apis/iris/wake")


def test_agents_may_do_nothing_else() -> None:
    for method, path in (
        ("GET", "/v1/reports"),
        ("POST", "/v1/reports/"),
        ("PUT", f"/v1/blobs/{'a' * 64}"),
        ("GET", f"/v1/blobs/{'a' * 63}"),
        ("GET", f"/v1/blobs/{'a' * 64}/../../apis"),
        ("GET", "/v1/blobs/missing"),
        ("GET", "/v1/apis"),
        ("POST", "/v1/apis/iris/scale"),
        ("DELETE", "/v1/apis/iris/wake"),
        ("POST", "/v1/apis/iris/../text/wake"),
        ("POST", "/v1/deploy"),
        ("GET", "/metrics"),
    ):
        assert not agents_may(method, path), (method, path)


def test_what_concerns_one_connection_is_not_passed_on() -> None:
    headers = CIMultiDict(
        {
            "Host": "me",
            "Authorization": "Bearer x",
            "Connection": "close, X-Mine",
            "x-mine": "1",
            "Transfer-Encoding": "chunked",
            "Content-Length": "3",
            "EXPECT": "100-continue",
        }
    )
    headers.add("Accept", "a")
    headers.add("Accept", "b")
    passed = passed_headers(headers)
    assert sorted(passed.items()) == [
        ("Accept", "a"),
        ("Accept", "b"),
        ("Authorization", "Bearer x"),
        ("Content-Length", "3"),
    ]
