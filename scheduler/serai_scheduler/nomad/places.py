"""Where the parts of a version lie on any node: the folders that its agent fills. Pure."""

from dataclasses import dataclass

from serai.cache_names import (
    BUNDLES,
    ENVIRONMENT_MARKER,
    ENVIRONMENTS,
    MANIFEST_SUFFIX,
    Wish,
    environment_name,
    image_interpreter,
    wish_text,
)
from serai.errors import ConfigError
from serai.model import Version
from serai_scheduler.nomad.settings import JobSettings


@dataclass(frozen=True)
class Places:
    """Absolute folders, "" for what a version does not need.

    `markers` appear when all is whole; `wish` is the text that asks a node's agent for it.
    """

    environment: str
    bundle: str
    markers: tuple[str, ...]
    wish: str = ""


def places_of(version: Version, settings: JobSettings) -> Places:
    """Return where a version's parts lie; raise ConfigError for a predictor that lacks one."""
    content = version.content
    if content.pod is not None and content.pod.containers:
        return Places("", "", ())  # an image brings all that is in it
    if content.predictor is not None and not (content.bundle and content.lock):
        raise ConfigError(f"{version.api}: a predictor needs a bundle and a lock; deploy it again")
    environment = bundle = name = ""
    markers: list[str] = []
    if content.bundle:
        bundle = f"{settings.cache_dir}/{BUNDLES}/{content.bundle}"
        markers.append(bundle + MANIFEST_SUFFIX)
    if content.predictor is not None:
        interpreter = image_interpreter(content.python) if settings.predictor_image else ""
        parts = (content.lock, content.python, content.runtime, settings.platform)
        name = environment_name(*parts, interpreter)
        environment = f"{settings.cache_dir}/{ENVIRONMENTS}/{name}"
        markers.append(f"{environment}/{ENVIRONMENT_MARKER}")
    wish = Wish(
        bundle=content.bundle,
        lock=content.lock if name else "",
        python=content.python if name else "",
        runtime=content.runtime if name else "",
        environment=name,
    )
    return Places(environment, bundle, tuple(markers), wish_text(wish) if markers else "")
