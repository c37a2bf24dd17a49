"""A scheduler of a cluster in a process of its own, its replicas simulated: CONFIG."""

import sys

from serai_scheduler.program.main import main
from tests.support.schedulers import simulated

if __name__ == "__main__":
    sys.exit(main(["--config", sys.argv[1]], simulated()[1]))
