"""Which Serai a command talks to: named targets, environment variables, or the one on this machine.

Tokens are kept in a file that only its owner can read, and are never printed.
"""

import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from serai.errors import ConfigError, Unavailable
from serai_cli.whereabouts import ENDPOINT_FILE, folder_in_use

LOCAL = "local"
MAX_FILE_BYTES = 1_000_000


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where an operator API is, and what opens it; `ca` is a file with certificates to trust."""

    name: str
    url: str
    token: str = ""
    ca: str = ""


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept between commands; `used` is the chosen one ("" for the local one)."""

    targets: tuple[Target, ...] = ()
    used: str = ""

    def named(self, name: str) -> Target | None:
        """Return the target of that name, or None."""
        return next((target for target in self.targets if target.name == name), None)

    def with_target(self, target: Target) -> "Targets":
        """Return these with one added or replaced; the first one ever is used from then on."""
        others = tuple(one for one in self.targets if one.name != target.name)
        ordered = sorted((*others, target), key=lambda one: one.name)
        used = self.used if self.targets else target.name
        return Targets(targets=tuple(ordered), used=used)

    def without(self, name: str) -> "Targets":
        """Return these without one."""
        left = tuple(one for one in self.targets if one.name != name)
        return Targets(targets=left, used="" if self.used == name else self.used)


@dataclass(frozen=True)
class Address:
    """A URL taken apart; `path` includes the query and is what a request line says."""

    secure: bool
    host: str
    port: int | None
    path: str


def address_of(url: str) -> Address:
    """Take a URL apart; ConfigError says what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not a URL: {error}") from error
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is not a URL such as http://127.0.0.1:7070")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme == "https", parts.hostname, port, path)


def context_of(ca: str) -> ssl.SSLContext:
    """Return what certificates are trusted: those of a file, else the system's."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        why = "it holds none" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"cannot use the certificates of {ca}: {why}") from error


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
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; mend it or remove it") from error


def save(targets: Targets) -> None:
    """Keep the targets, readable by their owner only; ConfigError when they cannot be written."""
    path = config_file()
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(targets))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def find(name: str = "") -> Target:
    """Return the target to talk to: the one named, from the environment, in use, or local."""
    if not name and (url := os.environ.get("SERAI_URL")):
        return Target(
            name="SERAI_URL",
            url=url.rstrip("/"),
            token=os.environ.get("SERAI_TOKEN", "").strip(),
            ca=os.environ.get("SERAI_CA", ""),
        )
    wanted = name or os.environ.get("SERAI_ENV", "")
    if wanted == LOCAL or (not wanted and os.environ.get("SERAI_DATA_DIR")):
        return local()
    kept = load()
    wanted = wanted or kept.used
    return local() if not wanted else _kept(kept, wanted)


def _kept(kept: Targets, name: str) -> Target:
    found = kept.named(name)
    if found is None:
        raise unknown(kept, name)
    return found


def unknown(kept: Targets, name: str) -> ConfigError:
    """Return the error for a name that is none, with those that are."""
    from difflib import get_close_matches

    names = [LOCAL, *(one.name for one in kept.targets)]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}."
    return ConfigError(f"there is no environment {name!r}; {hint} See `serai env list`")


def local() -> Target:
    """Return the Serai that runs on this machine; Unavailable says how to start one."""
    folder = folder_in_use()
    try:
        endpoint: dict[str, Any] = json.loads((folder / ENDPOINT_FILE).read_text())
        token = (folder / "admin-token").read_text().strip()
        return Target(name=LOCAL, url=str(endpoint["control_url"]), token=token)
    except PermissionError as error:
        raise ConfigError(
            f"the Serai of this machine belongs to another user ({error.filename} cannot be read); "
            "ask its owner for a token and use `serai env set`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Unavailable(
            f"no Serai runs on this machine (none serves {folder}): start one with `serai up`, or "
            "name a remote one with `serai env set NAME --url URL --token-file FILE`"
        ) from None
