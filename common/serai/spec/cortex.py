"""Cortex's spec files as Serai's: the 0.16 `predictor:` form and the last `pod:` form.

Trees of nodes go in and come out, so that every message still points at what was written. Tables
say where a key goes and which keys mean nothing here; the few keys that need more have a function.
What is not named here is left for the reader to judge.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from serai.spec.nodes import Entry, Mapping, Mark, Node, Scalar, Sequence, mapping, moved
from serai.spec.nodes import with_entries as rebuilt
from serai.spec.scaling import CortexRules
from serai.units import Cpu, Size

Keys = tuple[str, ...]

RULE_KEYS = tuple(CortexRules.__struct_fields__)
MOVES: tuple[tuple[Keys, Keys], ...] = (
    (("autoscaling", "workers_per_replica"), ("predictor", "processes")),
    (("autoscaling", "threads_per_worker"), ("predictor", "threads")),
    (("predictor", "processes_per_replica"), ("predictor", "processes")),
    (("predictor", "threads_per_process"), ("predictor", "threads")),
    (("predictor", "python_path"), ("env", "PYTHONPATH")),
    (("pod", "max_concurrency"), ("concurrency", "per_replica")),
    (("pod", "max_queue_length"), ("concurrency", "queue")),
    (("networking", "endpoint"), ("endpoint",)),
    (("autoscaling", "target_replica_concurrency"), ("autoscaling", "target_in_flight")),
    *((("autoscaling", key), ("autoscaling", "cortex", key)) for key in RULE_KEYS),
)
"""Where a key of Cortex stands, and where it stands here."""

_CORTEX_DECIDES = (
    "Cortex's rule decides the count (`policy: cortex`), since this is a key of its own; for"
    " another rule, name another `policy`"
)
_UPDATES = "has no effect: new replicas are ready before the old ones leave the traffic"
NOTES: dict[Keys, str] = {
    ("local_port",): "has no effect: all APIs answer at the gateway's port",
    ("node_groups",): "has no effect: there are no node groups; say with `nodes` where it may run",
    ("tracker",): "has no effect: predictions are not tracked",
    ("update_strategy",): _UPDATES,
    ("networking", "api_gateway"): "has no effect: the gateway is Serai's own",
    ("predictor", "image"): "has no effect: the environment is made from the requirements",
    ("predictor", "model"): "has no effect: it is read only by the types tensorflow and onnx",
    ("predictor", "signature_key"): "has no effect: it is read only by the type tensorflow",
    ("predictor", "tensorflow_serving_image"): "has no effect: TensorFlow Serving is not run",
}
"""Keys that are accepted and dropped, with what their writer is told."""

CONTAINER_NOTES: dict[str, str] = {
    "liveness_probe": "has no effect: a replica that is not ready leaves the traffic",
    "pre_stop": "has no effect: a replica gets SIGTERM when its requests are finished",
}
_READINESS = "a replica takes traffic once GET /readyz answers below 400; set `readiness.path`"
_NETWORKING = "unknown key; allowed: endpoint"
_PREDICTOR_TYPES = ("python", "tensorflow", "onnx")
_TIMERS = {"period_seconds": "period", "failure_threshold": "failures"}
_UNSUPPORTED = (
    'found "{}"; only Python predictors run here: load the model in the constructor of'
    " `class Predictor`, and remove `type`, `model` and `signature_key`"
)


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to tell about a key that the conversion took away; `wrong` makes it a problem."""

    mark: Mark
    path: str
    message: str
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Converted:
    """An API in Serai's form, and what its writer must be told.

    `policy_for` is the key for which Cortex's rule was taken, "" where a policy is named or none is
    needed.
    """

    node: Mapping
    remarks: tuple[Remark, ...] = ()
    policy_for: str = ""


def convert(node: Mapping) -> Converted:
    """Return an API in Serai's form; one that is in it already comes back as it is."""
    conversion = _Conversion(node)
    for step in STEPS:
        step(conversion)
    return Converted(conversion.node, tuple(conversion.remarks), conversion.policy_for)


