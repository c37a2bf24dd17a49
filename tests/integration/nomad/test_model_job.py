"""The model job that is shipped, run by plain `nomad job run`: a gateway takes it as it says."""

import contextlib
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import docker
import pytest

from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.cluster.serai_agents import Orders, agents
from tests.integration.edge.asking import get
from tests.integration.nomad.test_container_jobs import DRIVER
from tests.support.dockerd import dockerd
from tests.support.gateways import route
from tests.support.static_model import build
from tests.support.wait import auntil

pytestmark = pytest.mark.engines

JOB = Path(__file__).parents[3] / "jobspecs" / "model.nomad.hcl"
IMAGE = "serai-model:1"
CAPACITY = 3


@pytest.fixture
def docker_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dockerd(tmp_path_factory.mktemp("d")) as address:
        yield address


@pytest.fixture
def nomad(docker_address: str, tmp_path: Path) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path / "nomad", DRIVER.format(address=docker_address)) as agent:
        yield agent


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


def make_image(address: str, folder: Path) -> None:
    """Give a dockerd an image with the model, as its own build would."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(build(folder), "model")
    with contextlib.closing(docker.DockerClient(base_url=address)) as daemon:
        name, tag = IMAGE.split(":")
        command_of_it = ['CMD ["/model"]']
        daemon.api.import_image_from_data(
            data.getvalue(), repository=name, tag=tag, changes=command_of_it
        )


async def test_a_gateway_takes_a_model_of_plain_nomad(
    nomad: NomadAgent, docker_address: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    make_image(docker_address, tmp_path)
    named = {"api": "iris", "version": "v1", "image": IMAGE, "capacity": str(CAPACITY)}
    variables = [word for key, value in named.items() for word in ("-var", f"{key}={value}")]
    done = nomad.nomad_job("run", "-detach", *variables, str(JOB))
    assert done.returncode == 0, done.stdout + done.stderr
    with agents(tmp_path, nomad.beside, "one") as (gateway,):
        async with Orders(nomad.beside.port) as orders:
            await orders.order(route(epoch=orders.epoch))

            async def answered() -> bool:
                with contextlib.suppress(aiohttp.ClientError):
                    return (await get(client, f"{gateway.url}/iris"))[0] == 200
                return False

            await auntil(answered, 40.0, gateway.log)
    (service,) = nomad.passing("iris")
    assert service["Meta"]["replica"] == "iris.v1.0"
    assert service["Meta"]["capacity"] == str(CAPACITY)
    nomad.purge("model")
