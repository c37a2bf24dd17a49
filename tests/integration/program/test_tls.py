"""Serai beside a Nomad and a Consul that speak TLS alone and ask for certificates themselves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from serai.consul.client import ConsulClient, ConsulSettings
from serai.errors import Unavailable
from serai_cli.exits import UNREACHABLE
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from tests.cluster.nomad import NomadAgent, nomad
from tests.cluster.tls_programs import (
    EXPIRED,
    NOTHING_SHOWN,
    OTHER_CA,
    OTHER_NAME,
    STRANGE,
    UPDATE_LIMIT_S,
    Certificates,
    Programs,
    Side,
    programs,
    refused,
)
from tests.support.serai import call, write_predictor
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

READY_LIMIT_S = 60.0
JSON = {"Content-Type": "application/json"}
CODE = """
class Predictor:
    def predict(self, payload):
        return "hello"
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def engine(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NomadAgent]:
    with nomad(tmp_path_factory.mktemp("engines"), tls=certificates.engines) as agent:
        yield agent


# The clients --------------------------------------------------------------------------------------


@asynccontextmanager
async def nomad_of(engine: NomadAgent, side: Side) -> AsyncIterator[NomadClient]:
    settings = NomadSettings(host=side.host, port=engine.port, tls=True, **asdict(side.tls))
    client = NomadClient(settings)
    try:
        yield client
    finally:
        await client.close()


def consul_of(engine: NomadAgent, side: Side) -> ConsulClient:
    port = engine.beside.https
    return ConsulClient(ConsulSettings(host=side.host, port=port, tls=True, **asdict(side.tls)))


async def refusals(engine: NomadAgent, side: Side) -> list[tuple[str, str]]:
    """Return what Nomad's and Consul's client say of it."""
    async with nomad_of(engine, side) as of_nomad, consul_of(engine, side) as of_consul:
        with pytest.raises(Unavailable) as no_nomad:
            await of_nomad.nodes()
        with pytest.raises(Unavailable) as no_consul:
            await of_consul.put("/v1/kv/a", 1)
    return [("nomad", str(no_nomad.value)), ("consul", str(no_consul.value))]


@pytest.mark.parametrize("how", [OTHER_CA, OTHER_NAME, NOTHING_SHOWN, STRANGE])
async def test_no_call_is_made_without_trust_on_both_sides(
    engine: NomadAgent, certificates: Certificates, how: str
) -> None:
    for program, told in await refusals(engine, certificates.wrong(how)):
        assert refused(told, how, f"{program}.host"), told


async def test_a_call_without_tls_is_told_what_to_set(
    engine: NomadAgent, certificates: Certificates
) -> None:
    client = NomadClient(NomadSettings(port=engine.port))
    with pytest.raises(Unavailable, match=r"speaks TLS: set `nomad\.tls = true`"):
        await client.nodes()
    await client.close()
    async with ConsulClient(ConsulSettings(port=engine.beside.https)) as consul:
        with pytest.raises(Unavailable, match=r"speaks TLS: set `consul\.tls = true`"):
            await consul.get("/v1/kv/a")


# The programs -------------------------------------------------------------------------------------


def deploy_once_it_listens(made: Programs, project: Path) -> CompletedProcess[str]:
    """Deploy through a scheduler that may only just have begun."""
    done: list[CompletedProcess[str]] = []

    def answered() -> bool:
        done[:] = [made.operator.run("deploy", str(project), "--wait", "-y")]
        return "connection refused" not in done[0].stderr

    until(answered, READY_LIMIT_S, made.log)
    return done[0]


def ready(made: Programs) -> bool:
    return made.operator.has_a_node() and '"problems":[]' in made.problems().replace(" ", "")


def test_a_deploy_goes_through_where_everybody_shows_a_certificate(
    engine: NomadAgent, certificates: Certificates, tmp_path: Path
) -> None:
    project = write_predictor(tmp_path / "project", CODE)
    with programs(tmp_path / "serai", engine, certificates.right, certificates.right) as made:
        until(lambda: ready(made), READY_LIMIT_S, made.log)
        done = made.operator.run("deploy", str(project), "--wait", "-y")
        assert done.returncode == 0, done.stdout + done.stderr + made.log()
        answer = call(f"http://127.0.0.1:{made.gateway_port}/hello", b"{}", JSON)
        assert (answer.status, answer.body) == (200, b"hello")
        assert "\n" in made.operator.run("logs", "hello").stdout, "read through Nomad"
        assert made.doctor("ok", "time to end"), "as the agent's Nomad told"
        assert made.doctor("ok", "nomad") and made.doctor("ok", "consul")
        assert made.operator.run("delete", "hello", "-y").returncode == 0
        until(lambda: not engine.call("GET", "/jobs?prefix=serai-hello"), READY_LIMIT_S)


