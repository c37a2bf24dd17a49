"""What a node's caches hold: for what they build, how much disk they may take, how long."""

from serai.model import Value


class CacheSettings(Value):
    """Bounds of the caches; `python_index` and the like stay in uv's own configuration.

    Whatever was used within `kept_s` stays, and whatever is in use: the bounds are aims, not
    promises, for a node whose living replicas need more.

    `image_platform` is that of the image in which predictors run, such as
    `linux-x86_64-glibc-2.36`; "" where they run on the node itself, with its Python.
    """

    image_platform: str = ""
    environments_bytes: int = 60 * 2**30
    bundles_bytes: int = 60 * 2**30
    kept_s: float = 3600.0
    build_limit_s: float = 1800.0
    fetches_at_once: int = 8
