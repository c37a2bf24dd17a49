"""What the policy itself costs: a second taken in, a decision, and 500 APIs that tick together."""

import time
from random import Random

from bench.report import Figure
from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.policies.serai import Serai

APIS = 500
FILLED_S = 1200
"""How long every history has run before it is measured: all but the longest windows are full."""
MEASURED_S = 60
LIMITS = Limits(1, 200, 5.0)


def figures() -> dict[str, Figure]:
    """Measure on CPU time, so that neighbours on the machine do not count."""
    rng = Random(7)
    policies = [Serai() for _ in range(APIS)]
    for second in range(1, FILLED_S + 1):
        sample = _sample(rng, second)
        for policy in policies:
            policy.add(float(second), sample)
            policy.decide(float(second), LIMITS)
    added_s = decided_s = 0.0
    for second in range(FILLED_S + 1, FILLED_S + MEASURED_S + 1):
        samples = [_sample(rng, second + 97 * number) for number in range(APIS)]
        began_s = time.process_time()
        for policy, sample in zip(policies, samples, strict=True):
            policy.add(float(second), sample)
        between_s = time.process_time()
        for policy in policies:
            policy.decide(float(second), LIMITS)
        decided_s += time.process_time() - between_s
        added_s += between_s - began_s
    count = APIS * MEASURED_S
    return {
        "sample_us": added_s / count * 1e6,
        "decision_us": decided_s / count * 1e6,
        "share_of_a_core_500_apis": (added_s + decided_s) / MEASURED_S,
    }


def _sample(rng: Random, second: int) -> Sample:
    """Return a second of traffic with a burst every five minutes."""
    rate = rng.randint(10, 30) * (3 if second % 300 < 40 else 1)
    return Sample(1.0, rate, rate, rate * 3, rng.randint(0, rate), 40, second % 2, 5.0, 60.0, 2000)
