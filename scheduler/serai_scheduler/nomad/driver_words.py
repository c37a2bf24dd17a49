"""Why a replica could not be started, from what Nomad's client and docker driver say. Pure."""

import re

_PULL = re.compile(r"Failed to pull `(?P<image>[^`]+)`: (?P<why>.*)", re.DOTALL)
_PULLING = re.compile(r"Downloading image|Docker image pull progress: (?P<how_far>.*)")
_PORT = re.compile(
    r"listen tcp\S* \S*:(?P<bound>\d+): bind: address already in use"
    r"|Bind for \S*:(?P<published>\d+) failed: port is already allocated"
)
_FOLDER = re.compile(r"bind source path does not exist: (?P<path>\S+)")

REFUSED = ("no basic auth credentials", "unauthorized", "authentication required", "access denied")
LATE = ("context deadline exceeded", "inactivity")
AWAY = ("dial tcp", "no such host", "connection refused", "i/o timeout", "server gave HTTP")
MISSING = ("not found", "manifest unknown", "name unknown")
FULL = ("no space left on device",)


def in_words(message: str) -> str:
    """Return what a driver's message means and what to do; as it is when it is not known."""
    if found := _PULL.fullmatch(message):
        return _pull_in_words(found["image"], found["why"]) or message
    if found := _PULLING.fullmatch(message):
        how_far = f": {found['how_far']}" if found["how_far"] else ""
        return f"its image is being pulled{how_far}"
    if found := _FOLDER.search(message):
        return f"its node has no {found['path']} to mount"
    if found := _PORT.search(message):
        return (
            f"port {found['bound'] or found['published']} of its node is taken by a program that "
            "Nomad does not know; end that one, or keep the port from Nomad "
            "(`reserved_ports` of its client)"
        )
    if any(words in message for words in FULL):
        return f"the disk of its node is full; make room there ({message})"
    return message


def is_progress(message: str) -> bool:
    """Say whether a message tells of a pull under way; such a one may come after the pull's end."""
    return _PULLING.fullmatch(message) is not None


def _pull_in_words(image: str, why: str) -> str:
    """Return why an image was not pulled, "" when that is not known.

    The order matters: a registry that refuses says at times that it has no such image, too.
    """
    if any(words in why for words in REFUSED):
        return (
            f"the registry of {image} refuses to give it; its node needs a login there "
            "(`auth` of Nomad's docker plugin), or there is no such image"
        )
    if any(words in why for words in LATE):
        return f"{image} did not arrive in its time: its registry is slow, or stands still"
    if any(words in why for words in FULL):
        return f"its node has no room for {image}: the disk is full"
    if any(words in why for words in AWAY):
        return f"the registry of {image} cannot be reached: {why.rpartition('dial ')[2]}"
    if any(words in why for words in MISSING):
        return f"there is no image {image}; check its name and its tag or digest"
    return ""
