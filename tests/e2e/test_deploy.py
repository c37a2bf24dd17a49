"""Deploying for real: versions, settings, failures, scale, delete, under steady traffic."""

import json
import subprocess
from pathlib import Path

from serai.runtime_code import runtime_blob, runtime_digest
from tests.support.serai import SERAI, Serai, call, write_predictor
from tests.support.traffic import steady
from tests.support.wait import until

JSON = {"Content-Type": "application/json"}
AGENT_LOOPS = ("publish", "steer", "report", "gpus", "usage")


def answering(text: str) -> str:
    return f"class Predictor:\n    def predict(self, payload):\n        return {text!r}\n"


def body_of(serai: Serai, path: str) -> str:
    return call(f"{serai.url}{path}", b"{}", JSON).body.decode()


def test_versions_change_and_scale_without_a_lost_request(shared: Serai, tmp_path: Path) -> None:
    scaling = "autoscaling: {policy: fixed, min_replicas: 2, max_replicas: 4}\n"
    spec = f"concurrency: {{per_replica: 8}}\n{scaling}"
    project = tmp_path / "rolling"
    shared.deploy(write_predictor(project, answering("one"), spec, name="rolling"))
    with steady(f"{shared.url}/rolling", rate=200) as traffic:
        for text in ("two", "three"):
            shared.deploy(write_predictor(project, answering(text), spec, name="rolling"))
            assert body_of(shared, "/rolling") == text
        for count in (4, 2):
            assert shared.run("scale", "rolling", "--replicas", str(count)).returncode == 0
            until(
                lambda: (
                    shared.describe("rolling")["status"]["ready"] == count  # noqa: B023
                    and not _leaving(shared, "rolling")
                ),
                60,
            )
    assert traffic.failed == [] and traffic.answered > 300


def _leaving(serai: Serai, api: str) -> bool:
    states = [r["replica"]["state"] for r in serai.describe(api)["replicas"]]
    return "draining" in states


def test_the_same_content_again_is_up_to_date(shared: Serai, tmp_path: Path) -> None:
    project = write_predictor(tmp_path / "same", answering("x"), name="same")
    shared.deploy(project)
    before = shared.describe("same")["replicas"]
    assert "up to date" in shared.deploy(project)
    assert [r["replica"]["id"] for r in shared.describe("same")["replicas"]] == [
        r["replica"]["id"] for r in before
    ]


def test_settings_restart_nothing(shared: Serai, tmp_path: Path) -> None:
    project = write_predictor(tmp_path / "settings", answering("x"), name="settings")
    shared.deploy(project)
    before = shared.describe("settings")
    changed = (
        "endpoint: /elsewhere/deep\nconcurrency: {queue: 5, queue_timeout: 5s}\nretry: never\n"
    )
    shared.deploy(write_predictor(project, answering("x"), changed, name="settings"))
    until(lambda: call(f"{shared.url}/elsewhere/deep", b"{}", JSON).status == 200, 10)
    after = shared.describe("settings")
    assert after["status"]["version"] == before["status"]["version"]
    assert [r["replica"]["id"] for r in after["replicas"]] == [
        r["replica"]["id"] for r in before["replicas"]
    ]
    until(lambda: call(f"{shared.url}/settings", b"{}", JSON).status == 404, 10)


def test_a_version_that_cannot_start_leaves_the_old_one_serving(
    shared: Serai, tmp_path: Path
) -> None:
    project = tmp_path / "failing"
    shared.deploy(write_predictor(project, answering("good"), name="failing"))
    write_predictor(project, "import a_module_that_is_not_there\n", name="failing")
    done = shared.run("deploy", str(project), "--wait")
    assert done.returncode == 1
    assert "a_module_that_is_not_there" in done.stdout + done.stderr
    assert body_of(shared, "/failing") == "good"
    status = shared.describe("failing")["status"]
    assert status["state"] == "live" and "a_module_that_is_not_there" in status["last_error"]
    shared.deploy(write_predictor(project, answering("better"), name="failing"))
    assert body_of(shared, "/failing") == "better"


