"""What a version needs on the node before it can start: its bundle and its environment."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from serai.blobs import Blobs, read_all
from serai.model import Version
from serai_agent.cache.bundles import Bundles
from serai_agent.cache.environments import Environments

MAX_LOCK_BYTES = 8 * 2**20

Tell = Callable[[str], None]
Prepare = Callable[[Version, Tell], Awaitable[tuple[Path, Path | None]]]


def preparing(environments: Environments, bundles: Bundles, blobs: Blobs, empty: Path) -> Prepare:
    """Return a function that brings a version's bundle and environment to this node.

    It returns the project folder and the interpreter (None for a version without a predictor).
    """

    async def prepare(version: Version, tell: Tell) -> tuple[Path, Path | None]:
        content = version.content
        project = empty
        if content.bundle:
            tell("fetching the bundle")
            project = await bundles.ensure(content.bundle)
        if content.predictor is None:
            return project, None
        tell("building the environment")
        lock = await read_all(blobs, content.lock, MAX_LOCK_BYTES) if content.lock else b""
        return project, await environments.ensure(lock, content.python)

    return prepare
