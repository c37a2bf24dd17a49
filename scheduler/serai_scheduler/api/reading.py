"""From a deploy's body to its types, with everything that is wrong with its specs at once."""

import json

import msgspec

from serai import wire
from serai.errors import ConfigError
from serai.operator import DeployRequest
from serai.spec import Problem, SpecError, load_text
from serai_scheduler.deploy import DeployRefused
from serai_scheduler.service import field_problem

MOST_TOLD_BYTES = 2**20
"""Larger bodies get the first fault only: reading them again would take too long."""


class _Item(msgspec.Struct):
    spec: msgspec.Raw = msgspec.Raw(b"null")


class _Request(msgspec.Struct):
    apis: list[_Item] = []


def deploy_request(raw: bytes) -> DeployRequest:
    """Read a deploy; for a thread.

    Raises DeployRefused with every fault of its specs, by the rules of spec files, or ConfigError
    when the body is no deploy at all.
    """
    try:
        return wire.decode(raw, DeployRequest)
    except ConfigError:
        if problems := _faults(raw):
            fields = tuple(field_problem(_placeless(problem)) for problem in problems)
            raise DeployRefused(fields, "invalid_spec") from None
        raise


def _placeless(problem: Problem) -> Problem:
    # A request has no lines.
    return msgspec.structs.replace(problem, file="", line=0, column=0)


def _faults(raw: bytes) -> tuple[Problem, ...]:
    if len(raw) > MOST_TOLD_BYTES:
        return ()
    try:
        items = msgspec.json.decode(raw, type=_Request).apis
        specs = [json.loads(bytes(item.spec)) for item in items]
    except (ValueError, RecursionError):
        return ()
    if not specs:
        return ()
    try:
        load_text(json.dumps(specs, indent=0), "")
    except SpecError as error:
        return tuple(error.problems)
    return ()
