"""Which reports are taken: whole, of our version, and newer than the last one. Pure."""

from collections.abc import Callable

import msgspec

from serai import wire
from serai.errors import ConfigError, Refused
from serai.report import LATENCY_BOUNDS_MS, MAX_REPORT_BYTES, REPORT_VERSION, NodeReport

BUCKETS = len(LATENCY_BOUNDS_MS) + 1

Last = tuple[float, int]
"""The newest report of a node: when its agent was started (its wall clock), and the sequence."""


class _Head(msgspec.Struct):
    """What every version of a report begins with, whatever else it holds."""

    report_version: int


def accept(raw: bytes, last: Callable[[str], Last | None]) -> NodeReport:
    """Return the report in `raw`; `last` knows the newest one of a node that is alive.

    Refused with the code report_too_big, report_version, report_invalid or report_old. The caller
    forgets a node that fell silent, so that an agent whose clock was set back is heard again.
    """
    if len(raw) > MAX_REPORT_BYTES:
        raise Refused(
            f"the report has {len(raw)} bytes, above the limit of {MAX_REPORT_BYTES}",
            "report_too_big",
        )
    _check_version(raw)
    try:
        report = wire.decode(raw, NodeReport)
    except ConfigError as error:
        raise Refused(str(error), "report_invalid") from error
    _check_sense(report)
    _check_order(report, last(report.node))
    return report


def newest(report: NodeReport) -> Last:
    """Return what to keep of an accepted report for the next call of `accept`."""
    return report.started_at_s, report.sequence


def _check_version(raw: bytes) -> None:
    try:
        version = msgspec.json.decode(raw, type=_Head).report_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"not a report: {error}", "report_invalid") from error
    if version != REPORT_VERSION:
        side = "scheduler" if version > REPORT_VERSION else "agent"
        raise Refused(
            f"the report has version {version}, this scheduler reads {REPORT_VERSION}: "
            f"upgrade the {side}",
            "report_version",
        )


def _check_sense(report: NodeReport) -> None:
    versions = report.gateway.versions if report.gateway is not None else ()
    faults = [
        name
        for name, sensible in (
            ("node is empty", bool(report.node)),
            ("sequence is negative", report.sequence >= 0),
            ("started_at_s is negative", report.started_at_s >= 0),
            ("cpu_count is below 1", report.cpu_count >= 1),
            (
                f"latency_buckets are not {BUCKETS}",
                all(len(one.latency_buckets) in (0, BUCKETS) for one in versions),
            ),
        )
        if not sensible
    ]
    if faults:
        raise Refused(f"not a valid report: {', '.join(faults)}", "report_invalid")


def _check_order(report: NodeReport, last: Last | None) -> None:
    if last is None or newest(report) > last:
        return
    same_run = report.started_at_s == last[0]
    raise Refused(
        f"the report of {report.node} is old: number {report.sequence} of its run came after "
        f"{last[1]}"
        if same_run
        else f"the report of {report.node} is old: an agent that was started later reports under "
        "that name; if this goes on, two agents have the same `node` in agent.toml: give each the "
        "name of its machine",
        "report_old",
    )
