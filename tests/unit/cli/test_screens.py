"""What the commands show, from types to lines."""

import msgspec
import pytest

from serai.errors import ConfigError
from serai.model import ApiState, Exit, ReplicaState, Version, VersionContent
from serai.operator import (
    ApiDescription,
    ApiList,
    ApiPlan,
    ApiStatus,
    Change,
    NodeList,
    NodeStatus,
    NodeWish,
    PlanAnswer,
    ReplicaStatus,
    StartProgress,
    Traffic,
    VersionStatus,
)
from serai.spec.types import ApiSpec, Compute, Pod, Readiness
from serai_cli.following import known
from serai_cli.loglines import readable
from serai_cli.scaling_screens import top
from serai_cli.screens import NO_APIS, api_list, description, nodes, one_api, plan, progress_of
from serai_cli.tables import Look
from serai_cli.waiting import Verdict, standing, without_seconds
from tests.support.scheduling import NOW_S, replica, report

STATUS = ApiStatus(
    name="iris",
    kind="RealtimeAPI",
    state=ApiState.LIVE,
    reason="all replicas are ready",
    endpoint="/iris",
    url="http://127.0.0.1:8080/iris",
    version="v1-abc",
    candidate="",
    ready=2,
    wanted=2,
    traffic=Traffic(requests_per_s=12.34, responses_2xx=100, p50_ms=3.21, p99_ms=45.6),
    updated_at_s=NOW_S - 90,
)
CONTENT = VersionContent(
    predictor=None,
    pod=Pod(command=("serve",)),
    bundle="",
    lock="",
    runtime="",
    python="",
    compute=Compute(),
    env={},
    concurrency_per_replica=1,
    readiness=Readiness(),
    mounts=(),
)


def described(status: ApiStatus = STATUS) -> ApiDescription:
    version = Version(api="iris", number=1, digest="abc", content=CONTENT, created_at_s=NOW_S - 60)
    failed = replica("v1-abc", 2, ReplicaState.FAILED, reason="no memory", ended_at_s=NOW_S - 5)
    return ApiDescription(
        status=status,
        spec=ApiSpec(name="iris", endpoint="/iris", pod=CONTENT.pod),
        replicas=(
            ReplicaStatus(replica=replica("v1-abc"), cpu_cores=0.5, memory_bytes=2**28),
            ReplicaStatus(replica=failed),
        ),
        versions=(VersionStatus(version=version, role="serving", ready=2, traffic=Traffic()),),
    )


def test_the_list_leaves_out_errors_nobody_had_and_fits_80_columns() -> None:
    header, row = api_list(ApiList(apis=(STATUS,)), NOW_S, Look(width=100))
    assert header.split() == [
        "api", "status", "endpoint", "ready", "version", "req/s", "2xx", "p50", "p99", "updated",
    ]  # fmt: skip
    assert row.split() == [
        "iris", "live", "/iris", "2/2", "v1-abc", "12", "100", "3.2ms", "46ms", "1m",
    ]  # fmt: skip
    assert all(len(line) <= 80 for line in api_list(ApiList(apis=(STATUS,)), NOW_S, Look(width=80)))


def test_what_is_not_well_is_explained_below_the_list() -> None:
    sick = msgspec.structs.replace(STATUS, state=ApiState.DEGRADED, reason="1 of 2 replicas ready")
    assert api_list(ApiList(apis=(sick,)), NOW_S)[-1] == "iris: 1 of 2 replicas ready"


def test_a_damaged_api_has_no_age() -> None:
    damaged = msgspec.structs.replace(STATUS, updated_at_s=0.0)
    assert api_list(ApiList(apis=(damaged,)), NOW_S)[1].split()[-1] == "-"


def test_an_empty_list_says_what_to_do() -> None:
    assert api_list(ApiList(apis=()), NOW_S) == [NO_APIS]


def test_one_api_shows_how_to_call_it_and_why_an_update_failed() -> None:
    failed = msgspec.structs.replace(STATUS, last_error="no module x", failed_version="v2-def")
    text = "\n".join(one_api(described(failed), NOW_S))
    assert "curl http://127.0.0.1:8080/iris" in text
    assert "v2-def failed: no module x" in text


def test_refusals_and_the_mean_are_shown_where_there_are_any() -> None:
    quiet = msgspec.structs.replace(STATUS, traffic=Traffic(refused_per_s=0.0))
    assert "refused" not in "\n".join(top(ApiList(apis=(quiet,))))
    refuses = Traffic(refused=480, refused_per_s=4.02, mean_ms=31.7)
    busy = msgspec.structs.replace(STATUS, traffic=refuses)
    header, row = top(ApiList(apis=(busy,)))
    assert "refused/s" in header and "4.0" in row.split()
    told = "\n".join(description(described(busy), NOW_S))
    assert "; 32ms on average; 480 refused so far" in told
    assert "refused" not in "\n".join(description(described(), NOW_S))


