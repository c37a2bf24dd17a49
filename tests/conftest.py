"""Fixtures of several rings: the engines' agents, one for each process that tests."""

from collections.abc import Iterator

import pytest

from tests.cluster.agents import ConsulAgent, consul


@pytest.fixture(scope="session")
def consul_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulAgent]:
    """Return a Consul that tests share; each takes a prefix of its own."""
    with consul(tmp_path_factory.mktemp("consul")) as agent:
        yield agent
