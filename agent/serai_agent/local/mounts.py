"""Which folders of this node its operator lets replicas mount."""

import os
from collections.abc import Sequence
from pathlib import Path


def mount_problem(host: str, allowed: Sequence[str]) -> str | None:
    """Say why a folder may not be mounted; None when it may. Links count as where they lead."""
    real = Path(os.path.realpath(host))
    if any(real.is_relative_to(os.path.realpath(root)) for root in allowed):
        return None
    if not allowed:
        return "the operator of this node allows no mounts (`serai up --allow-mount FOLDER`)"
    return f"{host} is not below a folder that the operator allows: {', '.join(allowed)}"
