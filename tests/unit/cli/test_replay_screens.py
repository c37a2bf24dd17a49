"""What `serai replay` reads and shows."""

import msgspec
import pytest

from serai.errors import ConfigError
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Pod
from serai_cli.replay_screens import replayed
from serai_cli.replaying import candidates_of, settings_of
from serai_cli.tables import Look
from serai_scheduler.replay.answer import Replay, ReplayRow

SPEC = ApiSpec(name="iris", endpoint="/iris", pod=Pod(command=("serve",)))
ROW = ReplayRow(
    policy="as recorded",
    late=12,
    late_percent=1.234,
    replica_hours=4.5,
    changes=3,
    most_replicas=4,
    replicas=(1, 1, 4, 4, 2, 0),
)
ANSWER = Replay(
    api="iris",
    since_s=1000.0,
    until_s=1060.0,
    requests=972,
    service_s=0.25,
    start_up_s=20.0,
    demand=(0.5, 1.0, 3.0, 2.0, 0.0, 0.0),
    rows=(ROW, msgspec.structs.replace(ROW, policy="kpa", late=0, replicas=(8,) * 6)),
)


def test_a_metric_that_is_left_out_is_told() -> None:
    assert "metric" not in "\n".join(replayed(ANSWER, 1000.0))
    left_out = msgspec.structs.replace(ANSWER, metric_left_out=True)
    assert "Its values are not recorded, so it is left out" in "\n".join(replayed(left_out, 1000.0))


def test_figures_stand_side_by_side_above_a_plot_on_one_scale() -> None:
    lines = replayed(ANSWER, 1000.0)
    assert "972 requests of 0.25 s in the mean, starts of 20 s" in lines[0]
    assert "nothing is kept" not in lines[0]
    assert lines[2].split() == ["policy", "late", "late", "%", "replica-hours", "changes", "most"]
    assert lines[3].split() == ["as", "recorded", "12", "1.23", "4.50", "3", "4"]
    assert lines[6:10] == [
        "replicas over time, the highest bar is 8",
        "demand       ▁▁▃▂  ",
        "as recorded  ▁▁▄▄▂ ",
        "kpa          ██████",
    ]
    assert any("simulated" in line for line in lines[10:])


def test_what_is_not_kept_is_told_and_lines_fit() -> None:
    long = msgspec.structs.replace(ANSWER, demand=(1.0,) * 5000)
    lines = replayed(long, 0.0, Look(width=50))
    assert "(nothing is kept from before)" in lines[0]
    assert all(len(line) <= 50 for line in lines[2:10])


def test_the_same_setting_is_simulated_once() -> None:
    assert [one.name for one in candidates_of(SPEC, (), {})] == ["serai as deployed"]
    assert [one.name for one in candidates_of(SPEC, ("serai",), {})] == ["serai as deployed"]
    found = candidates_of(SPEC, ("kpa", "hpa", "kpa"), {"max_replicas": "3"})
    assert [one.name for one in found] == [
        "serai as deployed",
        "kpa max_replicas=3",
        "hpa max_replicas=3",
    ]
    assert candidates_of(SPEC, (), {"max_replicas": "3"})[1].name == "serai max_replicas=3"


@pytest.mark.parametrize("pair", ["max_replicas", "=3", "="])
def test_a_setting_has_a_key_and_a_value(pair: str) -> None:
    with pytest.raises(ConfigError, match="say which setting and value"):
        settings_of([pair])
    assert settings_of(["a=b=c", " d = 5 ", "e="]) == {"a": "b=c", "d": "5", "e": ""}


def test_a_policy_of_ones_own_is_left_out_where_another_is_named() -> None:
    own = Autoscaling(policy="mine:factory")
    spec = msgspec.structs.replace(SPEC, autoscaling=own)
    assert [one.name for one in candidates_of(spec, ("kpa",), {})] == ["kpa"]
    with pytest.raises(ConfigError, match="mine:factory cannot be replayed"):
        candidates_of(spec, (), {})
