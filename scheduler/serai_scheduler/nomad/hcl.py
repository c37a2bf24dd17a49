"""A job as HCL, for people and for `nomad job run`. Pure.

It knows the keys that Serai's jobs have and those that Nomad adds to them, and no others: one that
it does not know is not left out in silence, unless it says nothing. Source of the names: Nomad's
job specification.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serai_scheduler.nomad.job import Job

INDENT = "  "
WIDTH = 90
UNITS = (("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("ns", 1))

Lines = list[str]
Write = Callable[[Any], Lines]


def hcl_of(job: Job) -> str:
    """Return the jobspec of a job as `job_of` makes it or Nomad's API takes it.

    One that Nomad holds begins with how to run it. Raises UnknownKey for what it cannot write, such
    as what an operator added by hand.
    """
    body = _body(job, _JOB, {"ID": _nothing})
    text = "\n".join(_block(f"job {quoted(job['ID'])}", body)) + "\n"
    index = job.get("JobModifyIndex")
    if index is None:
        return text
    return (
        f"# As it ran at index {index}. Replicas that have come since are not in it, those that\n"
        f"# have gone are: `nomad job run -check-index {index} FILE` refuses it then.\n{text}"
    )


class UnknownKey(KeyError):
    """A key of a job has no form here."""


# Values ------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """Return text as HCL's literal of it: nothing in it is a template to HCL."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return '"' + escaped.replace("${", "$${").replace("%{", "%%{") + '"'


def duration(nanoseconds: int) -> str:
    """Return a duration in the largest unit in which it is whole."""
    unit, size = next(one for one in UNITS if nanoseconds % one[1] == 0)
    return quoted(f"{nanoseconds // size}{unit}" if nanoseconds else "0s")


def literal(value: Any) -> str:
    """Return any value of JSON on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return quoted(value)
        case Mapping():
            inner = ", ".join(f"{quoted(k)} = {literal(v)}" for k, v in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case Sequence():
            return f"[{', '.join(literal(one) for one in value)}]"
    raise TypeError(f"{value!r} has no form in HCL")


# Blocks ------------------------------------------------------------------------------------------


def _block(head: str, body: Lines) -> Lines:
    if not body:
        return [f"{head} {{}}"]
    return [f"{head} {{", *(INDENT + line if line else line for line in body), "}"]


def _body(
    value: Mapping[str, Any], known: Mapping[str, Write], more: Mapping[str, Write] | None = None
) -> Lines:
    """Return the lines of a mapping; blocks stand apart from what is before them."""
    lines: Lines = []
    writes = {**known, **(more or {})}
    for key, one in value.items():
        if one is None or (key not in writes and _says_nothing(one)):
            continue
        if key not in writes:
            raise UnknownKey(key)
        added = writes[key](one)
        if lines and added and (added[0].endswith("{") or lines[-1] == "}"):
            lines.append("")
        lines += added
    return lines


def _says_nothing(value: Any) -> bool:
    """Say whether a value is what Nomad takes where there is none."""
    return all(map(_says_nothing, value.values())) if isinstance(value, Mapping) else not value


def _is(name: str) -> Write:
    return lambda value: _assigned(name, value)


def _assigned(name: str, value: Any) -> Lines:
    """Return `name = value`, a long list with each item on a line of its own."""
    line = f"{name} = {literal(value)}"
    if len(line) <= WIDTH or not isinstance(value, list | tuple):
        return [line]
    return [f"{name} = [", *(f"{INDENT}{literal(one)}," for one in value), "]"]


def _lasts(name: str) -> Write:
    return lambda value: [f"{name} = {duration(value)}"]


def _nothing(_: Any) -> Lines:
    return []


def _mapping(name: str) -> Write:
    """Return what writes a mapping with keys of any kind, one on each line."""

    def write(value: Mapping[str, Any]) -> Lines:
        return _block(f"{name} =", [f"{quoted(k)} = {literal(v)}" for k, v in value.items()])

    return write


def _free(name: str) -> Write:
    """Return what writes a block of any keys that are identifiers."""

    def write(value: Mapping[str, Any]) -> Lines:
        return _block(name, [line for key, one in value.items() for line in _assigned(key, one)])

    return write


def _one(name: str, known: Mapping[str, Write]) -> Write:
    return lambda value: _block(name, _body(value, known))


def _each(name: str, known: Mapping[str, Write], label: str = "") -> Write:
    """Return what writes a list as blocks; `label` names the key that stands in their heads."""
    hidden = {label: _nothing} if label else {}

    def write(values: Sequence[Mapping[str, Any]]) -> Lines:
        lines: Lines = []
        for value in values:
            head = f"{name} {quoted(value[label])}" if label else name
            lines += [*([""] if lines else []), *_block(head, _body(value, known, hidden))]
        return lines

    return write


def _by_name(name: str, known: Mapping[str, Write]) -> Write:
    """Return what writes a mapping of blocks, each with its key in its head."""

    def write(values: Mapping[str, Mapping[str, Any]]) -> Lines:
        lines: Lines = []
        for key, value in values.items():
            lines += _block(f"{name} {quoted(key)}", _body(value, known))
        return lines

    return write


# What there is -----------------------------------------------------------------------------------

_RESTART = {
    "Attempts": _is("attempts"),
    "Interval": _lasts("interval"),
    "Delay": _lasts("delay"),
    "Mode": _is("mode"),
}
_RESCHEDULE = {
    "Unlimited": _is("unlimited"),
    "Attempts": _is("attempts"),
    "Interval": _lasts("interval"),
    "Delay": _lasts("delay"),
    "DelayFunction": _is("delay_function"),
    "MaxDelay": _lasts("max_delay"),
}
_MIGRATE = {
    "MaxParallel": _is("max_parallel"),
    "HealthCheck": _is("health_check"),
    "MinHealthyTime": _lasts("min_healthy_time"),
    "HealthyDeadline": _lasts("healthy_deadline"),
}
_UPDATE = {
    "Stagger": _lasts("stagger"),
    "MaxParallel": _is("max_parallel"),
    "HealthCheck": _is("health_check"),
    "MinHealthyTime": _lasts("min_healthy_time"),
    "HealthyDeadline": _lasts("healthy_deadline"),
    "ProgressDeadline": _lasts("progress_deadline"),
    "AutoRevert": _is("auto_revert"),
    "AutoPromote": _is("auto_promote"),
    "Canary": _is("canary"),
}
_CONSTRAINT = {"LTarget": _is("attribute"), "Operand": _is("operator"), "RTarget": _is("value")}
_AFFINITY = {**_CONSTRAINT, "Weight": _is("weight")}
_PORT = {"To": _is("to"), "HostNetwork": _is("host_network")}
_NETWORK = {"Mode": _is("mode"), "DynamicPorts": _each("port", _PORT, "Label")}
_VOLUME = {
    "Name": _nothing,  # it is the block's own
    "Type": _is("type"),
    "Source": _is("source"),
    "ReadOnly": _is("read_only"),
}
_MOUNT = {
    "Volume": _is("volume"),
    "Destination": _is("destination"),
    "ReadOnly": _is("read_only"),
    "PropagationMode": _is("propagation_mode"),
}
_CHECK = {
    "Name": _is("name"),
    "Type": _is("type"),
    "Path": _is("path"),
    "Interval": _lasts("interval"),
    "Timeout": _lasts("timeout"),
    "InitialStatus": _is("initial_status"),
    "FailuresBeforeCritical": _is("failures_before_critical"),
    "OnUpdate": _is("on_update"),
    "TaskName": _nothing,  # the one that it stands in
}
_SERVICE = {
    "Name": _is("name"),
    "Provider": _is("provider"),
    "PortLabel": _is("port"),
    "AddressMode": _is("address_mode"),
    "Meta": _free("meta"),
    "Checks": _each("check", _CHECK),
    "OnUpdate": _is("on_update"),
    "Namespace": _nothing,  # Consul's, which is that of its group
    "TaskName": _nothing,
}
_TEMPLATE = {
    "EmbeddedTmpl": _is("data"),
    "DestPath": _is("destination"),
    "ChangeMode": _is("change_mode"),
    "Splay": _lasts("splay"),
    "Perms": _is("perms"),
    "LeftDelim": _is("left_delimiter"),
    "RightDelim": _is("right_delimiter"),
}
_RESOURCES = {
    "CPU": _is("cpu"),
    "MemoryMB": _is("memory"),
    "Devices": _each("device", {"Count": _is("count")}, "Name"),
}
_TASK = {
    "Driver": _is("driver"),
    "Leader": _is("leader"),
    "User": _is("user"),
    "Lifecycle": _one("lifecycle", {"Hook": _is("hook"), "Sidecar": _is("sidecar")}),
    "Config": _free("config"),
    "Env": _mapping("env"),
    "Templates": _each("template", _TEMPLATE),
    "KillSignal": _is("kill_signal"),
    "KillTimeout": _lasts("kill_timeout"),
    "ShutdownDelay": _lasts("shutdown_delay"),
    "LogConfig": _one(
        "logs", {"MaxFiles": _is("max_files"), "MaxFileSizeMB": _is("max_file_size")}
    ),
    "Resources": _one("resources", _RESOURCES),
    "RestartPolicy": _one("restart", _RESTART),
    "VolumeMounts": _each("volume_mount", _MOUNT),
    "Services": _each("service", _SERVICE),
}
_GROUP = {
    "Count": _is("count"),
    "Constraints": _each("constraint", _CONSTRAINT),
    "Affinities": _each("affinity", _AFFINITY),
    "Networks": _each("network", _NETWORK),
    "RestartPolicy": _one("restart", _RESTART),
    "ReschedulePolicy": _one("reschedule", _RESCHEDULE),
    "Migrate": _one("migrate", _MIGRATE),
    "Update": _one("update", _UPDATE),
    "EphemeralDisk": _one("ephemeral_disk", {"SizeMB": _is("size")}),
    "Volumes": _by_name("volume", _VOLUME),
    "Tasks": _each("task", _TASK, "Name"),
}
_JOB = {
    "Name": _nothing,  # the same as its id
    "JobModifyIndex": _nothing,
    "Region": _is("region"),
    "Type": _is("type"),
    "Namespace": _is("namespace"),
    "Datacenters": _is("datacenters"),
    "NodePool": _is("node_pool"),
    "Priority": _is("priority"),
    "Constraints": _each("constraint", _CONSTRAINT),
    "Affinities": _each("affinity", _AFFINITY),
    "Update": _one("update", _UPDATE),
    "Meta": _free("meta"),
    "TaskGroups": _each("group", _GROUP, "Name"),
}
