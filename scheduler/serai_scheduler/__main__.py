"""`serai-scheduler`, also as `python -m serai_scheduler`."""

import logging
import os
import sys
from typing import NoReturn


def main() -> int:
    """Run the program and end the process; say what to install when a part of it is missing."""
    try:
        from serai_scheduler.program.main import main as run
    except ModuleNotFoundError as error:
        print(
            f"serai-scheduler: {error.name} is missing; "
            "pip install 'serai[scheduler,consul,nomad]'",
            file=sys.stderr,
        )
        return 1
    _end(run())


def _end(status: int) -> NoReturn:
    """End at once: threads that still wait for Nomad would keep the process for half a minute."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
