"""The commands of `serai image`: options here, the work in `serai_cli.images`."""

from pathlib import Path
from typing import Annotated

import typer

from serai_cli.options import api_names

app = typer.Typer(
    help="Images: build the one in which predictors run, export a version as one.",
    epilog="example: serai image export iris --tag iris:7",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Tag = Annotated[str, typer.Option("--tag", "-t", help="name and tag of the image")]
IMAGE = "serai-predictor:1"


@app.command("build", epilog="example: serai image build --python 3.12 --tag serai-predictor:3.12")
def build(
    tag: Tag = IMAGE,
    python: Annotated[str, typer.Option(help="version of its Python")] = "3.11",
    debootstrap: Annotated[
        bool, typer.Option("--debootstrap", help="from Debian's packages, without a registry")
    ] = False,
    base: Annotated[str, typer.Option(help="image to start from, Debian or alike")] = "",
    mirror: Annotated[str, typer.Option(help="of Debian, for --debootstrap")] = "",
) -> int:
    """Make the image in which predictors run: Python and system libraries."""
    from serai_cli.images.build import build as work

    return work(tag, python, debootstrap, base, mirror)


@app.command("export", epilog="example: serai image export iris --tag iris:7")
def export(
    api: Annotated[str, typer.Argument(metavar="API", autocompletion=api_names)],
    tag: Tag,
    version: Annotated[str, typer.Option(help="name of the version (the serving one)")] = "",
    base: Annotated[str, typer.Option(help="image of `serai image build`")] = IMAGE,
    cache_dir: Annotated[
        Path | None, typer.Option(help="where environments are built and kept")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="environment to talk to")] = "",
) -> int:
    """Make one image of a version: it serves on $PORT with plain docker."""
    from serai_cli.images.export import export as work

    return work(api, tag, version, base, cache_dir, env)
