"""The commands of `serai`: options here, the work in modules that are imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from serai_cli.forms import Form
from serai_cli.image_app import app as images
from serai_cli.options import Api, Env, Output, api_names
from serai_cli.scaling_app import app as scaling

app = typer.Typer(
    name="serai",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


FileOrFolder = Annotated[Path, typer.Argument(metavar="[FILE|DIR]")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="do not ask")]
Watch = Annotated[bool, typer.Option("-w", "--watch", help="draw anew every second")]
DataDir = Annotated[Path | None, typer.Option(help="where everything is kept")]


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        print(f"serai {installed('serai')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="show the version"),
    ] = False,
) -> None:
    """Serve machine-learning models as HTTP APIs on machines that you own."""


@app.command(epilog="example: serai up --port 8080")
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the gateway")] = 8080,
    control_port: Annotated[
        int, typer.Option(min=1, max=65535, help="port of the operator API")
    ] = 7070,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="listen beyond this machine, though there is no TLS"),
    ] = False,
    data_dir: DataDir = None,
    allow_mount: Annotated[
        list[Path] | None,
        typer.Option(help="folder that `mounts` of a spec may show to replicas; may be repeated"),
    ] = None,
    policies: Annotated[
        Path | None,
        typer.Option(help="folder with the modules of policies of your own"),
    ] = None,
    prometheus: Annotated[
        str, typer.Option(help="URL of the Prometheus that metrics of APIs are asked of")
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", help="serve in the background")] = False,
) -> int:
    """Start Serai on this machine, with HAProxy and the replicas."""
    from serai_cli.embedded import Allowed, run_up

    roots = tuple(str(folder.absolute()) for folder in allow_mount or ())
    folder = str(policies.absolute()) if policies is not None else ""
    allowed = Allowed(roots, folder, prometheus)
    return run_up(port, control_port, host, insecure, data_dir, allowed, detach)


@app.command(epilog="example: serai down")
def down(data_dir: DataDir = None) -> int:
    """End the Serai of this machine; requests in flight finish."""
    from serai_cli.embedded import run_down

    return run_down(data_dir)


@app.command(epilog="example: serai deploy examples/iris")
def deploy(
    path: FileOrFolder = Path(),
    wait: Annotated[
        bool | None, typer.Option("--wait/--detach", help="watch it to its end (on a terminal)")
    ] = None,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="for scripts; a deploy never asks")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an update under way")] = False,
    output: Output = Form.TABLE,
    env: Env = "",
) -> int:
    """Deploy the APIs of a folder or spec file."""
    from serai_cli import commands

    return commands.deploy(path, wait, force, output, env)


@app.command(epilog="example: serai validate serai.yaml")
def validate(path: FileOrFolder = Path()) -> int:
    """Check a spec file, without a scheduler: all problems at once."""
    from serai_cli import commands

    return commands.validate(path)


@app.command(epilog="example: serai lock examples/iris")
def lock(
    path: FileOrFolder = Path(),
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="take the newest versions that fit")
    ] = False,
    env: Env = "",
) -> int:
    """Write serai.lock: a deploy then needs no package index."""
    from serai_cli import commands

    return commands.lock(path, upgrade, env)


@app.command(epilog="example: serai plan examples/iris")
def plan(path: FileOrFolder = Path(), output: Output = Form.TABLE, env: Env = "") -> int:
    """Show what a deploy would change, and what that costs."""
    from serai_cli import commands

    return commands.plan(path, output, env)


@app.command(epilog="example: serai get -w")
def get(
    api: Annotated[str, typer.Argument(metavar="[API]", autocompletion=api_names)] = "",
    watch: Watch = False,
    output: Output = Form.TABLE,
    env: Env = "",
) -> int:
    """List the APIs, or show one with how to call it."""
    from serai_cli import commands

    return commands.get(api, watch, output, env)


@app.command(epilog="example: serai describe iris")
def describe(api: Api, watch: Watch = False, output: Output = Form.TABLE, env: Env = "") -> int:
    """Show everything about one API: replicas, versions, traffic."""
    from serai_cli import commands

    return commands.describe(api, watch, output, env)


@app.command(epilog="example: serai logs iris -f --since 10m --grep error")
def logs(
    api: Api,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on as lines come")] = False,
    since: Annotated[str, typer.Option(help="how far back: 10m, 2h")] = "",
    tail: Annotated[int | None, typer.Option(min=0, help="only the last N lines")] = None,
    grep: Annotated[str, typer.Option(help="only lines that contain this")] = "",
    replica: Annotated[list[str] | None, typer.Option(help="only of this replica")] = None,
    version: Annotated[str, typer.Option(help="only of this version")] = "",
    output: Output = Form.TABLE,
    env: Env = "",
) -> int:
    """Show what the replicas wrote, merged in time order."""
    from serai_cli import commands

    return commands.logs(api, follow, since, tail, grep, tuple(replica or ()), version, output, env)


@app.command(epilog="""example: serai predict iris '{"sepal_length": 5.1}'""")
def predict(
    api: Api,
    body: Annotated[str, typer.Argument(metavar="[JSON|@FILE|-]")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="NAME:VALUE")] = None,
    path: Annotated[str, typer.Option(help="rest of the path, after the endpoint")] = "",
    method: Annotated[str, typer.Option(help="POST with a body, else GET")] = "",
    env: Env = "",
) -> int:
    """Send a request to an API and print the answer."""
    from serai_cli import commands

    return commands.predict(api, body, tuple(header or ()), path, method, env)


@app.command(epilog="example: serai scale iris --replicas 3")
def scale(
    api: Api,
    replicas: Annotated[int | None, typer.Option(min=0, help="how many, from now on")] = None,
    auto: Annotated[bool, typer.Option("--auto", help="let the policy decide again")] = False,
    env: Env = "",
) -> int:
    """Set how many replicas an API has, or let its policy decide."""
    from serai_cli import commands

    return commands.scale(api, replicas, auto, env)


app.registered_commands += scaling.registered_commands


@app.command(epilog="example: serai delete iris")
def delete(api: Api, yes: Yes = False, env: Env = "") -> int:
    """Delete an API; requests in flight finish."""
    from serai_cli import commands

    return commands.delete(api, yes, env)


@app.command(epilog="example: serai refresh iris")
def refresh(api: Api, env: Env = "") -> int:
    """Replace every replica by a new one of the same content."""
    from serai_cli import commands

    return commands.refresh(api, env)


@app.command(epilog="example: serai render iris > iris.nomad.hcl")
def render(
    api: Api,
    version: Annotated[str, typer.Option(help="not the version that serves, but this one")] = "",
    form: Annotated[str, typer.Option("--format", metavar="hcl|json", help="hcl or json")] = "hcl",
    env: Env = "",
) -> int:
    """Print the Nomad job of an API as it runs, or would be started, for `nomad job run`."""
    from serai_cli import commands

    return commands.render(api, version, form, env)


@app.command(epilog="example: serai versions iris")
def versions(api: Api, output: Output = Form.TABLE, env: Env = "") -> int:
    """List the versions of an API, newest first."""
    from serai_cli import commands

    return commands.versions(api, output, env)


@app.command(epilog="example: serai nodes -w")
def nodes(watch: Watch = False, output: Output = Form.TABLE, env: Env = "") -> int:
    """List the nodes with what they have free."""
    from serai_cli import commands

    return commands.nodes(watch, output, env)


@app.command(epilog="example: serai doctor")
def doctor() -> int:
    """Check this machine and the cluster; say what to do about what is missing."""
    from serai_cli import commands

    return commands.doctor()


@app.command(epilog="example: serai version")
def version(env: Env = "") -> int:
    """Print the versions of this CLI and of the scheduler."""
    from serai_cli import commands

    return commands.version(env)


@app.command(epilog="example: serai completion bash > /etc/bash_completion.d/serai")
def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish")]) -> int:
    """Print a completion script for a shell."""
    from serai_cli import commands

    return commands.completion(shell)


@app.command(epilog="example: serai schema > serai.schema.json")
def schema() -> int:
    """Print the JSON Schema of serai.yaml, for editors."""
    from serai_cli import commands

    return commands.schema()


machines = typer.Typer(
    help="Close, empty or open a node: cordon, drain, uncordon.",
    epilog="example: serai node drain gpu-3",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(machines, name="node")


@machines.command("cordon", epilog="example: serai node cordon gpu-3")
def node_cordon(name: str, env: Env = "") -> int:
    """Let a node take no new replicas; those that it has stay."""
    from serai.operator import NodeWish
    from serai_cli import commands

    return commands.order_node(name, NodeWish.CORDON, "", env)


@machines.command("drain", epilog="example: serai node drain gpu-3")
def node_drain(
    name: str,
    limit: Annotated[
        str, typer.Option(help="go without replacements after this long: 10m, 2h")
    ] = "",
    env: Env = "",
) -> int:
    """Empty a node: replicas start elsewhere, take the traffic, and those here finish."""
    from serai.operator import NodeWish
    from serai_cli import commands

    return commands.order_node(name, NodeWish.DRAIN, limit, env)


@machines.command("uncordon", epilog="example: serai node uncordon gpu-3")
def node_uncordon(name: str, env: Env = "") -> int:
    """Let a node take replicas again, and call off its drain."""
    from serai.operator import NodeWish
    from serai_cli import commands

    return commands.order_node(name, NodeWish.OPEN, "", env)


environments = typer.Typer(
    help="Named schedulers: list, set, use, delete, show.",
    epilog="example: serai env use lab",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(environments, name="env")
app.add_typer(images, name="image")


@environments.command("list", epilog="example: serai env list")
def env_list() -> int:
    """List the environments; the one in use is marked."""
    from serai_cli import environments as kept

    return kept.show_all()


@environments.command("set", epilog="example: serai env set lab --url https://serai.lab:7070")
def env_set(
    name: str,
    url: Annotated[str, typer.Option(help="URL of the operator API")] = "",
    token_file: Annotated[Path | None, typer.Option(help="file with the token")] = None,
    ca: Annotated[Path | None, typer.Option(help="file with certificates to trust")] = None,
) -> int:
    """Add or change an environment; a token is read from a file, or from the terminal."""
    from serai_cli import environments as kept

    return kept.set_one(name, url, token_file, ca)


@environments.command("use", epilog="example: serai env use lab")
def env_use(name: str) -> int:
    """Choose the environment that commands talk to; `local` is this machine."""
    from serai_cli import environments as kept

    return kept.use(name)


@environments.command("delete", epilog="example: serai env delete lab")
def env_delete(name: str) -> int:
    """Forget an environment."""
    from serai_cli import environments as kept

    return kept.delete(name)


@environments.command("show", epilog="example: serai env show")
def env_show(name: Annotated[str, typer.Argument(metavar="[NAME]")] = "") -> int:
    """Show where commands go; the token is not printed."""
    from serai_cli import environments as kept

    return kept.show(name)
