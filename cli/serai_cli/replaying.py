"""What `serai replay` does: the scheduler tells what it has kept, and this process simulates."""

from collections.abc import Sequence
from random import Random

from serai.clock import SystemClock
from serai.errors import ConfigError
from serai.operator import ApiDescription
from serai.recorded import TRAFFIC_KEPT_S, RecordedTraffic
from serai.spec.scaling import POLICIES
from serai.spec.types import ApiSpec
from serai_cli.client import Client, api_path
from serai_cli.commands import duration_s
from serai_cli.exits import DONE
from serai_cli.forms import Form
from serai_cli.output import look, show
from serai_cli.replay_screens import replayed
from serai_cli.targets import find
from serai_scheduler.replay.compare import WARM_UP_S, Candidate
from serai_scheduler.replay.compare import replay as simulate
from serai_scheduler.replay.load import Chance
from serai_scheduler.replay.settings import changed

SEED = 1
"""The same traffic gives the same figures, and every policy gets the same requests."""


def replay(
    api: str, policies: Sequence[str], pairs: Sequence[str], since: str, output: Form, env: str
) -> int:
    span_s = duration_s("--since", since)
    if span_s > TRAFFIC_KEPT_S:
        days = TRAFFIC_KEPT_S / 86_400.0
        raise ConfigError(f"--since {since}: traffic is kept for {days:g} days; name a later time")
    settings = settings_of(pairs)
    client = Client(find(env))
    spec = client.get(api_path(api), ApiDescription).spec
    candidates = candidates_of(spec, policies, settings)
    since_s = SystemClock().wall() - span_s
    path = api_path(api, "/traffic", since=since_s - WARM_UP_S)
    traffic = client.get(path, RecordedTraffic)
    answer = simulate(traffic, since_s, spec, candidates, _chance)
    show(answer, replayed(answer, since_s, look()), output)
    return DONE


def _chance() -> Chance:
    return Random(SEED).random


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return `key=value` texts as a dict, "" for `key=`; ConfigError for one that is none."""
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {pair}: say which setting and value, such as max_replicas=8")
        settings[key.strip()] = value.strip()
    return settings


def candidates_of(
    spec: ApiSpec, policies: Sequence[str], settings: dict[str, str]
) -> tuple[Candidate, ...]:
    """Return what to simulate: what is deployed, then each policy with the settings.

    A policy of one's own is left out where another one is named: no replay runs it.
    """
    own, others = spec.autoscaling.policy, list(dict.fromkeys(policies))
    found: list[Candidate] = []
    if own in POLICIES or not others:
        found.append(Candidate(f"{own} as deployed", changed(spec, "", {})))
    others = others or ([own] if settings else [])
    note = "".join(f" {key}={value}" for key, value in settings.items())
    for policy in others:
        scaling = changed(spec, policy, settings)
        if all(scaling != one.scaling for one in found):
            found.append(Candidate(policy + note, scaling))
    return tuple(found)
