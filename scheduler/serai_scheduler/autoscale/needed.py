"""How many whole replicas serve a load. Pure."""

import math

ROUNDING = 1e-6
"""What sums of fractions are off by must not ask for a replica."""


def needed(load: float, each: float) -> int:
    """Return how many replicas serve a load, each so much of it."""
    return max(0, math.ceil(load / each - ROUNDING))
