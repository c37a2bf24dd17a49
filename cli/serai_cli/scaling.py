"""What the commands about the count of replicas do; every function returns the exit status."""

from datetime import datetime, timedelta

from serai.clock import SystemClock
from serai.decisions import DecisionList, Explanation
from serai.errors import ConfigError
from serai.operator import ApiList
from serai_cli import scaling_screens as screens
from serai_cli.client import Client, api_path
from serai_cli.commands import duration_s, watch_view
from serai_cli.exits import DONE
from serai_cli.forms import Form
from serai_cli.output import look, on_terminal, show
from serai_cli.targets import find


def explain(api: str, at: str, output: Form, env: str) -> int:
    moment = {"at": moment_of(at, datetime.now().astimezone())} if at else {}
    answer = Client(find(env)).get(api_path(api, "/explanation", **moment), Explanation)
    show(answer, screens.explanation(answer), output)
    return DONE


def decisions(api: str, since: str, most: int, output: Form, env: str) -> int:
    since_s = SystemClock().wall() - duration_s("--since", since)
    path = api_path(api, "/decisions", since=since_s, most=most)
    answer = Client(find(env)).get(path, DecisionList)
    show(answer, screens.decisions(answer, look()), output)
    return DONE


def top(once: bool, env: str) -> int:
    client = Client(find(env))

    def listed() -> tuple[object, list[str]]:
        apis = client.get("/v1/apis", ApiList)
        return apis, screens.top(apis, look())

    return watch_view(listed, on_terminal() and not once, Form.TABLE)


def moment_of(text: str, now: datetime) -> float:
    """Return a moment in seconds since 1970: a time before now, of today, or with its date.

    Raises ConfigError for what is none.
    """
    try:
        return (now - timedelta(seconds=duration_s("--at", text))).timestamp()
    except ConfigError:
        pass
    try:
        if "T" not in text and "-" not in text:
            text = f"{now:%Y-%m-%d}T{text}"
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--at {text}: say how long ago, such as 10m, or when, such as 18:30 or "
            f"{now:%Y-%m-%d}T18:30"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)).timestamp()
