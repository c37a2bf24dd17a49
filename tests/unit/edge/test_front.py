"""Who shut requests out, and what lets them in again."""

from dataclasses import replace

from serai_agent.edge.front import Front, needs_reload, repairs

OPEN = Front(
    status="OPEN",
    maxconn=900,
    process_maxconn=900,
    hard_maxconn=900,
    rate_limits={"connections": 0, "sessions": 0},
)


def test_an_open_door_needs_nothing() -> None:
    assert repairs(OPEN, 900) == repairs(None, 900) == ()
    assert not needs_reload(OPEN) and not needs_reload(None)


def test_each_way_to_close_it_is_taken_back() -> None:
    limited = replace(OPEN, rate_limits={"connections": 1, "sessions": 0})
    assert repairs(replace(OPEN, status="PAUSED"), 900) == ("enable frontend public",)
    assert repairs(replace(OPEN, maxconn=0), 900) == ("set maxconn frontend public 900",)
    assert repairs(replace(OPEN, process_maxconn=1), 900) == ("set maxconn global 900",)
    assert repairs(limited, 900) == ("set rate-limit connections global 0",)
    assert needs_reload(replace(OPEN, status="STOP"))


def test_a_process_that_began_with_fewer_connections_is_not_asked_for_more() -> None:
    fewer = Front("OPEN", 500, 500, 500, {})
    assert repairs(fewer, 900) == ()
