"""`serai-runtime predictor.py --port 9000`: read the options and supervise."""

import sys

from serai_runtime.arguments import parse
from serai_runtime.supervisor import Supervisor


def main() -> None:
    """Serve until told to stop."""
    sys.exit(Supervisor(parse(sys.argv[1:])).run())


if __name__ == "__main__":
    main()
