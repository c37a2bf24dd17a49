"""What each command does; every function returns the exit status."""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from serai.clock import SystemClock
from serai.errors import ConfigError, SeraiError
from serai.operator import (
    ApiDescription,
    ApiList,
    Done,
    Info,
    NodeList,
    PlanAnswer,
    ScaleRequest,
)
from serai_cli import screens, targets
from serai_cli.client import Client, api_path, plain
from serai_cli.exits import BAD_INPUT, DONE, FAILED
from serai_cli.output import Redrawn, confirm, note, on_terminal, show, width, write

WATCH_PERIOD_S = 1.0


def _client(env: str) -> Client:
    return Client(targets.find(env))


def _pause(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)


# Deploying ---------------------------------------------------------------------------------------


def validate(path: Path) -> int:
    from serai.spec import SpecError, find_file, load_file

    file = find_file(path)
    try:
        loaded = load_file(file)
    except SpecError as error:
        for problem in error.problems:
            note(str(problem))
        count = len(error.problems)
        note(f"{count} problem{'s' if count > 1 else ''}")
        return BAD_INPUT
    for remark in loaded.notes:
        note(f"note: {remark}")
    names = ", ".join(api.name for api in loaded.apis)
    write([f"{file}: {names}: valid"])
    return DONE


def plan(path: Path, output: str, env: str) -> int:
    from serai_cli.deploying import prepare

    client = _client(env)
    prepared = prepare(path, client, force=True)
    for remark in prepared.notes:
        note(f"note: {remark}")
    answer = client.post("/v1/plan", prepared.request, PlanAnswer)
    show(answer, screens.plan(answer, width()), output)
    return DONE


def deploy(path: Path, wait: bool | None, force: bool, output: str, env: str) -> int:
    from serai_cli.deploying import prepare, send
    from serai_cli.waiting import Verdict, farewell, last_words, watch

    client = _client(env)
    prepared = prepare(path, client, force)
    for remark in prepared.notes:
        note(f"note: {remark}")
    client.post("/v1/plan", prepared.request, PlanAnswer)  # refused before anything is sent
    sent = send(prepared, client)
    if sent.sent_files:
        note(f"sent {sent.sent_files} of {len(prepared.sources)} files")
    answer = client.post("/v1/deploy", prepared.request, PlanAnswer)
    if output != "table":
        show(answer, (), output)
    else:
        write(screens.plan(answer, width()))
    waits = on_terminal() if wait is None else wait
    changed = tuple(api for api in answer.apis if api.action != "up to date")
    if not waits or not changed:
        return DONE
    ends = watch(client, changed, SystemClock())
    for api, end in zip(changed, ends, strict=True):
        if end.verdict is Verdict.FAILED:
            for line in last_words(client, api):
                note(line)
            return FAILED
    if output == "table":
        write(farewell(client, changed[0]))
    return DONE


def scale(api: str, replicas: int, env: str) -> int:
    order = ScaleRequest(replicas=replicas)
    write([_client(env).post(api_path(api, "/scale"), order, Done).message])
    return DONE


def delete(api: str, yes: bool, env: str) -> int:
    client = _client(env)
    status = client.get(api_path(api), ApiDescription).status
    confirm(f"Delete {api} (replicas that serve it: {status.ready})?", yes)
    write([client.delete(api_path(api), Done).message])
    return DONE


def refresh(api: str, env: str) -> int:
    write([_client(env).post(api_path(api, "/refresh"), None, Done).message])
    return DONE


# Looking -----------------------------------------------------------------------------------------


def get(api: str, watch: bool, output: str, env: str) -> int:
    client, clock = _client(env), SystemClock()

    def listed() -> tuple[object, list[str]]:
        if api:
            one = client.get(api_path(api), ApiDescription)
            return one, screens.one_api(one, clock.wall(), width())
        apis = client.get("/v1/apis", ApiList)
        return apis, screens.api_list(apis, clock.wall(), width())

    return _show(listed, watch, output)


def describe(api: str, watch: bool, output: str, env: str) -> int:
    client, clock = _client(env), SystemClock()

    def described() -> tuple[object, list[str]]:
        one = client.get(api_path(api), ApiDescription)
        return one, screens.description(one, clock.wall(), width())

    return _show(described, watch, output)


def versions(api: str, output: str, env: str) -> int:
    one = _client(env).get(api_path(api), ApiDescription)
    if output == "table":
        write(screens.versions(one, SystemClock().wall(), width()))
    else:
        show({"versions": plain(one.versions)}, (), output)
    return DONE


def nodes(watch: bool, output: str, env: str) -> int:
    client = _client(env)

    def listed() -> tuple[object, list[str]]:
        found = client.get("/v1/nodes", NodeList)
        return found, screens.nodes(found, width())

    return _show(listed, watch, output)


def _show(look: Callable[[], tuple[object, Sequence[str]]], watch: bool, output: str) -> int:
    if not watch:
        show(*look(), output)
        return DONE
    if output != "table":
        raise ConfigError("-w draws tables; leave out -o")
    drawn = Redrawn()
    while True:
        drawn.draw(look()[1])
        _pause(WATCH_PERIOD_S)


def logs(
    api: str,
    follow: bool,
    since: str,
    tail: int | None,
    grep: str,
    replicas: tuple[str, ...],
    version: str,
    output: str,
    env: str,
) -> int:
    from serai.units import Duration
    from serai_cli import following

    try:
        since_s = SystemClock().wall() - Duration.parse(since).seconds if since else None
    except ValueError as error:
        raise ConfigError(f"--since {since}: {error}") from error
    stream = following.lines(_client(env), api, follow, since_s, tail, grep, replicas, version)
    following.show(stream, plain=output == "json")
    return DONE


def predict(api: str, body: str, headers: tuple[str, ...], path: str, method: str, env: str) -> int:
    from serai_cli.requesting import body_of, request

    data, content_type = body_of(body) if body else (None, "")
    status = _client(env).get(api_path(api), ApiDescription).status
    rest = path if not path or path.startswith(("/", "?")) else f"/{path}"
    verb = method.upper() or ("GET" if data is None else "POST")
    found = request(status.url + rest, data, content_type, headers, verb)
    if found >= 400:
        note(f"HTTP {found}")
        return FAILED
    return DONE


# About this program ------------------------------------------------------------------------------


def doctor() -> int:
    from serai_cli import doctor as examination

    failed = False
    for finding in examination.examine():
        write([f"{finding.verdict:<5} {finding.what:<10} {finding.told}"])
        failed = failed or finding.verdict == examination.FAIL
    return FAILED if failed else DONE


def version(env: str) -> int:
    mine = installed_version("serai")
    write([f"serai      {mine}"])
    try:
        theirs = _client(env).get("/v1/info", Info).serai_version
    except SeraiError as error:
        note(f"scheduler  unknown: {error}")
        return DONE
    write([f"scheduler  {theirs}"])
    if theirs != mine:
        note("they differ: install the same release on both sides")
    return DONE


def schema() -> int:
    from serai.spec import schema as made

    write([json.dumps(made(), indent=2)])
    return DONE


def completion(shell: str) -> int:
    from typer._completion_shared import get_completion_script

    if shell not in ("bash", "zsh", "fish"):
        raise ConfigError(f"no completion for {shell!r}; there is bash, zsh and fish")
    script = get_completion_script(prog_name="serai", complete_var="_SERAI_COMPLETE", shell=shell)
    write([script])
    return DONE
