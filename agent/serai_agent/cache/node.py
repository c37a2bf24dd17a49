"""The caches of a node as the engine sees them: what a version needs, by its digests."""

from collections.abc import Sequence
from pathlib import Path

from serai.clock import Clock
from serai.errors import ConfigError
from serai.model import Version
from serai_agent.cache.bundles import BundleCache
from serai_agent.cache.environments import EnvironmentCache, Recipe, recipe_of
from serai_agent.cache.fetch import Fetch, fetch_whole
from serai_agent.cache.settings import CacheSettings
from serai_agent.local.place import Place, Tell

MAX_LOCK_BYTES = 8 * 2**20


class NodeCache:
    """Implements the engine's `Cache` port with the bundles and environments below a folder."""

    def __init__(
        self, clock: Clock, folder: Path, fetch: Fetch, settings: CacheSettings | None = None
    ) -> None:
        self._fetch = fetch
        self.environments = EnvironmentCache(clock, folder, settings)
        self.bundles = BundleCache(clock, folder, fetch, settings)

    async def place(self, version: Version, tell: Tell) -> Place:
        content = version.content
        bundle = None
        if content.bundle:
            tell("fetching the bundle")
            bundle = await self.bundles.ensure(content.bundle)
        if content.predictor is None:
            return Place(environment=None, bundle=bundle)
        recipe = _recipe(version)
        if recipe is None:
            raise ConfigError(f"{version.name} of {version.api} has no lock; deploy it again")

        async def lock() -> bytes:
            return await fetch_whole(self._fetch, content.lock, MAX_LOCK_BYTES, "lock")

        tell("building the environment")
        environment = await self.environments.ensure(recipe, lock)
        return Place(environment=environment, bundle=bundle)

    async def prune(self, in_use: Sequence[Version]) -> None:
        recipes = [recipe for version in in_use if (recipe := _recipe(version)) is not None]
        await self.environments.prune(recipes)
        await self.bundles.prune({v.content.bundle for v in in_use if v.content.bundle})

    async def open(self) -> None:
        """Clear away what a crash left half done; the folder must be this process's alone."""
        await self.environments.open()

    async def close(self) -> None:
        """End what is being built."""
        await self.environments.close()


def _recipe(version: Version) -> Recipe | None:
    content = version.content
    if content.predictor is None or not content.lock:
        return None
    return recipe_of(content.lock, content.python, content.runtime)
