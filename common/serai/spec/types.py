"""The spec of an API as typed values: what `serai.yaml` holds once it has been read.

One set of types serves the file, the wire and the JSON Schema. Quantities are the types of
`serai.units`; `serai.spec.codec` turns them into their written form and back. What a single value
may be stands in its annotation: msgspec's own limits, and for quantities and messages the
`extra` entries that `serai.spec.constraints` reads (`least`, `most`, `choices`, `form`).
Quantities are made by factories, because msgspec cannot write their defaults into a JSON Schema.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from serai.spec.part import END, SpecPart
from serai.spec.scaling import Autoscaling
from serai.units import Cpu, Duration, Size

QUEUE_TIMEOUTS = ("1s", "5s", "30s", "120s")
KINDS = ("RealtimeAPI",)
LATER_KINDS = ("AsyncAPI", "BatchAPI", "TaskAPI", "TrafficSplitter")

RetryMode = Literal["never", "connection", "idempotent"]
Name = Annotated[
    str,
    Meta(
        pattern=rf"^[a-z]([-a-z0-9]*[a-z0-9])?{END}",
        max_length=42,
        extra={
            "form": "lower-case letters, digits and `-`, beginning with a letter, ending with a"
            " letter or digit, at most 42 characters"
        },
    ),
]
FileName = Annotated[
    str,
    Meta(
        pattern=rf"^[^\x00-\x1f\x7f\\]+{END}",
        max_length=1024,
        extra={"form": "a path with `/` between folders"},
    ),
]
AbsolutePath = Annotated[
    str,
    Meta(
        pattern=rf"^/[^\x00-\x1f\x7f\\]*{END}",
        max_length=1024,
        extra={"form": "an absolute path such as /models"},
    ),
]
MOST_APIS = 40
"""In a file and a deploy: all are accepted in one change of the store, and Consul's holds 64."""

PythonVersion = Annotated[
    str,
    Meta(
        pattern=rf"^3\.(1[1-9]|[2-9][0-9]){END}",
        extra_json_schema={"x-type": ["string", "number"]},
        extra={"form": "a Python version from 3.11 on, without the patch level, such as 3.12"},
    ),
]
EnvironmentKey = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z_][A-Za-z0-9_]*{END}",
        max_length=256,
        extra={"form": "letters, digits and `_`, not beginning with a digit"},
    ),
]
EnvironmentValue = Annotated[
    str,
    Meta(max_length=128 * 1024, extra_json_schema={"x-type": ["string", "number", "boolean"]}),
]
Argument = Annotated[
    str,
    Meta(max_length=128 * 1024, extra_json_schema={"x-type": ["string", "number", "boolean"]}),
]
Environment = dict[EnvironmentKey, EnvironmentValue]
NodeWord = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_][A-Za-z0-9_.:/@+-]*{END}",
        max_length=128,
        extra_json_schema={"x-type": ["string", "number", "boolean"]},
        extra={"form": "letters, digits and `_` `.` `:` `/` `@` `+` `-`, at most 128 characters"},
    ),
]
NodePool = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_-]+{END}",
        max_length=128,
        extra={"form": "letters, digits, `_` and `-`, at most 128 characters"},
    ),
]
NodeMetaKey = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_][A-Za-z0-9_.-]*{END}",
        max_length=128,
        extra={"form": "letters, digits and `_` `.` `-`, at most 128 characters"},
    ),
]
NodeMeta = dict[NodeMetaKey, NodeWord]
Port = Annotated[int, Meta(ge=1, le=65535)]
Processes = Annotated[int, Meta(ge=1, le=64)]
Threads = Annotated[int, Meta(ge=1, le=256)]
Replicas = Annotated[int, Meta(ge=0, le=10_000)]
Limit = Annotated[Duration, Meta(extra={"least": "1ms", "most": "24h"})]
Memory = Annotated[Size, Meta(extra={"least": "20Mi", "most": "64Ti"})]
SharedMemory = Annotated[Size, Meta(extra={"least": "1Mi", "most": "64Ti"})]


class Batch(SpecPart):
    """Micro-batching: `predict` gets a list of payloads."""

    max_size: Annotated[int, Meta(ge=1, le=1024, description="Most payloads in one call")] = 16
    max_wait_ms: Annotated[
        float, Meta(ge=0, le=10_000, description="How long the first payload waits for others")
    ] = 5.0