class _Conversion:
    """The API as it stands after the steps so far."""

    def __init__(self, node: Mapping) -> None:
        self.node = node
        self.remarks: list[Remark] = []
        self.policy_for = ""

    def take(self, *keys: str) -> Entry | None:
        """Remove a key and return it; None where it is not written."""
        self.node, entry = _without(self.node, keys)
        return entry

    def look(self, *keys: str) -> Node | None:
        """Return the value of a key."""
        node: Node | None = self.node
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    def put(self, keys: Keys, entry: Entry, origin: str) -> None:
        """Add a value under another key; where that is written too, say so."""
        if self.look(*keys) is not None:
            self.tell(entry, origin, f"is the same as `{'.'.join(keys)}`; remove one", wrong=True)
        else:
            new = Entry(keys[-1], entry.mark, moved(entry.value, origin))
            self.node = _with(self.node, keys, new)

    def tell(self, entry: Entry, path: str, message: str, wrong: bool = False) -> None:
        """Add a remark about a key."""
        mark = entry.value.mark if wrong else entry.mark
        self.remarks.append(Remark(mark, path, message, wrong))


def _predictor_type(conversion: _Conversion) -> None:
    kind = conversion.take("predictor", "type")
    if kind is None or (isinstance(kind.value, Scalar) and kind.value.text == "python"):
        return
    text = kind.value.text if isinstance(kind.value, Scalar) else ""
    if text not in _PREDICTOR_TYPES:
        conversion.tell(kind, "predictor.type", "not known; allowed: python", wrong=True)
        return
    conversion.tell(kind, "predictor.type", _UNSUPPORTED.format(text), wrong=True)
    for key in ("model", "signature_key", "tensorflow_serving_image"):
        conversion.take("predictor", key)


def _moves(conversion: _Conversion) -> None:
    for old, new in MOVES:
        if new[0] == "predictor" and not isinstance(conversion.look("predictor"), Mapping):
            continue
        if (entry := conversion.take(*old)) is not None:
            conversion.put(new, entry, ".".join(old))


def _predictor_env(conversion: _Conversion) -> None:
    entry = conversion.take("predictor", "env")
    if entry is None:
        return
    own = conversion.look("env")
    if own is None or not isinstance(entry.value, Mapping):
        conversion.put(("env",), entry, "predictor.env")
        return
    if not isinstance(own, Mapping):
        return
    taken, kept = {one.key for one in own.entries}, list(own.entries)
    for one in entry.value.entries:
        path = f"predictor.env.{one.key}"
        if one.key in taken:
            message = f"is the same as `env.{one.key}`; remove one"
            conversion.tell(one, path, message, wrong=True)
        else:
            kept.append(Entry(one.key, one.mark, moved(one.value, path), one.typed))
    env = Entry("env", own.mark, rebuilt(own, kept))
    conversion.node = _with(conversion.node, ("env",), env)


def _replica_concurrency(conversion: _Conversion) -> None:
    """Turn "running and waiting, per replica" into the queue: what does not run waits."""
    entry = conversion.take("autoscaling", "max_replica_concurrency")
    if entry is None:
        return
    most = _whole(entry.value)
    running = (_whole(conversion.look("predictor", key), 1) for key in ("processes", "threads"))
    processes, threads = running
    value = entry.value
    if most is not None and most > 0 and processes is not None and threads is not None:
        queue = max(0, most - processes * threads)
        value = Scalar(entry.value.mark, queue, str(queue))
    new = Entry("queue", entry.mark, value)
    conversion.put(("concurrency", "queue"), new, "autoscaling.max_replica_concurrency")


def _policy(conversion: _Conversion) -> None:
    """Let Cortex's rule decide where a key has a meaning for it alone, and no policy is named."""
    scaling = conversion.look("autoscaling")
    if not isinstance(scaling, Mapping) or scaling.get("policy") is not None:
        return
    for entry in scaling.entries:
        if entry.key in ("cortex", "window") or _counts_waiting(conversion, entry):
            policy = Scalar(entry.mark, "cortex", "cortex")
            named = Entry("policy", entry.mark, policy)
            conversion.put(("autoscaling", "policy"), named, "autoscaling.policy")
            conversion.policy_for = _as_written(entry)
            conversion.tell(entry, conversion.policy_for, _CORTEX_DECIDES)
            return