def test_a_description_shows_replicas_and_versions() -> None:
    text = "\n".join(description(described(), NOW_S))
    assert "256Mi" in text and "0.50" in text and "no memory" in text and "serving" in text


@pytest.mark.parametrize(
    ("took_s", "left_s", "text"),
    [
        ({"placed": 0.4}, 30.0, "waits for a place for 0s; about 30s to go"),
        (
            {"placed": 0.0, "environment": 12.3, "process": 0.2, "loaded": 65.0},
            20.0,
            "environment 12s, loads for 1m; about 20s to go",
        ),
        ({"placed": 2.0, "environment": 900.0}, None,
         "placed 2s, gets its environment and bundle for 15m; longer than usual"),
        ({"placed": 0.0, "environment": 0.0, "process": 0.0, "loaded": 9.0}, 0.0, "loads for 9s"),
    ],
)  # fmt: skip
def test_a_start_tells_what_it_took_and_what_is_left(
    took_s: dict[str, float], left_s: float | None, text: str
) -> None:
    start = StartProgress(took_s=took_s, left_s=left_s)
    assert progress_of(start) == text
    one = ReplicaStatus(replica=replica("v1-abc", 1, ReplicaState.LOADING), start=start)
    told = msgspec.structs.replace(described(), replicas=(one,))
    assert text in "\n".join(description(told, NOW_S))


def test_a_plan_names_the_price_of_each_change() -> None:
    changes = (
        Change(path="env.A", before="1", after="2", restarts=True),
        Change(path="endpoint", before="/a", after="/b", restarts=False),
    )
    answer = PlanAnswer(
        apis=(
            ApiPlan(
                api="iris",
                action="new version",
                version="v2",
                explanation="starts 1 replica",
                changes=changes,
                notes=("nodes: has no effect here",),
            ),
        )
    )
    lines = plan(answer)
    assert lines[0] == "iris: new version (v2): starts 1 replica"
    assert lines[2].split() == ["env.A", "1", "→", "2", "new", "replicas"]
    assert lines[3].split() == ["endpoint", "/a", "→", "/b", "no", "restart"]
    assert lines[4:] == ["  note: nodes: has no effect here"]


def test_a_deploy_stands_as_the_scheduler_says() -> None:
    mine = ApiPlan(api="iris", action="new version", version="v2-def", explanation="")

    def verdict(**changes: object) -> Verdict:
        return standing(mine, described(msgspec.structs.replace(STATUS, **changes))).verdict

    assert verdict(candidate="v2-def") is Verdict.RUNNING
    assert verdict(version="v2-def") is Verdict.SERVES
    assert verdict(version="v2-def", ready=0, state=ApiState.ERROR) is Verdict.FAILED
    assert verdict(version="v2-def", ready=0, state=ApiState.DEGRADED) is Verdict.RUNNING
    assert verdict(version="v2-def", ready=0, wanted=0, state=ApiState.IDLE) is Verdict.SERVES
    assert verdict(failed_version="v2-def", last_error="x") is Verdict.FAILED
    assert verdict(candidate="v3-ghi") is Verdict.FAILED
    assert verdict(version="v3-ghi") is Verdict.FAILED, "overtaken, and that update has ended"


def test_a_version_serves_once_the_gateways_have_taken_it() -> None:
    mine = ApiPlan(api="iris", action="new version", version="v2-def", explanation="")
    waits = "waiting for gateway one to take the route (last heard 20 s ago)"
    status = msgspec.structs.replace(STATUS, version="v2-def", waits_for=waits)
    stands = standing(mine, described(status))
    assert stands.verdict is Verdict.RUNNING
    assert stands.line == f"iris: v2-def is ready; {waits}"
    assert without_seconds(stands.line).endswith("gateway one to take the route")
    late = standing(mine, described(status), gateways_late=True)
    assert late.verdict is Verdict.FAILED and waits in late.line


def test_seconds_that_pass_are_no_news_without_a_terminal() -> None:
    line = "iris: v1: 0 of 2 replicas ready, 2 pending (building the environment, 12 s so far)"
    assert without_seconds(line).endswith("2 pending (building the environment)")
    blind = "nothing is started or stopped: Nomad has not answered for 7 s: it is away"
    assert without_seconds(blind).endswith("has not answered: it is away")
    assert without_seconds("iris: 1 of 2 replicas ready") == "iris: 1 of 2 replicas ready"