def test_a_lock_in_the_folder_needs_no_index_and_is_no_part_of_the_bundle(
    shared: Serai, tmp_path: Path
) -> None:
    project = write_predictor(tmp_path / "locked", answering("locked"), name="locked")
    (project / "requirements.txt").write_text("idna==3.7\n")
    before = json.loads(shared.run("plan", str(project), "-o", "json").stdout)
    done = shared.run("lock", str(project))
    assert (done.returncode, "wrote" in done.stdout) == (0, True), done.stderr
    text = (project / "serai.lock").read_text()
    assert "idna==3.7" in text and "--hash=sha256:" in text
    away = {
        **shared.environment,
        "XDG_CACHE_HOME": str(tmp_path / "empty"),
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
    }
    offline = subprocess.run(
        [SERAI, "plan", str(project), "-o", "json"],
        env=away, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (offline.returncode, json.loads(offline.stdout)) == (0, before), offline.stderr
    with (project / "serai.lock").open("a") as file:
        file.write("-r /etc/passwd\n")
    refused = shared.run("plan", str(project))
    assert refused.returncode == 2 and "would read a file of the node" in refused.stderr


def test_requirements_that_do_not_resolve_are_told_before_anything_starts(
    shared: Serai, tmp_path: Path
) -> None:
    project = write_predictor(tmp_path / "unresolvable", answering("x"), name="unresolvable")
    (project / "requirements.txt").write_text("msgspec==0.0.0.dev999\n")
    done = shared.run("deploy", str(project), "--wait")
    assert done.returncode in (1, 2)
    assert "msgspec==0.0.0.dev999" in done.stdout + done.stderr
    listed = shared.run("get", "-o", "json")
    assert "unresolvable" not in [api["name"] for api in json.loads(listed.stdout)["apis"]]


def test_several_apis_are_deployed_together_or_not_at_all(shared: Serai, tmp_path: Path) -> None:
    project = write_predictor(tmp_path / "pair", answering("x"))
    apis = [
        f"- name: {name}\n  endpoint: {endpoint}\n  predictor: {{path: predictor.py}}\n"
        for name, endpoint in (("left", "/left"), ("right", "/left"))
    ]
    (project / "serai.yaml").write_text("".join(apis))
    done = shared.run("deploy", str(project), "--wait")
    assert done.returncode == 2, done.stderr
    names = [api["name"] for api in json.loads(shared.run("get", "-o", "json").stdout)["apis"]]
    assert "left" not in names and "right" not in names
    (project / "serai.yaml").write_text(
        "".join(apis).replace("/left\n  predictor", "/l\n  predictor", 1)
    )
    shared.deploy(project)
    assert call(f"{shared.url}/l", b"{}", JSON).status == 200
    assert call(f"{shared.url}/left", b"{}", JSON).status == 200


def test_a_deleted_api_is_gone_and_its_name_free(shared: Serai, tmp_path: Path) -> None:
    project = write_predictor(tmp_path / "brief", answering("x"), name="brief")
    shared.deploy(project)
    assert shared.run("delete", "brief", "-y").returncode == 0

    def gone() -> bool:
        listed: subprocess.CompletedProcess[str] = shared.run("get", "-o", "json")
        return "brief" not in [api["name"] for api in json.loads(listed.stdout)["apis"]]

    until(gone, 30)
    assert call(f"{shared.url}/brief", b"{}", JSON).status == 404
    shared.deploy(project)
    assert body_of(shared, "/brief") == "x"


def test_a_replica_that_is_killed_is_replaced_and_says_how_it_ended(
    shared: Serai, tmp_path: Path
) -> None:
    code = """
import os, signal
class Predictor:
    def predict(self, payload):
        if payload.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"
"""
    shared.deploy(write_predictor(tmp_path / "mortal", code, name="mortal"))
    assert call(f"{shared.url}/mortal", b'{"die": true}', JSON).status in (502, 503)
    until(lambda: body_of(shared, "/mortal") == "alive", 20)
    until(lambda: shared.describe("mortal")["status"]["state"] == "live", 20)
    logs = shared.run("logs", "mortal", "--tail", "200").stdout
    assert "SIGKILL" in logs


def test_logs_of_all_replicas_come_merged_in_time_order(shared: Serai, tmp_path: Path) -> None:
    code = """
class Predictor:
    def predict(self, payload):
        print(f"number {payload['n']}", flush=True)
        return "ok"
"""
    spec = "autoscaling: {policy: fixed, min_replicas: 2}\n"
    shared.deploy(write_predictor(tmp_path / "chatty", code, spec, name="chatty"))

    def numbers() -> list[str]:
        lines = shared.run("logs", "chatty", "--grep", "number").stdout.splitlines()
        return [line.rpartition(" ")[2] for line in lines]

    # A line's time is that at which it was read, so each is read before the next is written.
    for n in range(6):
        call(f"{shared.url}/chatty", json.dumps({"n": n}).encode(), JSON)
        until(lambda: numbers()[-1:] == [str(n)], 10)  # noqa: B023  # it is called at once
    assert numbers() == [str(n) for n in range(6)]


def test_haproxys_own_metrics_are_passed_on(shared: Serai) -> None:
    token = (shared.data / "admin-token").read_text().strip()
    url = f"http://127.0.0.1:{shared.control}/metrics/gateway"
    assert call(url).status == 401
    answer = call(url, headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200 and b"haproxy_frontend_" in answer.body


def test_the_runtime_of_its_versions_is_kept(shared: Serai) -> None:
    """After an update of Serai their environments may have to be built anew."""
    token = (shared.data / "admin-token").read_text().strip()
    url = f"http://127.0.0.1:{shared.control}/v1/blobs/{runtime_digest()}"
    headers = {"Authorization": f"Bearer {token}"}
    until(lambda: call(url, headers=headers).body == runtime_blob(), 20)


def test_every_periodic_loop_tells_how_late_it_is(shared: Serai) -> None:
    token = (shared.data / "admin-token").read_text().strip()
    url = f"http://127.0.0.1:{shared.control}/metrics"

    def told() -> bool:
        text = call(url, headers={"Authorization": f"Bearer {token}"}).body.decode()
        agent = (f'agent_loop_lateness_seconds_count{{loop="{name}"}}' for name in AGENT_LOOPS)
        return all(one in text for one in agent) and all(
            f'scheduler_loop_lateness_seconds_count{{loop="{name}"}}' in text
            for name in ("reconcile", "collect")
        )

    until(told, 30)
