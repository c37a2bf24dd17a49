"""An engine whose Nomad becomes too old while it is followed, as with a server that joins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serai.errors import Unavailable
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.nomad_engine import engine_of, job_settings
from tests.support.rewriting_proxy import RewritingProxy, rewriting_proxy
from tests.support.wait import auntil

pytestmark = pytest.mark.engines

NEW, OLD = b'"build":"1.6.1"', b'"build":"1.4.9"'
NOTICED_LIMIT_S = 30.0


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path_factory.mktemp("nomad")) as agent:
        yield agent


@pytest.fixture
def between(nomad: NomadAgent) -> Iterator[RewritingProxy]:
    with rewriting_proxy(nomad.port) as proxy:
        yield proxy


async def test_one_that_becomes_too_old_is_told_until_it_is_none_any_more(
    nomad: NomadAgent, between: RewritingProxy, tmp_path: Path
) -> None:
    async with engine_of(nomad, job_settings(tmp_path), port=between.port) as engine:

        async def problem() -> str:
            try:
                await engine.observe()
            except Unavailable as away:
                return str(away)
            return ""

        async def sees() -> bool:
            return await problem() == ""

        async def blind() -> bool:
            return "Nomad 1.4.9 on " in await problem()

        await auntil(sees, NOTICED_LIMIT_S)
        with between.changing(NEW, OLD):
            await auntil(blind, NOTICED_LIMIT_S)
            told = await problem()
            assert "is older than 1.6.1, the oldest that Serai runs on: upgrade it" in told
        await auntil(sees, NOTICED_LIMIT_S)


async def test_one_that_is_too_old_from_the_beginning_is_not_followed(
    nomad: NomadAgent, between: RewritingProxy, tmp_path: Path
) -> None:
    with between.changing(NEW, OLD):
        async with engine_of(nomad, job_settings(tmp_path), port=between.port) as engine:
            with pytest.raises(Unavailable, match=r"Nomad 1\.4\.9 on .* is older than 1\.6\.1"):
                await engine.nodes()
