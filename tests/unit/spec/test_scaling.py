"""The `autoscaling` block as values, and what they must be together."""

from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec import inspect

from serai.spec.codec import dec_hook, enc_hook, schema_hook
from serai.spec.constraints import unfit
from serai.spec.findings import Finding, written
from serai.spec.json_schema import widen
from serai.spec.parse import parse
from serai.spec.read import Reader
from serai.spec.scaling import POLICIES, Autoscaling, fixed_headroom, most_change
from serai.spec.scaling_rules import USED_BY, policy_kind, scaling_findings

KIND = inspect.type_info(Autoscaling)
ALL = """
min_replicas: 0
max_replicas: 20
init_replicas: 2
policy: serai
target_in_flight: 3.5
hold: 10m
headroom: 0.2
up: {limit: 4}
down: {limit: 50%, delay: 5m}
idle_to_zero: 15m
schedule:
  - {cron: 0 8 * * 1-5, timezone: Europe/Berlin, min: 5, max: 40, for: 10h}
priority: 80
release: timer
metric: {promql: "sum(rate(tokens[1m]))", target: 2000}
"""
DAY = "cron: 0 8 * * *, for: 10h"


def scaling(text: str) -> Autoscaling:
    nodes, problems = parse(text, "f")
    reader = Reader()
    block: Autoscaling = reader.read(nodes[0], KIND, ("autoscaling",))
    assert (problems, reader.findings) == ([], [])
    return block


def told(text: str, per_replica: int = 4, queue: int = 100) -> list[str]:
    return [_text(one) for one in scaling_findings(scaling(text), per_replica, queue)]


def _text(finding: Finding) -> str:
    parts = (finding.message, finding.found, finding.allowed, finding.hint)
    return f"{written(finding.path[1:])}: " + "; ".join(part for part in parts if part)


def test_every_key_together_is_fine() -> None:
    assert list(unfit(scaling(ALL), KIND)) == []
    assert told(ALL) == []


def test_it_survives_json_and_fits_its_schema() -> None:
    data = msgspec.json.encode(scaling(ALL), enc_hook=enc_hook)
    assert msgspec.json.decode(data, type=Autoscaling, dec_hook=dec_hook) == scaling(ALL)
    plain: Any = msgspec.json.decode(data)
    assert plain["schedule"][0]["for"] == "10h"
    schema = msgspec.json.schema(Autoscaling, schema_hook=schema_hook)
    widen(schema)
    jsonschema.validate(plain, schema)
    jsonschema.validate({**plain, "headroom": 0.2, "up": {"limit": 4}}, schema)
    for wrong in ({"policy": "knative"}, {"headroom": "much"}, {"release": "never"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plain, **wrong}, schema)


