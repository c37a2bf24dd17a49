"""What each command does; every function returns the exit status."""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from serai.clock import SystemClock
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.operator import (
    ApiDescription,
    ApiList,
    Done,
    Info,
    NodeList,
    NodeRequest,
    NodeWish,
    PlanAnswer,
    RenderedJob,
    ScaleRequest,
)
from serai_cli import screens, targets
from serai_cli.client import Client, api_path, node_path, plain
from serai_cli.exits import BAD_INPUT, DONE, FAILED
from serai_cli.forms import Form
from serai_cli.output import Redrawn, confirm, look, note, on_terminal, show, write

WATCH_PERIOD_S = 1.0


def _client(env: str) -> Client:
    return Client(targets.find(env))


def duration_s(option: str, text: str) -> float:
    """Return a duration in seconds; ConfigError with the option's name for what is none."""
    from serai.units import Duration

    try:
        return Duration.parse(text).seconds
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from error


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


def lock(path: Path, upgrade: bool, env: str) -> int:
    from serai_cli.deploying import write_locks

    written = write_locks(path, _client(env), upgrade)
    for place in written:
        write([f"wrote {place}; deploys use it while the requirements stay the same"])
    if not written:
        note(
            "no predictor here has a requirements file; with one (an empty one is enough) what the "
            "runtime needs is locked"
        )
    return DONE


def plan(path: Path, output: Form, env: str) -> int:
    from serai_cli.deploying import prepare

    client = _client(env)
    prepared = prepare(path, client, force=False)
    for remark in prepared.notes:
        note(f"note: {remark}")
    try:
        answer = client.post("/v1/plan", prepared.request, PlanAnswer)
    except Refused as refused:
        if refused.code != "updating":
            raise
        note(f"note: a deploy would be refused now: {refused}; the plan with --force:")
        forced = msgspec.structs.replace(prepared.request, force=True)
        answer = client.post("/v1/plan", forced, PlanAnswer)
    show(answer, screens.plan(answer, look()), output)
    return DONE


def deploy(path: Path, wait: bool | None, force: bool, output: Form, env: str) -> int:
    from serai_cli.deploying import prepare, send
    from serai_cli.waiting import Verdict, farewell, last_words, watch

    client = _client(env)
    prepared = prepare(path, client, force)
    for remark in prepared.notes:
        note(f"note: {remark}")
    client.post("/v1/plan", prepared.request, PlanAnswer)  # refused before anything is sent
    if sent_files := send(prepared, client):
        note(f"sent {sent_files} of {len(prepared.sources)} files")
    answer = client.post("/v1/deploy", prepared.request, PlanAnswer)
    show(answer, screens.plan(answer, look()), output)
    waits = on_terminal() if wait is None else wait
    if not waits:
        return DONE
    # Whoever asked for JSON gets nothing else on standard output.
    drawn = Redrawn() if output is Form.TABLE else Redrawn(sys.stderr)
    # What is up to date is waited for, too: somebody else's deploy of it may be under way.
    try:
        ends = watch(client, answer.apis, SystemClock(), drawn)
    except KeyboardInterrupt:
        note("the deploy goes on without you; `serai get -w` shows it")
        raise
    failed = [
        api for api, end in zip(answer.apis, ends, strict=True) if end.verdict is Verdict.FAILED
    ]
    for api in failed:
        for line in last_words(client, api):
            note(line)
    if not failed and output is Form.TABLE:
        write([line for api in answer.apis for line in farewell(client, api)])
    return FAILED if failed else DONE


def render(api: str, version: str, form: str, env: str) -> int:
    if form not in ("hcl", "json"):
        raise ConfigError(f"--format {form}: choose hcl or json")
    path = api_path(api, "/job", version=version)
    job = _client(env).get(path, RenderedJob)
    if form == "hcl" and job.why_no_hcl:
        raise ConfigError(f"{job.why_no_hcl}; use --format json and `nomad job run -json`")
    text = job.hcl if form == "hcl" else json.dumps({"Job": job.json}, indent=2)
    write([text.rstrip()])
    return DONE


def scale(api: str, replicas: int | None, auto: bool, env: str) -> int:
    if (replicas is None) != auto:
        raise ConfigError("say how many with --replicas, or --auto to let the policy decide")
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


