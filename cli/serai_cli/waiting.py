"""Watching a deploy to its end, and what is said then. The verdict is pure."""

import re
import threading
from dataclasses import dataclass
from enum import Enum

from serai.clock import Clock
from serai.errors import Refused, Unavailable
from serai.model import ApiState
from serai.operator import ApiDescription, ApiPlan
from serai_cli.client import Client, api_path
from serai_cli.loglines import all_readable
from serai_cli.output import Redrawn
from serai_cli.screens import curl
from serai_cli.text import printable

POLL_S = 0.05
AWAY_LIMIT_S = 30.0
RECOVERY_LIMIT_S = 15.0
"""How long a version that is there already may take to serve again: this deploy may have healed it.
"""
LOG_LINES = 10
GATEWAYS_LIMIT_S = 150.0
"""How long gateways may take to carry out a route. One that is silent is forgotten before that."""
SO_FAR = re.compile(
    r", \d+ s so far| \(last heard \d+ s ago\)|(?<=has not answered) for \d+ s(?=:)"
)
SILENCE_TOLD_S = 2.0


class Verdict(Enum):
    """How a deploy of one API stands."""

    RUNNING = "running"
    SERVES = "serves"
    FAILED = "failed"


@dataclass(frozen=True)
class Standing:
    """How one API stands, in a line, and why when it failed."""

    verdict: Verdict
    line: str


def standing(
    plan: ApiPlan, described: ApiDescription, patient: bool = False, gateways_late: bool = False
) -> Standing:
    """Return how the deploy of a version stands; while `patient` one that is down may recover.

    `gateways_late`: no gateway is waited for any longer.
    """
    status = described.status
    if status.failed_version == plan.version:
        return Standing(
            Verdict.FAILED, f"{plan.api}: {plan.version} failed: {printable(status.last_error)}"
        )
    if status.version == plan.version and not status.candidate:
        if status.state is ApiState.ERROR and not patient:
            why = f"{plan.api}: {plan.version} does not serve: {printable(status.reason)}"
            return Standing(Verdict.FAILED, why)
        if status.wanted and not status.ready:
            return Standing(Verdict.RUNNING, f"{plan.api}: {status.reason}")
        if status.waits_for:
            return _not_taken(plan, status.waits_for, gateways_late)
        return Standing(Verdict.SERVES, f"{plan.api}: {plan.version} serves {status.url}")
    if status.candidate != plan.version:
        other = status.candidate or status.version or "nothing"
        return Standing(Verdict.FAILED, f"{plan.api}: {plan.version} was overtaken by {other}")
    return Standing(Verdict.RUNNING, f"{plan.api}: {status.reason}")


def _not_taken(plan: ApiPlan, waits_for: str, late: bool) -> Standing:
    """Return how a version stands that is ready and that not every gateway sends callers to."""
    told = f"{plan.api}: {plan.version} is ready; {printable(waits_for)}"
    if not late:
        return Standing(Verdict.RUNNING, told)
    return Standing(Verdict.FAILED, f"{told}; it serves once that has happened")


def watch(
    client: Client, plans: tuple[ApiPlan, ...], clock: Clock, drawn: Redrawn
) -> list[Standing]:
    """Show the phases until every API serves or has failed; return how each ended."""
    heard_s = began_s = clock.now()
    away = ""
    ready_s: dict[str, float] = {}
    found = {plan.api: Standing(Verdict.RUNNING, f"{plan.api}: accepted") for plan in plans}
    while running := [plan for plan in plans if found[plan.api].verdict is Verdict.RUNNING]:
        for plan in running:
            try:
                patient = clock.now() - began_s < RECOVERY_LIMIT_S
                since_s = ready_s.get(plan.api, clock.now())
                late = clock.now() - since_s > GATEWAYS_LIMIT_S
                found[plan.api], waits = _look_at(client, plan, patient, late)
                ready_s = ready_s | {plan.api: since_s} if waits else ready_s
                heard_s = clock.now()
                away = ""
            except Unavailable as error:
                silent_s, away = clock.now() - heard_s, f"no news now: {printable(str(error))}"
                if silent_s > AWAY_LIMIT_S:
                    raise
                away = away if silent_s > SILENCE_TOLD_S else ""
        lines = [*(one.line for one in found.values()), *([away] if away else [])]
        drawn.draw(lines if drawn.live else [without_seconds(line) for line in lines])
        if any(one.verdict is Verdict.RUNNING for one in found.values()):
            threading.Event().wait(POLL_S)
    return list(found.values())


def without_seconds(line: str) -> str:
    """Return a line that changes with the phase only, for where each change is a new line."""
    return SO_FAR.sub("", line)


def _look_at(client: Client, plan: ApiPlan, patient: bool, late: bool) -> tuple[Standing, bool]:
    """Return how a deploy stands, and whether its version waits for gateways alone."""
    try:
        described = client.get(api_path(plan.api), ApiDescription)
    except Refused as refused:  # deleted meanwhile, for one
        return Standing(Verdict.FAILED, f"{plan.api}: {refused}"), False
    status = described.status
    waits = bool(status.waits_for) and status.version == plan.version and not status.candidate
    return standing(plan, described, patient, late), waits


def farewell(client: Client, plan: ApiPlan) -> list[str]:
    """Return what to do next with an API that serves."""
    status = client.get(api_path(plan.api), ApiDescription).status
    return ["", curl(status.url), f"serai logs {plan.api} -f"]


def last_words(client: Client, plan: ApiPlan) -> list[str]:
    """Return the last log lines of a version that failed."""
    described = client.get(api_path(plan.api), ApiDescription)
    for one in described.replicas:
        if one.replica.version == plan.version and one.replica.log_tail:
            lines = all_readable(one.replica.log_tail[-LOG_LINES:])
            return [
                "",
                f"the end of {one.replica.id}'s log:",
                *(f"  {printable(line)}" for line in lines),
            ]
    return []