def _as_written(entry: Entry) -> str:
    """Return the path of a key of `autoscaling` as its writer has it; of several, of the first."""
    value = entry.value
    if entry.key == "cortex" and isinstance(value, Mapping) and value.entries:
        value = value.entries[0].value
    return value.origin or f"autoscaling.{entry.key}"


def _counts_waiting(conversion: _Conversion, entry: Entry) -> bool:
    """Say whether it is a target above what a replica runs at once: only Cortex's has such."""
    if entry.key != "target_in_flight" or not isinstance(entry.value, Scalar):
        return False
    running = [_whole(conversion.look("predictor", key), 1) for key in ("processes", "threads")]
    runs = _whole(conversion.look("concurrency", "per_replica"))
    if runs is None and None not in running:
        runs = math.prod(one for one in running if one is not None)
    target = entry.value.value
    return runs is not None and isinstance(target, int | float) and target > runs


def _notes(conversion: _Conversion) -> None:
    for keys, message in NOTES.items():
        if (entry := conversion.take(*keys)) is not None:
            conversion.tell(entry, ".".join(keys), message)
    networking, scaling = conversion.look("networking"), conversion.look("autoscaling")
    if isinstance(scaling, Mapping) and not scaling.entries:
        conversion.take("autoscaling")
    if isinstance(networking, Mapping):
        conversion.take("networking")
        for one in networking.entries:
            path = f"networking.{one.key}"
            conversion.remarks.append(Remark(one.mark, path, _NETWORKING, wrong=True))


def _containers(conversion: _Conversion) -> None:
    containers = conversion.look("pod", "containers")
    if not isinstance(containers, Sequence):
        return
    kept: list[Node] = []
    taken: list[tuple[str, Entry]] = []
    for index, container in enumerate(containers.items):
        node = container
        if isinstance(node, Mapping):
            mine = [one for one in node.entries if one.key in _CONTAINER_KEYS]
            taken += [(f"pod.containers[{index}].{one.key}", one) for one in mine]
            others = [one for one in node.entries if one.key not in _CONTAINER_KEYS]
            node = rebuilt(node, others)
        kept.append(node)
    if not taken:
        return
    new = Sequence(containers.mark, tuple(kept), containers.origin)
    conversion.node = _with(
        conversion.node, ("pod", "containers"), Entry("containers", containers.mark, new)
    )
    _container_keys(conversion, taken)


_CONTAINER_KEYS = ("compute", "readiness_probe", *CONTAINER_NOTES)


def _container_keys(conversion: _Conversion, taken: list[tuple[str, Entry]]) -> None:
    probed = False
    computes: list[tuple[str, Entry]] = []
    for path, entry in taken:
        if entry.key in CONTAINER_NOTES:
            conversion.tell(entry, path, CONTAINER_NOTES[entry.key])
        elif entry.key == "readiness_probe":
            _readiness_probe(conversion, path, entry)
            probed = True
        else:
            computes.append((path, entry))
    _container_computes(conversion, computes)
    if not probed and conversion.look("readiness") is None:
        conversion.tell(taken[0][1], "readiness", _READINESS)


def _readiness_probe(conversion: _Conversion, path: str, entry: Entry) -> None:
    if not isinstance(entry.value, Mapping):
        conversion.put(("readiness",), entry, path)
        return
    for one in entry.value.entries:
        inner = f"{path}.{one.key}"
        if one.key in _TIMERS:
            conversion.put(("readiness", _TIMERS[one.key]), one, inner)
        elif one.key == "http_get":
            _http_get(conversion, inner, one)
        elif one.key in ("tcp_socket", "exec"):
            conversion.tell(one, inner, f"is not supported: {_READINESS}")
        else:
            conversion.tell(one, inner, "has no effect: `readiness` has path, period and failures")


