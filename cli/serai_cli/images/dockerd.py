"""The only module of the CLI that speaks to dockerd."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from serai.errors import ConfigError, Unavailable

CALL_LIMIT_S = 600
"""The longest silence of dockerd; the image itself may take longer."""
PLATFORM_CODE = (
    "import platform as p; print('-'.join((p.system(), p.machine(), *p.libc_ver())).lower())"
)
LINES_TOLD = 5
AWAY_WORDS = ("dial tcp", "no such host", "i/o timeout")
CHUNK_BYTES = 2**20


@contextlib.contextmanager
def connected() -> Iterator["Dockerd"]:
    """Lend the dockerd of this machine; what it refuses becomes an error in plain words."""
    where = os.environ.get("DOCKER_HOST", "its usual address")
    try:
        client = docker.from_env(timeout=CALL_LIMIT_S)
    except DockerException as error:
        raise Unavailable(f"dockerd does not answer at {where} ({error}); start it") from error
    try:
        client.ping()
        yield Dockerd(client)
    except BuildError as error:
        lines = [str(one.get("stream", "")).rstrip() for one in error.build_log]
        told = "\n".join([line for line in lines if line][-LINES_TOLD:])
        away = any(words in str(error.msg) for words in AWAY_WORDS)
        hint = "\nwithout an image registry: serai image build --debootstrap" if away else ""
        raise ConfigError(f"the image cannot be built: {error.msg}\n{told}{hint}") from error
    except APIError as error:
        raise ConfigError(f"dockerd refuses: {error.explanation}") from error
    except (DockerException, OSError) as error:
        raise Unavailable(f"dockerd does not answer at {where}: {error}") from error
    finally:
        client.close()


class Dockerd:
    """Makes images and looks at them; lent by `connected`, which translates errors."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    def import_root(self, archive: Path, tag: str) -> None:
        """Make an image of one layer from a root's archive."""
        name, _, label = tag.rpartition(":")
        changes = ["ENV LANG=C.UTF-8", 'CMD ["/bin/sh"]']
        with archive.open("rb") as file:
            # An iterator: the library would send a file with two conflicting lengths.
            stream = iter(lambda: file.read(CHUNK_BYTES), b"")
            api: Any = self._client.api
            api.import_image_from_stream(stream, repository=name, tag=label, changes=changes)

    def build(self, context: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """Build a folder's Dockerfile, which reaches what this machine reaches."""
        self._client.images.build(
            path=str(context),
            tag=tag,
            buildargs=dict(arguments),
            network_mode="host",
            rm=True,
            forcerm=True,
        )

    def build_context(self, context: IO[bytes], tag: str) -> None:
        """Build an archive that holds a Dockerfile; nothing in it reaches a network."""
        self._client.images.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            network_mode="none",
            rm=True,
            forcerm=True,
        )

    def platform_of(self, image: str, python: str) -> str:
        """Return what an image is, such as `linux-x86_64-glibc-2.36`; a container tells.

        Raises ConfigError when the image is not here, or has no Python where environments look.
        """
        try:
            self._client.images.get(image)  # `run` would pull one that is not here
            told = self._client.containers.run(
                image,
                entrypoint=[python],
                command=["-c", PLATFORM_CODE],
                network_mode="none",
                remove=True,
            )
        except ImageNotFound as error:
            raise ConfigError(
                f"there is no image {image} here; pull it, or make one with `serai image build`"
            ) from error
        except APIError as error:
            raise ConfigError(
                f"{image} has no Python at {python}; `serai image build` makes one that has "
                f"({error.explanation})"
            ) from error
        return bytes(told).decode().strip()
