"""What HAProxy says of itself."""

from serai_agent.edge.answers import MAX_FAULTS, connections_of, parse_faults

ENDED = """[NOTICE]   (12701) : haproxy version is 2.6.12-1+deb12u4
[NOTICE]   (12701) : path to executable is /usr/sbin/haproxy
[ALERT]    (12701) : [/usr/sbin/haproxy.main()] Cannot raise FD limit to 170, limit is 64.

"""


def test_of_many_words_the_alerts_are_told_in_one_line() -> None:
    assert parse_faults(ENDED) == (
        "[/usr/sbin/haproxy.main()] Cannot raise FD limit to 170, limit is 64."
    )
    assert parse_faults("one\n\ntwo\n") == "one; two"
    assert parse_faults("") == "it said nothing"
    assert len(parse_faults("x" * 5000)) == MAX_FAULTS


def test_connections_that_nobody_tells_of_are_not_none_left() -> None:
    assert connections_of("Name: HAProxy\nCurrConns: 0\n") == 0
    assert connections_of("CurrConns: 3\n") == 3
    assert connections_of("Name: HAProxy\n") is None
