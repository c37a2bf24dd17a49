"""Which Serai a command talks to: named targets, environment variables, or the one on this machine.

Tokens are kept in a file that only its owner can read, and are never printed.
"""

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from serai.errors import ConfigError

LOCAL = "local"
MAX_FILE_BYTES = 1_000_000


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where an operator API is, and what opens it; `ca` is a file with certificates to trust."""

    name: str
    url: str
    token: str = ""
    ca: str = ""


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept between commands."""

    targets: tuple[Target, ...] = ()
    used: str = ""

    def named(self, name: str) -> Target | None:
        return next((target for target in self.targets if target.name == name), None)

    def with_target(self, target: Target) -> "Targets":
        """Return these with one added or replaced."""
        others = tuple(one for one in self.targets if one.name != target.name)
        ordered = sorted((*others, target), key=lambda one: one.name)
        return Targets(targets=tuple(ordered), used=self.used or target.name)

    def without(self, name: str) -> "Targets":
        left = tuple(one for one in self.targets if one.name != name)
        return Targets(targets=left, used="" if self.used == name else self.used)


def config_file() -> Path:
    """Return the file that keeps the targets."""
    import platformdirs

    return platformdirs.user_config_path("serai") / "targets.json"


def load() -> Targets:
    """Return what is kept; ConfigError when the file is damaged."""
    path = config_file()
    try:
        return msgspec.json.decode(path.read_bytes()[:MAX_FILE_BYTES], type=Targets)
    except FileNotFoundError:
        return Targets()
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; mend it or remove it") from error


def save(targets: Targets) -> None:
    """Keep the targets, readable by their owner only."""
    path = config_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(targets))
    path.with_suffix(".new").replace(path)


def data_folder() -> Path:
    """Return where a `serai up` of this user keeps its data, unless told otherwise."""
    told = os.environ.get("SERAI_DATA_DIR")
    if told:
        return Path(told)
    import platformdirs

    return platformdirs.user_data_path("serai")


def find(name: str = "") -> Target:
    """Return the target to talk to: the one named, from the environment, in use, or local."""
    if url := os.environ.get("SERAI_URL"):
        return Target(name="environment", url=url, token=os.environ.get("SERAI_TOKEN", ""))
    wanted = name or os.environ.get("SERAI_ENV", "")
    if wanted == LOCAL or (not wanted and "SERAI_DATA_DIR" in os.environ):
        return local()
    kept = load()
    wanted = wanted or kept.used
    if not wanted:
        return local()
    found = kept.named(wanted)
    if found is None:
        known = ", ".join(target.name for target in kept.targets) or "none"
        raise ConfigError(f"there is no environment {wanted!r} (known: {known}); see `serai env`")
    return found


def local() -> Target:
    """Return the Serai that runs on this machine; ConfigError says how to start one."""
    folder = data_folder()
    try:
        endpoint: dict[str, Any] = json.loads((folder / "endpoint.json").read_text())
        token = (folder / "admin-token").read_text().strip()
        return Target(name=LOCAL, url=str(endpoint["control_url"]), token=token)
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            f"no Serai runs on this machine (nothing in {folder}): start one with `serai up`, or "
            "name a remote one with `serai env set NAME --url URL --token-file FILE`"
        ) from None
