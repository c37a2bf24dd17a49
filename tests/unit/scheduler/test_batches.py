"""A plan's actions become one order for each version."""

from serai_scheduler.actions import Forget, Grant, Start, Stop
from serai_scheduler.batches import StartAll, StopAll, orders_of
from tests.unit.nomad.values import predictor, program


def test_what_concerns_one_version_goes_together() -> None:
    one, other = program(), predictor()
    actions = (
        Start("f.1", one, 60.0),
        Stop("f.9", 30.0),
        Grant(one, 90.0),
        Start("i.1", other, 60.0),
        Start("f.2", one, 60.0),
        Stop("i.9", 30.0),
        Stop("f.8", 30.0),
        Stop("f.7", 0.0),
        Forget("gone"),
    )
    versions = {"f.9": one.name, "f.8": one.name, "f.7": one.name, "i.9": other.name}
    assert orders_of(actions, versions) == (
        StartAll(("f.1", "f.2"), one, 60.0),
        StartAll(("i.1",), other, 60.0),
        Grant(one, 90.0),
        StopAll(("f.9", "f.8"), 30.0),
        StopAll(("i.9",), 30.0),
        StopAll(("f.7",), 0.0),
        Forget("gone"),
    )
    assert orders_of((), {}) == ()
