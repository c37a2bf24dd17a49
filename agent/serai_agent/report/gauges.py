"""What the agent reports, as metrics: the same readings for people who watch by Prometheus."""

from serai.metrics import Metrics
from serai.report import GpuReading
from serai_agent.report.beat import Parts

UNKNOWN = float("nan")


class ReportGauges:
    """Shows the newest parts of a report; unknown values are NaN, what is gone is gone."""

    def __init__(self, metrics: Metrics) -> None:
        gpu = ("gpu", "uuid")
        self._cpu = metrics.gauge("cpu_used", "percent", "Use of all processors together.")
        self._memory = metrics.gauge("memory_available", "bytes", "Memory that can be had.")
        self._disk = metrics.gauge("disk_free", "bytes", "Free space where the data lie.")
        self._gpu_age = metrics.gauge("gpu_age", "seconds", "Age of the GPU readings.")
        self._gpu_count = metrics.gauge("gpus", "count", "GPUs that answer without a problem.")
        self._gpu = {
            "utilization_percent": metrics.gauge("gpu_used", "percent", "Time in use.", gpu),
            "memory_used_bytes": metrics.gauge("gpu_memory_used", "bytes", "Memory in use.", gpu),
            "memory_total_bytes": metrics.gauge("gpu_memory_total", "bytes", "Memory.", gpu),
            "temperature_celsius": metrics.gauge("gpu_temperature", "celsius", "Heat.", gpu),
            "power_watts": metrics.gauge("gpu_power", "watts", "Power drawn.", gpu),
        }
        replica = ("replica",)
        self._replica_cpu = metrics.gauge(
            "replica_cpu_used", "cores", "What a replica's processes use.", replica
        )
        self._replica_memory = metrics.gauge(
            "replica_memory_used", "bytes", "What a replica's processes hold.", replica
        )
        text = "Parts that could not be read in time for a report."
        self._missing = metrics.counter("report_parts", "missing", text, ("part",))
        text = "What became of the reports: sent, refused, failed, or replaced by a newer one."
        self._reports = metrics.counter("reports", "ended", text, ("outcome",))

    def made(self, parts: Parts) -> None:
        """Show the parts of the newest report."""
        node = parts.node
        self._cpu.set(_shown(node.cpu_percent))
        self._memory.set(_shown(node.memory_available_bytes))
        self._disk.set(_shown(node.disk_free_bytes))
        self._gpu_age.set(_shown(parts.gpus.age_s))
        self._gpu_count.set(sum(not gpu.problem for gpu in parts.gpus.readings))
        for field, gauge in self._gpu.items():
            gauge.clear()
            for gpu in parts.gpus.readings:
                gauge.labels(str(gpu.index), gpu.uuid).set(_value(gpu, field))

        for gauge in (self._replica_cpu, self._replica_memory):
            gauge.clear()
        for usage in parts.replicas or ():
            self._replica_cpu.labels(usage.replica).set(usage.cpu_cores)
            self._replica_memory.labels(usage.replica).set(usage.memory_bytes)

    def part_missing(self, part: str) -> None:
        """Count a part that was left out."""
        self._missing.labels(part).inc()

    def ended(self, outcome: str) -> None:
        """Count what became of a report."""
        self._reports.labels(outcome).inc()


def _shown(value: float | None) -> float:
    return UNKNOWN if value is None else float(value)


def _value(gpu: GpuReading, field: str) -> float:
    value: float | None = getattr(gpu, field)
    return _shown(value)
