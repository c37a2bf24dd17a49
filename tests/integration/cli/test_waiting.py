"""What a deploy shows while no answer comes, and how long it waits for one."""

import io

import pytest

from serai.clock import SystemClock
from serai.errors import Unavailable
from serai.operator import ApiPlan
from serai_cli.output import Redrawn
from serai_cli.waiting import AWAY_LIMIT_S, watch
from tests.integration.cli.servers import sending, server
from tests.integration.cli.test_client import client, refusing

FASTER = 20.0


class HurriedClock(SystemClock):
    """One that lets a minute pass in some seconds."""

    def now(self) -> float:
        return super().now() * FASTER


def test_why_there_is_no_news_is_shown_and_told_in_the_end() -> None:
    plan = ApiPlan(api="iris", action="create", version="v1-abc", explanation="")
    shown, clock = io.StringIO(), HurriedClock()
    began_s = clock.now()
    with (
        server(sending(refusing(503, "no_leader"), 503)) as url,
        pytest.raises(Unavailable, match="so it is"),
    ):
        watch(client(url), (plan,), clock, Redrawn(shown))
    assert clock.now() - began_s > AWAY_LIMIT_S
    assert shown.getvalue() == "iris: accepted\nno news now: so it is\n"
