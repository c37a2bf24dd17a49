"""`serai-agent`: run the command line and turn what went wrong into one line and a status."""

import sys

from serai.errors import ConfigError, SeraiError

DONE, FAILED, BAD_CONFIG = 0, 1, 2


def main() -> None:
    """Run the command line and exit."""
    sys.exit(_run())


def _run() -> int:
    try:
        from serai_agent.program.command import run

        return run()
    except ConfigError as error:
        status, told = BAD_CONFIG, str(error)
    except SeraiError as error:
        status, told = FAILED, str(error)
    except ModuleNotFoundError as error:
        if (error.name or "serai").startswith("serai"):
            raise
        status, told = FAILED, f"{error.name} is not installed: pip install 'serai[agent,consul]'"
    print(f"serai-agent: {told}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
