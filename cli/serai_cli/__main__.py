"""`serai`: run a command and turn what went wrong into a message and an exit status."""

import os
import sys
from types import TracebackType

from serai.errors import SeraiError
from serai_cli.exits import BAD_INPUT, FAILED, INTERRUPTED, status_of


def main() -> None:
    """Run the command line and exit."""
    _prepare_streams()
    if os.environ.get("SERAI_DEBUG"):
        sys.exit(_run())
    sys.excepthook = _tell_fault
    sys.exit(_run_and_tell())


def _run_and_tell() -> int:
    """Return the exit status, and tell in a line what went wrong."""
    try:
        return _run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()  # whoever read has seen enough
        return 0
    except SeraiError as error:
        print(f"serai: {error}", file=sys.stderr)
        return status_of(error)
    except ModuleNotFoundError as error:
        if (error.name or "serai").startswith("serai"):
            raise
        print(f"serai: {error.name} is not installed: {_install()}", file=sys.stderr)
        return FAILED
    except OSError as error:
        _close_stdout()
        where = f"{error.filename}: " if error.filename else ""
        print(f"serai: {where}{error.strerror or error}", file=sys.stderr)
        return FAILED


def _run() -> int:
    import typer
    from typer.main import get_command

    from serai_cli.main import app

    if "_SERAI_COMPLETE" in os.environ:
        from serai_cli.completing import prepare

        prepare()
    # Typer raises it for wrong words on the command line; it has no public name of its own.
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        status = get_command(app).main(standalone_mode=False, prog_name="serai")
    except usage_error as error:
        _tell_usage(error)
        return BAD_INPUT
    except typer.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _install() -> str:
    """Return how to install what the command needs; the parts of Serai are installed apart."""
    part = "up" if {"up", "down", "image"} & set(sys.argv[1:2]) else "cli"
    return f"this command needs more of Serai; pip install 'serai[{part}]'"


def _prepare_streams() -> None:
    """Make sure that writing works: with streams closed by the caller, in any encoding."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # it stays open to the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def _close_stdout() -> None:
    """Let what is still buffered go nowhere, so that the end of the process does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_fault(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    print(
        f"serai: this is a fault of serai itself ({kind.__name__}: {error}); "
        "run it again with SERAI_DEBUG=1 and report what it prints",
        file=sys.stderr,
    )


def _tell_usage(error: Exception) -> None:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "serai"
    if message.startswith("Usage:"):  # no words at all: the help is the best answer
        print(message, file=sys.stderr)
        return
    end = "" if message.endswith((".", "?")) else "."
    print(f"serai: {message.strip()}{end} See `{command} --help`.", file=sys.stderr)


if __name__ == "__main__":
    main()