class Predictor(SpecPart):
    """A Python class that serves the API."""

    path: Annotated[
        FileName,
        Meta(description="File with `class Predictor` (or `PythonPredictor`), in this folder"),
    ]
    config: Annotated[
        dict[str, Any], Meta(description="Given to the constructor; anything that JSON can hold")
    ] = field(default_factory=dict)
    requirements: Annotated[
        FileName | None,
        Meta(
            description="Python requirements, in this folder; when it is left out,"
            " `requirements.txt` if that file is there"
        ),
    ] = None
    python: Annotated[
        PythonVersion | None,
        Meta(description="Python version, 3.11 or later; when it is left out, the cluster's"),
    ] = None
    processes: Annotated[Processes, Meta(description="Processes per replica")] = 1
    threads: Annotated[
        Threads, Meta(description="Threads per process, for blocking `predict` methods")
    ] = 1
    batch: Annotated[
        Batch | None, Meta(description="Micro-batching; without it, one payload per call")
    ] = None


class Container(SpecPart):
    """One container of a pod; `image` is what dockerd can pull or already has."""

    image: Annotated[
        str,
        Meta(
            pattern=rf"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*{END}",
            max_length=512,
            description="Image, such as registry.example/team/model:1.2",
            extra={"form": "an image name such as registry.example/team/model:1.2"},
        ),
    ]
    name: Annotated[
        str,
        Meta(
            pattern=rf"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?{END}",
            max_length=63,
            description="Name of the container, for logs; unique in its pod",
            extra={"form": "lower-case letters, digits and `-`, at most 63 characters"},
        ),
    ] = ""
    command: Annotated[
        tuple[Argument, ...],
        Meta(max_length=1000, description="Instead of the image's entry point"),
    ] = ()
    args: Annotated[
        tuple[Argument, ...], Meta(max_length=1000, description="Instead of the image's arguments")
    ] = ()
    env: Annotated[Environment, Meta(description="Environment of this container")] = field(
        default_factory=dict
    )


class Pod(SpecPart):
    """Any HTTP server: containers, or without them a program that listens on `$PORT`."""

    port: Annotated[Port, Meta(description="Where the server listens in its container")] = 8080
    containers: Annotated[
        tuple[Container, ...],
        Meta(max_length=16, description="Containers, run through dockerd"),
    ] = ()
    command: Annotated[
        tuple[Argument, ...],
        Meta(max_length=1000, description="Instead of containers: a program of this folder"),
    ] = ()


class Compute(SpecPart):
    """What one replica needs."""

    cpu: Annotated[
        Cpu,
        Meta(
            description="Processor time: 200m is a fifth of a core",
            extra={"least": "20m", "most": "1024"},
        ),
    ] = field(default_factory=lambda: Cpu(200))
    mem: Annotated[Memory | None, Meta(description="Memory; without it, no limit")] = None
    shm: Annotated[
        SharedMemory | None, Meta(description="Shared memory (/dev/shm), at most `mem`")
    ] = None
    gpu: Annotated[int, Meta(ge=0, le=64, description="Whole GPUs")] = 0


class Concurrency(SpecPart):
    """How many requests at once, and what happens to the rest."""

    per_replica: Annotated[
        int,
        Meta(
            ge=1,
            le=30_000,
            description="Requests that one replica works on at once; a file that leaves it out gets"
            " `predictor.processes` times the larger of `threads` and twice `batch.max_size`",
        ),
    ] = 1
    queue: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Requests that may wait for ready replicas; more are answered 429",
        ),
    ] = 100
    queue_timeout: Annotated[
        Duration,
        Meta(
            description="How long a request may wait before 503: 1s, 5s, 30s or 120s",
            extra={"choices": QUEUE_TIMEOUTS},
        ),
    ] = field(default_factory=lambda: Duration(30))
    body_max: Annotated[
        Size,
        Meta(
            description="Largest request body; a larger one is answered 413",
            extra={"least": "1Ki", "most": "1Gi"},
        ),
    ] = field(default_factory=lambda: Size(32 * 2**20))


class Timeouts(SpecPart):
    """Limits on one request; the runtime enforces `total`, the gateway the others."""

    first_byte: Annotated[Limit, Meta(description="Until the answer begins, at most `total`")] = (
        field(default_factory=lambda: Duration(60))
    )
    idle: Annotated[Limit, Meta(description="Silence on a connection or in a stream")] = field(
        default_factory=lambda: Duration(60)
    )
    total: Annotated[Limit, Meta(description="From the request to the end of the answer")] = field(
        default_factory=lambda: Duration(600)
    )