@pytest.mark.parametrize("policy", [*POLICIES, "team.scaling:factory"])
def test_the_defaults_are_fine_for_every_policy(policy: str) -> None:
    assert told(f"policy: {policy}") == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{headroom: 11}", "headroom"),
        ("{headroom: 20%}", "headroom"),
        ("{up: {limit: 0}}", "up.limit"),
        ("{up: {limit: half}}", "up.limit"),
        ("{hold: 25h}", "hold"),
        ("{down: {delay: 2d}}", "down.delay"),
        ("{idle_to_zero: 1s}", "idle_to_zero"),
        ("{window: 1s}", "window"),
        ("{priority: 0}", "priority"),
        ("{target_in_flight: 0}", "target_in_flight"),
        ("{metric: {promql: ' ', target: 1}}", "metric.promql"),
        ("{metric: {promql: up, target: 0}}", "metric.target"),
        ("{cortex: {max_upscale_factor: 1}}", "cortex.max_upscale_factor"),
        ("{cortex: {max_downscale_factor: 1}}", "cortex.max_downscale_factor"),
        ("{schedule: [{cron: 0 8 * * *, for: 10s, min: 1}]}", "schedule[0].for"),
        ("{schedule: [{cron: '@daily', for: 1h, min: 1}]}", "schedule[0].cron"),
        ("{schedule: [{cron: 0 8 * * *, for: 1h, min: 1, timezone: +1}]}", "schedule[0].timezone"),
    ],
)
def test_single_values_have_limits(text: str, path: str) -> None:
    assert [written(one.path) for one in unfit(scaling(text), KIND)] == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{min_replicas: 5, max_replicas: 2}",
            "min_replicas: more than `max_replicas`, which is 2; 5; at most 2",
        ),
        (
            "{init_replicas: 11}",
            "init_replicas: not between `min_replicas` and `max_replicas`; 11; 1 to 10",
        ),
        (
            "{idle_to_zero: 15m}",
            "idle_to_zero: would never take effect: `min_replicas` is 1; set that to 0, or remove"
            " this key; 15m",
        ),
        (
            "{policy: kap}",
            'policy: "kap" is not a policy; serai, cortex, kpa, hpa, fixed, or'
            " package.module:factory of your own; kpa",
        ),
        (
            "{down: {limit: 150%}}",
            'down.limit: more than all replicas; 100% is already no limit; "150%";'
            " 1% to 100%, or a number",
        ),
        (
            "{policy: cortex, window: 15s}",
            "window: Cortex's rule looks every 10 seconds; 15s; a multiple of 10s",
        ),
        (
            "{policy: kpa, window: 2h}",
            "window: longer than the rule of Knative allows; 2h; 6s to 1h",
        ),
        (
            "{target_in_flight: 4.5}",
            "target_in_flight: more than one replica works on at once (`concurrency.per_replica`),"
            " so that requests would always wait; 4.5; at most 4",
        ),
        (
            "{policy: cortex, target_in_flight: 105}",
            "target_in_flight: more than can run and wait (`concurrency.per_replica` and `queue`);"
            " 105; at most 104",
        ),
    ],
)
def test_what_contradicts_itself(text: str, message: str) -> None:
    assert told(text) == [message]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (DAY, ": changes nothing: give it a `min`, a `max` or both"),
        (
            f"{DAY}, min: 3, max: 2",
            ".min: more than `max` of the same window, which is 2; 3; at most 2",
        ),
        (
            f"{DAY}, min: 11",
            ".min: more than `max_replicas`, which is 10; give the window a `max` too; 11",
        ),
        (
            f"{DAY}, max: 1",
            ".max: less than `min_replicas`, which is 2; give the window a `min` too; 1",
        ),
        (
            f"{DAY}, min: 3, timezone: Europe/Berln",
            '.timezone: "Europe/Berln" is not a time zone; a name of the time zone database, such'
            " as Europe/Berlin or UTC; Europe/Berlin",
        ),
        (
            "cron: 0 25 * * *, for: 10h, min: 3",
            '.cron: its hour cannot be read, or never comes; "0 25 * * *"; minute,'
            " hour, day, month and weekday, such as 0 8 * * 1-5",
        ),
        (
            "cron: 0 8 * * *, for: 25h, min: 3",
            ".for: longer than until its cron comes again, so that it would never end; 25h; at"
            " most 24h; or set `min_replicas` and `max_replicas` instead",
        ),
    ],
)
def test_what_is_wrong_with_a_window(window: str, message: str) -> None:
    text = f"{{min_replicas: 2, schedule: [{{{window}}}]}}"
    assert told(text) == [f"schedule[0]{message}"]


@pytest.mark.parametrize("window", [f"{DAY}, min: 3", f"{DAY}, max: 40", f"{DAY}, min: 0, max: 1",
                                    "cron: 0 0 * * *, for: 24h, min: 3"])  # fmt: skip
def test_windows_that_are_fine(window: str) -> None:
    assert told(f"{{min_replicas: 2, schedule: [{{{window}}}]}}") == []


VALUES = {
    "target_in_flight": "2", "window": "60s", "hold": "10m", "headroom": "learned",
    "up": "{limit: 4}", "down": "{delay: 5m}", "idle_to_zero": "15m",
    "metric": "{promql: up, target: 1}", "cortex": "{upscale_tolerance: 0.1}",
}  # fmt: skip


@pytest.mark.parametrize("key", USED_BY)
def test_a_key_that_the_policy_has_no_use_for_is_refused(key: str) -> None:
    for policy in (*POLICIES, "team.scaling:factory"):
        found = told(f"{{min_replicas: 0, policy: '{policy}', {key}: {VALUES[key]}}}")
        if policy_kind(policy) in USED_BY[key]:
            assert found == []
        else:
            (one,) = found
            assert one.startswith(f"{key}: policy `{policy}` has no use for ")


def test_every_key_without_a_default_is_for_some_policies_or_for_all() -> None:
    for_all = {"init_replicas", "release"}
    unset = {one for one in Autoscaling.__struct_fields__ if getattr(Autoscaling(), one) is None}
    assert unset == {*USED_BY, *for_all}


@pytest.mark.parametrize(
    ("limit", "count", "most"),
    [(None, 7, None), ("4", 7, 4), ("50%", 7, 4), ("1%", 7, 1), ("10%", 0, 1), ("400%", 7, 28)],
)
def test_how_far_a_count_may_move(limit: str | None, count: int, most: int | None) -> None:
    assert most_change(limit, count) == most


def test_the_headroom_as_a_number() -> None:
    assert [fixed_headroom(one) for one in (None, "learned", "0", "0.2")] == [None, None, 0.0, 0.2]


def test_a_window_without_its_length_is_a_fault_and_not_a_crash() -> None:
    nodes, _ = parse("{schedule: [{cron: 0 8 * * *, min: 2}], metric: {promql: up}}", "f")
    reader = Reader()
    block = reader.read(nodes[0], KIND)
    missing = [("schedule", 0, "for"), ("metric", "target")]
    assert [one.path for one in reader.findings] == missing
    assert {one.path for one in unfit(block, KIND)} == {missing[0]}
    assert list(scaling_findings(block, 4, 100)) == []
