"""How the folders of a node's cache are called: the agent fills them, jobs name them. Pure."""

from serai.model import digest_of

ENVIRONMENTS = "environments"
BUNDLES = "bundles"
ENVIRONMENT_MARKER = "serai-environment.json"
"""Written last into an environment: without it, the folder is not whole."""
MANIFEST_SUFFIX = ".manifest"
"""The manifest beside a bundle's folder is written last: without it, the bundle is not whole."""


def environment_name(lock: str, python: str, runtime: str, platform: str) -> str:
    """Return the name of an environment's folder; `lock` and `runtime` are digests.

    `platform` is what the agent says of its node, such as `linux-x86_64-glibc-2.36`.
    """
    parts = "\0".join((lock, python, runtime, platform))
    return f"{python}-{digest_of(parts.encode())[:24]}"
