"""`make bench-update`: version changes and scale changes under steady load; what was lost."""

import tempfile
from pathlib import Path

from bench.report import Figure, at_least, exactly, finish
from tests.support.serai import Serai, serving, write_predictor
from tests.support.traffic import steady
from tests.support.wait import until

CHANGES = 20
RATE_PER_S = 200
REQUESTS = 20_000
REPLICAS = 4
SPEC = (
    "concurrency: {per_replica: 8, queue: 1000}\n"
    f"autoscaling: {{policy: fixed, init_replicas: {REPLICAS}, max_replicas: 6}}\n"
)


def predictor(number: int) -> str:
    return f"class Predictor:\n    def predict(self, payload):\n        return {number}\n"


def settled(serai: Serai, count: int) -> bool:
    """Say whether nothing but the wanted replicas is left."""
    described = serai.describe("steady")
    states = [one["replica"]["state"] for one in described["replicas"]]
    leaving = any(state == "draining" for state in states)
    return described["status"]["ready"] == count == states.count("ready") and not leaving


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as serai:
        project = Path(folder) / "project"
        serai.deploy(write_predictor(project, predictor(0), SPEC, name="steady"))
        until(lambda: settled(serai, REPLICAS), 60)
        reloads_before = reloads(serai)
        with steady(f"{serai.url}/steady", RATE_PER_S) as traffic:
            for number in range(1, CHANGES + 1):
                serai.deploy(write_predictor(project, predictor(number), SPEC, name="steady"))
                until(lambda: settled(serai, REPLICAS), 60)
            for number in range(CHANGES):
                count = 2 if number % 2 == 0 else REPLICAS
                assert serai.run("scale", "steady", "--replicas", str(count)).returncode == 0
                until(lambda: settled(serai, count), 60)  # noqa: B023
            until(lambda: traffic.answered >= REQUESTS, 300)
        figures: dict[str, Figure] = {
            "requests_answered": traffic.answered,
            "requests_failed": len(traffic.failed),
            "first_failure": traffic.failed[0] if traffic.failed else "none",
            "reloads": reloads(serai) - reloads_before,
            "version_changes": CHANGES,
            "scale_changes": CHANGES,
        }
    limits = {
        "requests_answered": at_least(REQUESTS),
        "requests_failed": exactly(0),
        "reloads": exactly(0),
    }
    finish("update", figures, limits)


def reloads(serai: Serai) -> int:
    """Return how often the gateway has reloaded HAProxy."""
    import json

    listed = json.loads(serai.run("nodes", "-o", "json").stdout)
    return sum(node["report"]["gateway"]["reloads"] for node in listed["nodes"])


if __name__ == "__main__":
    main()
