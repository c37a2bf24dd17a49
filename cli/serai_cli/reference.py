"""The page about every command, made from the commands themselves."""

from typing import Any

from typer.main import get_command

from serai_cli.main import app

HEAD = """# The command line

Made from the commands by `python -m serai_cli.reference > docs/cli.md`; a test holds them against
each other.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | failed: a deploy that did not come to serve, an answer of 400 or above, a failed check |
| 2 | wrong input: usage, spec, files, settings |
| 3 | the scheduler cannot be reached |
| 4 | the scheduler refused: unknown API, update under way, bad token |
| 130 | interrupted |

Without a terminal the output is plain: no colours, no redrawing; `NO_COLOR` does the same for the
colours on one. `SERAI_URL`, `SERAI_TOKEN` and `SERAI_CA`, or `SERAI_ENV`, or `SERAI_DATA_DIR`
choose the scheduler; else the environment in use, else the one on this machine: that of the usual
data folder, or of the last `serai up --data-dir`. `SERAI_DEBUG=1` shows the trace of an error.
"""


def reference() -> str:
    """Return the page."""
    root: Any = get_command(app)
    parts = [HEAD]
    for name in root.commands:
        command = root.commands[name]
        inner = getattr(command, "commands", None)
        for words, one in (
            ((f"{name} {n}", c) for n, c in inner.items()) if inner else ((name, command),)
        ):
            parts.append(_section(words, one))
    return "\n".join(parts)


def _section(words: str, command: Any) -> str:
    shown = " ".join(_argument(p) for p in command.params if p.param_type_name == "argument")
    lines = [f"## serai {words}{' ' + shown if shown else ''}", "", command.help.strip(), ""]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if options:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| `{' '.join(p.opts + p.secondary_opts)}` | {p.help or ''} |" for p in options]
        lines.append("")
    if command.epilog:
        lines += [f"    {command.epilog.removeprefix('example: ')}", ""]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name: str = parameter.metavar or parameter.name.upper()
    return name


if __name__ == "__main__":
    print(reference(), end="")
