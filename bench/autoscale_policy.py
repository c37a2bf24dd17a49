"""The autoscaler of Serai as a policy of an outside simulator: the same `decide`, its defaults.

`factory(config)` returns an object with `decide(now_s, observation) -> int`. The simulator's Python
need not have Serai installed: what Serai's code needs is taken from the environment that
`make setup` made, where the simulator's has not got it.
"""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = ROOT / ".venv" / "lib" / PYTHON / "site-packages"
NEEDED = "msgspec"

sys.path += [str(ROOT / part) for part in (".", "common", "scheduler")]
if importlib.util.find_spec(NEEDED) is None:
    sys.path.append(str(PACKAGES))  # behind all that the simulator's Python has itself
    if importlib.util.find_spec(NEEDED) is None:
        raise ImportError(
            f"Serai's decisions need the package {NEEDED}, which neither {sys.executable} has nor "
            f"{PACKAGES}: install it, or run `make setup` and take the Python of .venv's version"
        )

from bench.autoscale.outside import serai as factory  # noqa: E402  # found by the lines above

__all__ = ["factory"]
