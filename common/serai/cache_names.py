"""How the folders of a node's cache are called: the agent fills them, jobs name them. Pure.

A replica that waits for its parts leaves a wish in the folder `WISHES`: a file with the text of a
`Wish`, called after that text. The agent removes it when the parts are there, or when it cannot
bring them: then the reason lies beside it, in a file of the same name and `FAILED_SUFFIX`. While
there is a wish, a reason beside it is one of before.
"""

import re
from typing import Annotated

from msgspec import Meta

from serai import wire
from serai.model import Value, digest_of

ENVIRONMENTS = "environments"
BUNDLES = "bundles"
WISHES = "wishes"
FAILED_SUFFIX = ".failed"
WISH_NAME = re.compile(r"[0-9a-f]{32}\.json")
MAX_WISH_BYTES = 4096
ENVIRONMENT_MARKER = "serai-environment.json"
"""Written last into an environment: without it, the folder is not whole."""
MANIFEST_SUFFIX = ".manifest"
"""The manifest beside a bundle's folder is written last: without it, the bundle is not whole."""


def environment_name(
    lock: str, python: str, runtime: str, platform: str, interpreter: str = ""
) -> str:
    """Return the name of an environment's folder; `lock` and `runtime` are digests.

    `platform` is what the agent says of its node, or what an image is, such as
    `linux-x86_64-glibc-2.36`; `interpreter` is the path of the image's Python, "" for the node's.
    """
    parts = [lock, python, runtime, platform, *([interpreter] if interpreter else [])]
    return f"{python}-{digest_of(chr(0).join(parts).encode())[:24]}"


def image_interpreter(python: str) -> str:
    """Return where an image for predictors has its Python: one path, so that nobody sets it."""
    return f"/usr/bin/python{python}"


Digest = Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]


class Wish(Value):
    """What a replica needs on its node; "" for what it does not.

    `environment` is the name of the folder that it will look for.
    """

    bundle: Digest = ""
    lock: Digest = ""
    python: Annotated[str, Meta(pattern=r"^(3\.[0-9]{1,2})?$")] = ""
    runtime: Digest = ""
    environment: Annotated[str, Meta(max_length=64)] = ""


def wish_text(wish: Wish) -> str:
    """Return a wish as one line of JSON."""
    return wire.encode(wish).decode()


def wish_name(text: str) -> str:
    """Return the name of the file that holds this text."""
    return f"{digest_of(text.encode())[:32]}.json"
