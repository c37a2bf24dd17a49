"""`serai image export`: one image of a deployed version, with all that it needs in it."""

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from serai.cache_names import image_interpreter
from serai.clock import SystemClock
from serai.errors import ConfigError
from serai.model import Version
from serai.operator import ApiDescription
from serai_cli import targets
from serai_cli.client import Client, api_path
from serai_cli.exits import DONE
from serai_cli.images.baked import PORT, dockerfile
from serai_cli.images.build import check_tag
from serai_cli.output import note, write
from serai_cli.project.bundle import default_cache_folder

CHUNK_BYTES = 2**20


def export(
    api: str, tag: str, version_name: str, base: str, cache_dir: Path | None, env: str
) -> int:
    """Make the image on this machine's dockerd; bundle and lock come from the scheduler."""
    from serai_agent.cache.node import NodeCache
    from serai_agent.cache.settings import CacheSettings
    from serai_cli.images.dockerd import connected

    check_tag(tag)
    client = Client(targets.find(env))
    version = _choose(client.get(api_path(api), ApiDescription), version_name)
    text = dockerfile(version, base)
    folder = cache_dir or default_cache_folder() / "export"
    with connected() as dockerd, tempfile.TemporaryFile() as context:
        platform = dockerd.platform_of(base, image_interpreter(version.content.python))
        cache = NodeCache(
            SystemClock(), folder, SchedulerBlobs(client), CacheSettings(image_platform=platform)
        )
        place = asyncio.run(cache.place(version, note))
        assert place.environment is not None and place.bundle is not None
        assert version.content.predictor is not None
        config = msgspec.json.encode(version.content.predictor.config, order="sorted")
        with tarfile.open(fileobj=context, mode="w") as out:
            _add(out, "Dockerfile", text.encode())
            _add(out, "config.json", config)
            for name, path in (("environment", place.environment), ("bundle", place.bundle)):
                out.add(path, arcname=name, filter=_of_root)
        context.seek(0)
        dockerd.build_context(context, tag)
    write(
        [
            f"made {tag} of {version.name} of {api}",
            f"run it: docker run -p {PORT}:{PORT} {tag}",
        ]
    )
    return DONE


def _choose(described: ApiDescription, name: str) -> Version:
    """Return the version of that name, the serving one unless named; ConfigError lists them."""
    known = described.versions
    found = [
        one.version for one in known if (one.version.name == name if name else _serves(one.role))
    ]
    if not found:
        names = ", ".join(one.version.name for one in known) or "none"
        what = name or "a version that serves"
        raise ConfigError(f"{described.status.name} has not {what}; its versions: {names}")
    return found[0]


def _serves(role: str) -> bool:
    return role == "serving"


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    out.addfile(entry, io.BytesIO(content))


class SchedulerBlobs:
    """The caches' `Fetch` over the operator API, one blob after the other."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        """Yield the content; Refused when the scheduler has none, Unavailable when it is away."""
        with self._client.open("GET", f"/v1/blobs/{digest}") as response:
            while chunk := await asyncio.to_thread(response.read1, CHUNK_BYTES):
                yield chunk
