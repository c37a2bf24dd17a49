"""Parts of reports for tests."""

from serai.report import GatewayReading, GpuReading, Gpus, ReplicaUsage, ServerTraffic
from serai_agent.report.beat import Identity, NodeReading, Parts

WHO = Identity(node="n1", started_at_s=1000.0, serai_version="0.1.0", roles=("gateway", "runner"))

NODE = NodeReading(
    cpu_count=8,
    cpu_percent=12.5,
    load=(0.5, 0.25, 0.125),
    memory_total_bytes=64 * 2**30,
    memory_available_bytes=32 * 2**30,
    disk_total_bytes=2**40,
    disk_free_bytes=2**39,
)

GPU = GpuReading(uuid="GPU-1", index=0, name="Tesla T4", memory_total_bytes=15 * 2**30)

GPUS = Gpus(readings=(GPU,), driver="570", age_s=0.5)

GATEWAY = GatewayReading(run="r1", ready=True, read_at_s=7.0, revisions={"iris": 3})


def parts(
    gpus: Gpus = GPUS,
    replicas: tuple[ReplicaUsage, ...] | None = (),
    gateway: GatewayReading | None = None,
) -> Parts:
    return Parts(node=NODE, gpus=gpus, replicas=replicas, gateway=gateway)


def usage(replica: str) -> ReplicaUsage:
    return ReplicaUsage(replica=replica, cpu_cores=0.5, memory_bytes=2**20, processes=2)


def server(name: str) -> ServerTraffic:
    return ServerTraffic(server=name, state="ready", in_flight=0)
