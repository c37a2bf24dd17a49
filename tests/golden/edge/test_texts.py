"""The texts that HAProxy gets, kept whole, so that every change of one is seen.

Write them anew with `SERAI_GOLDEN=write pytest tests/golden/edge` and read the difference.
"""

import difflib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from serai_agent.edge import config
from serai_agent.edge.answers import parse_sections, parse_seen, parse_table
from serai_agent.edge.layout import CLASSES, slot_name
from serai_agent.edge.plan import plan
from serai_agent.edge.startup import cold_start, kept_lines, nothing_yet
from serai_agent.edge.tls import Certificate
from tests.unit.edge.values import route, server

HERE = Path(__file__).parent
SETTINGS = config.EdgeSettings(
    host="127.0.0.1",
    port=8080,
    threads=2,
    maxconn=1898,
    slots=dict.fromkeys(CLASSES, 1),
    line_each_per_s=1000,
)


def same(name: str, text: str) -> None:
    path = HERE / name
    if os.environ.get("SERAI_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), f"{name} differs from what is kept"


def test_configuration_of_a_cold_start() -> None:
    routes = [route(versions=[("v1", 900), ("v2", 100)], draining=("iris.v1.2",))]
    several = route("text", endpoint="/nlp/text", queue_timeout_s=5, retry="never")
    servers = [server(number=1), server(number=2), server("text", capacity=7)]
    settings = replace(SETTINGS, slots=dict.fromkeys(CLASSES, 2))
    lines, entries = cold_start([*routes, several], servers, nothing_yet(settings))
    same("cold.cfg", config.render(settings, lines))
    same("cold.map", "".join(f"{key} {value}\n" for key, value in sorted(entries.items())))


def test_what_tls_changes_in_the_configuration() -> None:
    certificate = Certificate("/etc/serai/it's here.pem", "0123456789abcdef")
    plain = config.render(SETTINGS, {}).splitlines()
    tls = config.render(replace(SETTINGS, certificate=certificate), {}).splitlines()
    assert not [line for line in tls if line.endswith("x-forwarded-proto http")]
    same("tls.diff", "\n".join(dict.fromkeys(changed(plain, tls))) + "\n")


def test_another_certificate_at_the_same_place_is_another_configuration() -> None:
    one, other = (
        config.fingerprint(replace(SETTINGS, certificate=Certificate("/a.pem", mark)), "")
        for mark in ("one", "other")
    )
    assert one != other


def changed(before: list[str], after: list[str]) -> Iterator[str]:
    """Yield the lines that differ, without the name of what all was made from."""
    compared = difflib.unified_diff(before[1:], after[1:], n=0, lineterm="")
    return (line for line in compared if not line.startswith(("---", "+++", "@@")))


def test_commands_of_a_life() -> None:
    """From nothing to two versions, a drain, and away: read back through real answers."""
    empty = nothing_yet(SETTINGS)
    steps = [plan([route()], [server()], empty, config.ROUTE_MAP)]
    seen = parse_seen(parse_sections((HERE / "answers-2.6.txt").read_text()))
    gone = route(versions=[("v2", 1000)], queue_timeout_s=120)
    steps.append(plan([gone], [server(version="v2")], seen, config.ROUTE_MAP))
    text = "\n\n".join("\n".join(command.text for command in step.commands) for step in steps)
    same("commands.txt", text + "\n")


def test_answers_of_both_versions_are_read() -> None:
    for version in ("2.6", "2.8"):
        sections = parse_sections((HERE / f"answers-{version}.txt").read_text())
        seen = parse_seen(sections)
        assert set(seen.slots) == {slot_name(kind, n) for kind in CLASSES for n in range(2)}
        by_name = {one.name: one for one in seen.servers}
        running, draining = by_name["iris.v1.1.0"], by_name["iris.v1.2.0"]
        assert (running.id, running.maxconn, running.in_flight) == (1, 2, 1)
        assert running.up and running.watched and not running.drain and not running.maintenance
        assert running.address.startswith("127.0.0.1:")
        assert draining.drain and not draining.up and draining.weight == 1
        assert seen.routes["/iris/"].startswith("iris|1|slot_030_0|")
        assert parse_table(sections.table) == {"iris": 1, "asleep": 3}
        assert kept_lines(seen, set(seen.slots))["slot_030_0"][0].name == "iris.v1.1.0"


def test_an_empty_haproxy_is_read() -> None:
    seen = parse_seen(parse_sections(""))
    assert (seen.routes, seen.servers, seen.slots) == ({}, (), {})
