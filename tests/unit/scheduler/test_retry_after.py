"""When clients are told to come again."""

import dataclasses

import msgspec
import pytest

from serai_scheduler.plan import plan
from serai_scheduler.retry_after import FIRST_S, STEPS_S, retry_after_s
from serai_scheduler.world import ApiWorld, GatewayView
from tests.support.scheduling import NOW_S, deployed, spec


@pytest.mark.parametrize(
    ("told_s", "start_up_s", "wanted_s"),
    [
        (5, None, 5),
        (5, 4.0, 5),
        (5, 2.0, 5),
        (5, 10.0, 5),
        (5, 10.1, 20),
        (5, 1.0, 1),
        (5, 0.0, 1),
        (60, 250.0, 300),
        (60, 100.0, 60),
        (5, 86_400.0, 600),
    ],
)
def test_only_more_than_one_step_is_followed(
    told_s: int, start_up_s: float | None, wanted_s: int
) -> None:
    assert retry_after_s(told_s, start_up_s) == wanted_s


def test_what_is_told_first_is_a_step() -> None:
    assert FIRST_S in STEPS_S


def test_a_change_of_it_alone_raises_the_revision_and_orders_nothing() -> None:
    _, stored = deployed(None, spec())
    world = ApiWorld(NOW_S, NOW_S, stored, replicas=(), gateways=GatewayView())
    before = plan(world)
    after = plan(dataclasses.replace(world, start_up_s=90.0))
    assert before.record is not None and after.record is not None
    assert after.actions == before.actions
    assert after.record == msgspec.structs.replace(
        before.record, retry_after_s=120, revision=before.record.revision + 1
    )
    assert after.record.in_force_since == before.record.in_force_since
