"""One Serai on six machines for the tests of this folder: making it takes ten seconds."""

from collections.abc import Iterator

import pytest

from tests.cluster.serai_cluster import SeraiCluster, serai_cluster


@pytest.fixture(scope="module")
def serai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeraiCluster]:
    with serai_cluster(tmp_path_factory.mktemp("six")) as made:
        yield made
