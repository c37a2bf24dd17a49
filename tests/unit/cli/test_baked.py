"""The Dockerfile of an exported version, and the tags that images may have."""

import msgspec
import pytest

from serai.errors import ConfigError
from serai_cli.images.baked import dockerfile
from serai_cli.images.build import check_tag
from serai_cli.images.root import suite_of
from tests.unit.nomad.values import batching, containers, predictor


def test_a_version_becomes_a_dockerfile() -> None:
    assert dockerfile(batching(), "serai-predictor:1").splitlines() == [
        "FROM serai-predictor:1",
        "COPY environment /opt/serai/environment",
        "COPY bundle /opt/serai/bundle",
        "COPY config.json /opt/serai/config.json",
        'ENV PATH="/opt/serai/environment/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:'
        '/sbin:/bin"',
        'ENV HOME="/tmp"',
        'ENV LANG="C.UTF-8"',
        'ENV PYTHONUNBUFFERED="1"',
        'ENV PYTHONDONTWRITEBYTECODE="1"',
        'ENV CUDA_VISIBLE_DEVICES=""',
        'ENV PORT="8000"',
        'ENV SERAI_API="text-large"',
        f'ENV SERAI_VERSION="{batching().name}"',
        f'LABEL serai.api="text-large" serai.version="{batching().name}"',
        "USER 65534:65534",
        "EXPOSE 8000-8001",
        "STOPSIGNAL SIGTERM",
        "CMD []",
        'ENTRYPOINT ["/opt/serai/environment/bin/python", "-m", "serai_runtime", '
        '"/opt/serai/bundle/serve/predictor.py", "--host", "0.0.0.0", "--processes", "2", '
        '"--config", "/opt/serai/config.json", "--project-dir", "/opt/serai/bundle", '
        '"--threads", "4", "--concurrency", "17,16", "--log-format", "json", '
        f'"--api", "text-large", "--version-name", "{batching().name}", '
        '"--batch-max-size", "8", "--batch-max-wait-ms", "2.5"]',
    ]


def test_what_a_dockerfile_cannot_say_is_refused() -> None:
    content = msgspec.structs.replace(predictor().content, env={"TEXT": "two\nlines"})
    with pytest.raises(ConfigError, match="env TEXT has a line break"):
        dockerfile(msgspec.structs.replace(predictor(), content=content), "serai-predictor:1")
    with pytest.raises(ConfigError, match="no predictor to export"):
        dockerfile(containers(), "serai-predictor:1")


@pytest.mark.parametrize("tag", ["a:1", "registry.example:5000/team/a:7"])
def test_a_tag_that_is_one(tag: str) -> None:
    check_tag(tag)


@pytest.mark.parametrize("tag", ["", "a", "a:", ":1", "registry.example:5000/a", "a:latest"])
def test_a_tag_that_is_none(tag: str) -> None:
    with pytest.raises(ConfigError):
        check_tag(tag)


def test_a_python_that_debian_lacks() -> None:
    assert suite_of("3.11").name == "bookworm"
    with pytest.raises(ConfigError, match=r"use one of 3\.11, 3\.13"):
        suite_of("3.12")