class Mount(SpecPart):
    """A folder of the node, shown to the replica; only below the operator's allow-list."""

    host: Annotated[AbsolutePath, Meta(description="Folder on the node")]
    path: Annotated[AbsolutePath, Meta(description="Where the replica sees it")]
    read_only: Annotated[bool, Meta(description="Whether the replica may only read")] = True


class PreferredNodes(SpecPart):
    """Nodes that are preferred; where none of them has room, another one will do."""

    class_: Annotated[NodeWord | None, Meta(description="Rather nodes of this class")] = field(
        name="class", default=None
    )
    meta: Annotated[NodeMeta, Meta(description="Rather nodes with these meta entries")] = field(
        default_factory=dict
    )


class Nodes(SpecPart):
    """Which nodes of a cluster a replica may run on: those that meet all of it."""

    class_: Annotated[
        NodeWord | None, Meta(description="Only nodes of this class (Nomad's `node_class`)")
    ] = field(name="class", default=None)
    pool: Annotated[
        NodePool | None,
        Meta(
            description="Only nodes of this pool (Nomad's `node_pool`); without it, `default`;"
            " `all` is every pool"
        ),
    ] = None
    meta: Annotated[
        NodeMeta, Meta(description="Only nodes with these entries in their meta (Nomad's `meta`)")
    ] = field(default_factory=dict)
    prefer: Annotated[PreferredNodes, Meta(description="Which of these nodes are preferred")] = (
        field(default_factory=PreferredNodes)
    )


class Readiness(SpecPart):
    """When a replica may take traffic: `path` answers below 400."""

    path: Annotated[
        str,
        Meta(
            pattern=rf"^/[!-~]*{END}",
            max_length=1024,
            description="Path that is asked",
            extra={"form": "a path that begins with `/`, such as /readyz, without spaces"},
        ),
    ] = "/readyz"
    period: Annotated[
        Duration,
        Meta(description="Time between two checks", extra={"least": "100ms", "most": "10m"}),
    ] = field(default_factory=lambda: Duration(1))
    failures: Annotated[
        int, Meta(ge=1, le=100, description="Failures in a row until it leaves the traffic")
    ] = 3


class ApiSpec(SpecPart):
    """One API as its owner describes it. Exactly one of `predictor` and `pod` is set."""

    name: Annotated[Name, Meta(description="Name of the API: a DNS label, at most 42 characters")]
    kind: Annotated[
        str,
        Meta(
            description="Kind of the API",
            extra_json_schema={"enum": list(KINDS)},
            extra={"choices": KINDS, "later": LATER_KINDS},
        ),
    ] = "RealtimeAPI"
    endpoint: Annotated[
        str,
        Meta(
            max_length=255,
            description="Path at the gateway; without it, `/<name>`. The prefix is removed, the"
            " rest of the path and the query are passed on",
        ),
    ] = ""
    predictor: Annotated[
        Predictor | None, Meta(description="A Python class that serves the API")
    ] = None
    pod: Annotated[Pod | None, Meta(description="Any HTTP server")] = None
    compute: Annotated[Compute, Meta(description="What one replica needs")] = field(
        default_factory=Compute
    )
    concurrency: Annotated[
        Concurrency, Meta(description="How many requests at once, and what happens to the rest")
    ] = field(default_factory=Concurrency)
    timeouts: Annotated[Timeouts, Meta(description="Limits on one request")] = field(
        default_factory=Timeouts
    )
    retry: Annotated[
        RetryMode,
        Meta(description="What may be sent to another replica when no answer has begun"),
    ] = "connection"
    mounts: Annotated[
        tuple[Mount, ...],
        Meta(max_length=64, description="Folders of the node, below the operator's allow-list"),
    ] = ()
    nodes: Annotated[
        Nodes,
        Meta(description="Which nodes of a cluster replicas may run on; ignored by `serai up`"),
    ] = field(default_factory=Nodes)
    autoscaling: Annotated[
        Autoscaling, Meta(description="How the number of replicas follows the traffic")
    ] = field(default_factory=Autoscaling)
    readiness: Annotated[Readiness, Meta(description="When a replica may take traffic")] = field(
        default_factory=Readiness
    )
    env: Annotated[Environment, Meta(description="Environment of every process of the replica")] = (
        field(default_factory=dict)
    )
