"""The autoscaler of Serai as a policy of an outside simulator: the same `decide`, its defaults.

`factory(config)` returns an object with `decide(now_s, observation) -> int`. The simulator's Python
need not have Serai installed.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / part) for part in (".", "common", "scheduler")]

from bench.autoscale.outside import serai as factory  # noqa: E402  # found by the line above

__all__ = ["factory"]
