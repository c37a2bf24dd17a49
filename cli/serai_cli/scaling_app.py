"""The commands about the count of replicas: options here, the work in `serai_cli.scaling`."""

from typing import Annotated

import typer

from serai_cli.forms import Form
from serai_cli.options import Api, Env, Output

app = typer.Typer()


@app.command(epilog="example: serai explain iris --at 10m")
def explain(
    api: Api,
    at: Annotated[str, typer.Option(help="then: 10m ago, 18:30 or 2026-11-27T18:30")] = "",
    output: Output = Form.TABLE,
    env: Env = "",
) -> int:
    """Say why an API has as many replicas as it has."""
    from serai_cli import scaling

    return scaling.explain(api, at, output, env)


@app.command(epilog="example: serai decisions iris --since 2h")
def decisions(
    api: Api,
    since: Annotated[str, typer.Option(help="how far back: 10m, 2h")] = "1h",
    most: Annotated[int, typer.Option("-n", min=1, max=1000, help="the last N")] = 50,
    output: Output = Form.TABLE,
    env: Env = "",
) -> int:
    """List what was decided about the replicas of an API."""
    from serai_cli import scaling

    return scaling.decisions(api, since, most, output, env)


@app.command(epilog="example: serai replay iris --policy kpa --since 6h")
def replay(
    api: Api,
    policy: Annotated[
        list[str] | None, typer.Option(help="serai, cortex, kpa, hpa or fixed; may be repeated")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value of `autoscaling`, such as down.delay=5m, or key= without; repeatable",
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="how far back: 10m, 2h; up to 7d")] = "24h",
    output: Output = Form.TABLE,
    env: Env = "",
) -> int:
    """Simulate recorded traffic of an API under other policies or settings, and compare."""
    from serai_cli import replaying

    return replaying.replay(api, policy or [], set_ or [], since, output, env)


@app.command(epilog="example: serai top")
def top(
    once: Annotated[bool, typer.Option("--once", help="draw once, without a terminal too")] = False,
    env: Env = "",
) -> int:
    """Show demand, replicas, queue and latency of each API, live."""
    from serai_cli import scaling

    return scaling.top(once, env)


@app.command(epilog="example: serai wake iris")
def wake(api: Api, env: Env = "") -> int:
    """Wake a sleeping API and show how its first replica comes."""
    from serai_cli import waking
    from serai_cli.client import Client
    from serai_cli.targets import find

    return waking.wake(Client(find(env)), api)