def _http_get(conversion: _Conversion, path: str, entry: Entry) -> None:
    asked = entry.value.get("path") if isinstance(entry.value, Mapping) else None
    value = asked or Scalar(entry.value.mark, "/", "/")
    conversion.put(("readiness", "path"), Entry("path", entry.mark, value), f"{path}.path")
    port = entry.value.get("port") if isinstance(entry.value, Mapping) else None
    if port is not None and _whole(port) != _whole(conversion.look("pod", "port"), 8080):
        conversion.tell(entry, f"{path}.port", "has no effect: `pod.port` is asked")


def _container_computes(conversion: _Conversion, computes: list[tuple[str, Entry]]) -> None:
    """A replica needs what its containers need together."""
    by_key: dict[str, list[tuple[str, Entry]]] = {}
    for path, entry in computes:
        if not isinstance(entry.value, Mapping):
            conversion.put(("compute",), entry, path)
            return
        for one in entry.value.entries:
            if not (isinstance(one.value, Scalar) and one.value.value is None):
                by_key.setdefault(one.key, []).append((f"{path}.{one.key}", one))
    for key, parts in by_key.items():
        path, first = parts[0]
        if len(parts) > 1 and (total := _total(key, [one.value for _, one in parts])) is not None:
            value = Scalar(first.value.mark, total, str(total))
            conversion.put(("compute", key), Entry(key, first.mark, value), path)
            continue
        unreadable = [part for part in parts if _total(key, [part[1].value]) is None]
        path, one = (unreadable or parts)[0]
        conversion.put(("compute", key), one, path)


def _inferentia(conversion: _Conversion) -> None:
    entry = conversion.take("compute", "inf")
    if entry is None:
        return
    if _whole(entry.value) == 0:
        conversion.tell(entry, "compute.inf", "has no effect: Inferentia is not supported")
    else:
        conversion.tell(entry, "compute.inf", "Inferentia is not supported; remove it", wrong=True)


STEPS: tuple[Callable[[_Conversion], None], ...] = (
    _predictor_type,
    _containers,
    _moves,
    _predictor_env,
    _replica_concurrency,
    _policy,
    _notes,
    _inferentia,
)


def _total(key: str, nodes: list[Node]) -> str | int | None:
    """Return the sum of quantities, or None where one of them is none."""
    values = [node.value if isinstance(node, Scalar) else None for node in nodes]
    try:
        if key == "cpu":
            return str(Cpu(sum(Cpu.parse(value).millicores for value in values)))
        if key in ("mem", "shm"):
            return str(Size(sum(Size.parse(value).bytes for value in values)))
    except ValueError:
        return None
    wholes = [_whole(node) for node in nodes]
    known = [whole for whole in wholes if whole is not None]
    return sum(known) if key in ("gpu", "inf") and len(known) == len(wholes) else None


def _whole(node: Node | None, default: int | None = None) -> int | None:
    if node is None:
        return default
    value = node.value if isinstance(node, Scalar) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _without(node: Mapping, keys: Keys) -> tuple[Mapping, Entry | None]:
    found = next((entry for entry in node.entries if entry.key == keys[0]), None)
    if found is None:
        return node, None
    if len(keys) == 1:
        return rebuilt(node, [entry for entry in node.entries if entry is not found]), found
    if not isinstance(found.value, Mapping):
        return node, None
    inner, taken = _without(found.value, keys[1:])
    return _with(node, keys[:1], Entry(found.key, found.mark, inner)), taken


def _with(node: Mapping, keys: Keys, new: Entry) -> Mapping:
    if len(keys) > 1:
        found = next((entry for entry in node.entries if entry.key == keys[0]), None)
        if found is None:
            found = Entry(keys[0], new.mark, mapping(new.mark, []))
        if not isinstance(found.value, Mapping):
            return node
        new = Entry(keys[0], found.mark, _with(found.value, keys[1:], new))
    if any(entry.key == new.key for entry in node.entries):
        return rebuilt(node, [new if entry.key == new.key else entry for entry in node.entries])
    return rebuilt(node, [*node.entries, new])