def test_a_deploy_tells_that_nomad_has_come_to_be_another(
    engine: NomadAgent, certificates: Certificates, tmp_path: Path
) -> None:
    """The version before serves on, nothing of the new one is left."""
    project = write_predictor(tmp_path / "project", CODE)
    with programs(tmp_path / "serai", engine, certificates.right, certificates.right) as made:
        until(lambda: ready(made), READY_LIMIT_S, made.log)
        done = made.operator.run("deploy", str(project), "--wait", "-y")
        assert done.returncode == 0, done.stdout + done.stderr + made.log()
        before = made.operator.statuses()["hello"]["version"]
        write_predictor(tmp_path / "project", CODE.replace("hello", "goodbye"))
        with certificates.replaced(engine):
            made.scheduler.stop()  # connections that are open stay as they are
            made.scheduler.start()
            until(lambda: refused(made.scheduler.log(), OTHER_CA, "nomad.host"), READY_LIMIT_S)
            done = deploy_once_it_listens(made, project)
            assert done.returncode == 1, done.stdout + done.stderr
            meanwhile, _, end = done.stdout.partition(
                f" failed: not ready within {UPDATE_LIMIT_S:g} s"
            )
            for told in (meanwhile, end):
                assert refused(told, OTHER_CA, "nomad.host"), done.stdout
            assert "for now nothing is started or stopped" in meanwhile
            answer = call(f"http://127.0.0.1:{made.gateway_port}/hello", b"{}", JSON)
            assert (answer.status, answer.body) == (200, b"hello")
        until(lambda: made.operator.statuses()["hello"]["state"] == "live", READY_LIMIT_S)
        assert made.operator.statuses()["hello"]["version"] == before
        jobs = [one["ID"] for one in engine.call("GET", "/jobs?prefix=serai-hello")]
        assert [one for one in jobs if before in one] == jobs
        assert made.operator.run("delete", "hello", "-y").returncode == 0
        until(lambda: not engine.call("GET", "/jobs?prefix=serai-hello"), READY_LIMIT_S)


def test_a_deploy_tells_that_consul_has_come_to_be_another(
    engine: NomadAgent, certificates: Certificates, tmp_path: Path
) -> None:
    """Nobody can lead then, so nobody can take a deploy; what was deployed before serves on."""
    project = write_predictor(tmp_path / "project", CODE)
    with programs(tmp_path / "serai", engine, certificates.right, certificates.right) as made:
        until(lambda: ready(made), READY_LIMIT_S, made.log)
        done = made.operator.run("deploy", str(project), "--wait", "-y")
        assert done.returncode == 0, done.stdout + done.stderr + made.log()
        write_predictor(tmp_path / "project", CODE.replace("hello", "goodbye"))
        with certificates.replaced(engine.beside):
            made.scheduler.stop()  # connections that are open stay as they are
            made.scheduler.start()
            until(lambda: refused(made.scheduler.log(), OTHER_CA, "consul.host"), READY_LIMIT_S)
            done = deploy_once_it_listens(made, project)
            assert done.returncode == UNREACHABLE
            assert refused(done.stderr, OTHER_CA, "consul.host"), done.stdout + done.stderr
            answer = call(f"http://127.0.0.1:{made.gateway_port}/hello", b"{}", JSON)
            assert (answer.status, answer.body) == (200, b"hello")
        until(lambda: made.operator.has_a_node(), READY_LIMIT_S, made.log)
        assert made.operator.run("delete", "hello", "-y").returncode == 0
        until(lambda: not engine.call("GET", "/jobs?prefix=serai-hello"), READY_LIMIT_S)


@pytest.mark.parametrize("how", [OTHER_CA, OTHER_NAME, NOTHING_SHOWN, EXPIRED])
def test_programs_and_doctor_tell_why_nomad_is_refused(
    engine: NomadAgent, certificates: Certificates, how: str, tmp_path: Path
) -> None:
    with (
        certificates.wrong_for(engine, how) as wrong,
        programs(tmp_path / "serai", engine, wrong, certificates.right) as made,
    ):
        until(
            lambda: refused(made.doctor("fail", "nomad"), how, "nomad.host"),
            READY_LIMIT_S,
            made.log,
        )
        until(lambda: refused(made.scheduler.log(), how, "nomad.host"), READY_LIMIT_S, made.log)
        until(lambda: refused(made.reported(), how, "nomad.address"), READY_LIMIT_S, made.reported)


@pytest.mark.parametrize("how", [OTHER_CA, OTHER_NAME, NOTHING_SHOWN, EXPIRED])
def test_programs_and_doctor_tell_why_consul_is_refused(
    engine: NomadAgent, certificates: Certificates, how: str, tmp_path: Path
) -> None:
    with (
        certificates.wrong_for(engine.beside, how) as wrong,
        programs(tmp_path / "serai", engine, certificates.right, wrong) as made,
    ):
        until(lambda: refused(made.scheduler.log(), how, "consul.host"), READY_LIMIT_S, made.log)
        until(lambda: refused(made.agent.log(), how, "consul.host"), READY_LIMIT_S, made.log)
        until(lambda: refused(made.problems(), how, "consul.host"), READY_LIMIT_S, made.problems)
        told = made.doctor("warn", "scheduler")
        assert refused(told, how, "consul.host"), told