def get(api: str, watch: bool, output: Form, env: str) -> int:
    client, clock = _client(env), SystemClock()

    def listed() -> tuple[object, list[str]]:
        if api:
            one = client.get(api_path(api), ApiDescription)
            return one, screens.one_api(one, clock.wall(), look())
        apis = client.get("/v1/apis", ApiList)
        return apis, screens.api_list(apis, clock.wall(), look())

    return watch_view(listed, watch, output)


def describe(api: str, watch: bool, output: Form, env: str) -> int:
    client, clock = _client(env), SystemClock()

    def described() -> tuple[object, list[str]]:
        one = client.get(api_path(api), ApiDescription)
        return one, screens.description(one, clock.wall(), look())

    return watch_view(described, watch, output)


def versions(api: str, output: Form, env: str) -> int:
    one = _client(env).get(api_path(api), ApiDescription)
    if output is Form.TABLE:
        write(screens.versions(one, SystemClock().wall(), look()))
    else:
        show({"versions": plain(one.versions)}, (), output)
    return DONE


def nodes(watch: bool, output: Form, env: str) -> int:
    client = _client(env)

    def listed() -> tuple[object, list[str]]:
        found = client.get("/v1/nodes", NodeList)
        return found, screens.nodes(found, look())

    return watch_view(listed, watch, output)


def order_node(node: str, wish: NodeWish, limit: str, env: str) -> int:
    limit_s = duration_s("--limit", limit) if limit else None
    request = NodeRequest(wish=wish, limit_s=limit_s)
    write([_client(env).post(node_path(node), request, Done).message])
    return DONE


def watch_view(view: Callable[[], tuple[object, Sequence[str]]], watch: bool, output: Form) -> int:
    """Show a view once, or draw it anew every second until interrupted."""
    if not watch:
        show(*view(), output)
        return DONE
    if output is not Form.TABLE:
        raise ConfigError("-w draws tables; leave out -o")
    drawn = Redrawn()
    lines = view()[1]
    drawn.draw(lines)
    while True:
        threading.Event().wait(WATCH_PERIOD_S)
        try:
            lines = view()[1]
        except Unavailable as error:  # whoever watches wants to see it come back
            drawn.draw([*lines, "", str(error)])
        else:
            drawn.draw(lines)


def logs(
    api: str,
    follow: bool,
    since: str,
    tail: int | None,
    grep: str,
    replicas: tuple[str, ...],
    version: str,
    output: Form,
    env: str,
) -> int:
    from serai_cli import following

    since_s = SystemClock().wall() - duration_s("--since", since) if since else None
    if output is Form.YAML:
        raise ConfigError("logs come as text or, with -o json, as one JSON object a line")
    client = _client(env)
    if replicas or version:
        described = client.get(api_path(api), ApiDescription)
        replicas, version = following.known(described, replicas, version)
    query = following.Query(api, tail, grep, replicas, version)
    stream = following.lines(client, query, follow, since_s)
    following.show(stream, as_json=output is Form.JSON, on_terminal=on_terminal())
    return DONE


def predict(api: str, body: str, headers: tuple[str, ...], path: str, method: str, env: str) -> int:
    from serai_cli.requesting import body_of, request

    data, content_type = body_of(body) if body else (None, "")
    client = _client(env)
    status = client.get(api_path(api), ApiDescription).status
    rest = path if not path or path.startswith(("/", "?")) else f"/{path}"
    verb = method.upper() or ("GET" if data is None else "POST")
    found = request(client.target, status.url + rest, data, content_type, headers, verb)
    if found >= 400:
        note(f"HTTP {found}")
        return FAILED
    return DONE


# About this program ------------------------------------------------------------------------------


def doctor() -> int:
    from serai_cli import doctor as examination

    failed = False
    for finding in examination.examine():
        write([f"{finding.verdict:<8} {finding.what:<11} {finding.told}"])
        failed = failed or finding.verdict == examination.FAIL
    return FAILED if failed else DONE


def version(env: str) -> int:
    from importlib.metadata import version as installed_version

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
    from serai_cli.completing import script

    write([script(shell)])
    return DONE
