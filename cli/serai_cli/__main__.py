"""`serai`: run a command and turn what went wrong into a message and an exit status."""

import os
import sys

import typer
from typer.main import get_command

from serai.errors import SeraiError
from serai_cli.exits import BAD_INPUT, INTERRUPTED, status_of
from serai_cli.main import app

USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""Typer raises it for wrong words on the command line; it has no public name of its own."""


def main() -> None:
    """Run the command line and exit."""
    try:
        status = get_command(app).main(standalone_mode=False, prog_name="serai")
    except USAGE_ERROR as error:
        _tell_usage(error)
        status = BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough; closing stdout again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except SeraiError as error:
        if os.environ.get("SERAI_DEBUG"):
            raise
        print(f"serai: {error}", file=sys.stderr)
        status = status_of(error)
    sys.exit(status if isinstance(status, int) else 0)


def _tell_usage(error: Exception) -> None:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "serai"
    if message.startswith("Usage:"):  # no words at all: the help is the best answer
        print(message, file=sys.stderr)
        return
    print(f"serai: {message} See `{command} --help`.".lstrip(), file=sys.stderr)


if __name__ == "__main__":
    main()
