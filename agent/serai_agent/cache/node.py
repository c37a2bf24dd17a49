"""The caches of a node as the engine sees them: what a version needs, by its digests."""

from collections.abc import Sequence
from pathlib import Path

from serai.cache_names import Wish
from serai.clock import Clock
from serai.errors import ConfigError
from serai.model import Version
from serai_agent.cache.bundles import BundleCache
from serai_agent.cache.environments import (
    EnvironmentCache,
    Recipe,
    image_recipe,
    recipe_of,
)
from serai_agent.cache.fetch import Fetch
from serai_agent.cache.settings import CacheSettings
from serai_agent.local.place import Place, Tell


class NodeCache:
    """Implements the engine's `Cache` port with the bundles and environments below a folder."""

    def __init__(
        self, clock: Clock, folder: Path, fetch: Fetch, settings: CacheSettings | None = None
    ) -> None:
        self._image_platform = settings.image_platform if settings is not None else ""
        self.environments = EnvironmentCache(clock, folder, fetch, settings)
        self.bundles = BundleCache(clock, folder, fetch, settings)

    async def place(self, version: Version, tell: Tell) -> Place:
        content = version.content
        recipe = self._recipe(version)
        if content.predictor is not None and recipe is None:
            raise ConfigError(f"{version.name} of {version.api} has no lock; deploy it again")
        return await self._bring(content.bundle, recipe, tell)

    async def grant(self, wish: Wish, tell: Tell) -> Place:
        """Bring what a replica of Nomad's waits for; errors as those of `place`."""
        recipe = self._made_from(wish.lock, wish.python, wish.runtime) if wish.lock else None
        if recipe is not None and recipe.key != wish.environment:
            raise ConfigError(
                f"the replica looks for the environment {wish.environment}, which this node "
                f"({recipe.platform}) cannot make; give the scheduler this platform in [jobs]"
            )
        return await self._bring(wish.bundle, recipe, tell)

    async def _bring(self, bundle_digest: str, recipe: Recipe | None, tell: Tell) -> Place:
        bundle = environment = None
        if bundle_digest:
            tell("fetching the bundle")
            bundle = await self.bundles.ensure(bundle_digest)
        if recipe is not None:
            tell("building the environment")
            environment = await self.environments.ensure(recipe)
        return Place(environment=environment, bundle=bundle)

    async def prune(self, in_use: Sequence[Version]) -> None:
        recipes = [recipe for version in in_use if (recipe := self._recipe(version)) is not None]
        await self.environments.prune(recipes)
        await self.bundles.prune({v.content.bundle for v in in_use if v.content.bundle})

    async def open(self) -> None:
        """Clear away what a crash left half done; the folder must be this process's alone."""
        await self.environments.open()
        await self.bundles.open()

    async def close(self) -> None:
        """End what is being built."""
        await self.environments.close()

    def _recipe(self, version: Version) -> Recipe | None:
        content = version.content
        if content.predictor is None or not content.lock:
            return None
        return self._made_from(content.lock, content.python, content.runtime)

    def _made_from(self, lock: str, python: str, runtime: str) -> Recipe:
        if self._image_platform:
            return image_recipe(lock, python, runtime, self._image_platform)
        return recipe_of(lock, python, runtime)
