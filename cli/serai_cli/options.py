"""The arguments and options that several commands take."""

from typing import Annotated

import typer

from serai_cli.forms import Form

Env = Annotated[str, typer.Option("--env", "-e", help="environment to talk to (see serai env)")]
Output = Annotated[Form, typer.Option("-o", "--output", help="table, json or yaml")]


def api_names(incomplete: str) -> list[str]:
    """Complete the name of an API; the scheduler is asked only then."""
    from serai_cli.completing import api_names as found

    return found(incomplete)


Api = Annotated[str, typer.Argument(metavar="API", autocompletion=api_names)]