def test_states_are_coloured_and_faults_stand_out() -> None:
    faulty = msgspec.structs.replace(STATUS, traffic=Traffic(responses_5xx=3))
    text = "\n".join(api_list(ApiList(apis=(faulty,)), NOW_S, Look(colour=True)))
    assert "\x1b[32mlive" in text and "\x1b[31m" in text
    assert "\x1b" not in "\n".join(api_list(ApiList(apis=(faulty,)), NOW_S))


def test_what_a_replica_says_cannot_move_the_cursor() -> None:
    sly = msgspec.structs.replace(STATUS, state=ApiState.ERROR, reason="a\x1b[2Jb\nc")
    assert api_list(ApiList(apis=(sly,)), NOW_S)[-1] == "iris: a?[2Jb c"


def test_events_of_the_runtime_are_shown_as_text_with_their_trace() -> None:
    event = {"at": "x", "level": "error", "event": "predict failed", "request_id": "r1"}
    line = msgspec.json.encode({**event, "trace": "Traceback:\n  line 1\n"}).decode()
    assert readable(line) == [
        "error: predict failed request_id=r1",
        "  Traceback:",
        "    line 1",
    ]
    for other in ("plain text", "{not json", '{"a": 1}', "[1]"):
        assert readable(other) == [other]


def test_logs_take_replicas_and_versions_as_they_are_shown() -> None:
    one = described()
    full = one.replicas[0].replica.id
    shown = full.removeprefix("iris.")
    assert known(one, (shown, full), "v1") == ((full, full), "v1-abc")
    assert known(one, (), "v1-abc") == ((), "v1-abc")
    for replicas, version in ((("v9",), ""), ((), "v2"), ((), "v1-x")):
        with pytest.raises(ConfigError, match=r"iris has no (replica|version) .*; it has .*v1-abc"):
            known(one, replicas, version)


def test_the_end_of_a_replica_is_told_once() -> None:
    told = described()
    ended = replica("v1-abc", 2, ReplicaState.FAILED, reason="killed by SIGKILL", ended_at_s=NOW_S)
    ended = msgspec.structs.replace(ended, exit=Exit(signal="SIGKILL"))
    told = msgspec.structs.replace(told, replicas=(ReplicaStatus(replica=ended),))
    text = "\n".join(description(told, NOW_S))
    assert text.count("killed by SIGKILL") == 1


def test_nodes_show_what_they_have_and_what_a_drain_waits_for() -> None:
    told = msgspec.structs.replace(
        report(1), cpu_percent=50.0, memory_total_bytes=2**31, memory_available_bytes=2**30
    )
    up = NodeStatus(node="one", state="up", age_s=2.0, report=told, clock_skew_s=-0.04, replicas=3)
    drained = msgspec.structs.replace(
        up,
        node="two",
        takes=False,
        wish=NodeWish.DRAIN,
        waiting=("iris.v1.1: 1 request in flight",),
    )
    closed = msgspec.structs.replace(up, node="three", takes=False, reason="drained by Nomad")
    silent = NodeStatus(node="four", state="silent", age_s=None, report=None, reason="down")
    header, one, two, three, four, *more = nodes(NodeList(nodes=(up, drained, closed, silent)))
    assert " ".join(header.split()) == (
        "node state roles cpu memory free disk free gpus replicas version clock report reason"
    )
    assert " ".join(one.split()) == (
        "one up replicas 50% of 2 1.0Gi of 2.0Gi 1 of 1 0 3 0.1.0 +0.0s 2s ago"
    )
    assert two.split()[:2] == ["two", "draining"]
    assert three.split()[:2] == ["three", "closed"] and three.endswith("drained by Nomad")
    assert " ".join(four.split()) == "four silent - - - - - 0 - - never down"
    assert more == ["", "two waits for", "  iris.v1.1: 1 request in flight"]
    assert nodes(NodeList(nodes=())) == ["no node has reported yet"]


def test_nodes_of_a_cluster_show_their_nomad() -> None:
    up = NodeStatus(node="one", state="up", age_s=2.0, report=report(1), engine_version="1.6.1")
    silent = NodeStatus(node="two", state="silent", age_s=None, report=None, engine_version="1.5.0")
    header, one, two = nodes(NodeList(nodes=(up, silent)))
    at = header.index("nomad")
    assert one[at : at + 5] == "1.6.1" and two[at : at + 5] == "1.5.0"
