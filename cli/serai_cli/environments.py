"""`serai env`: named targets."""

import getpass
import sys
from pathlib import Path
from urllib.parse import urlsplit

from serai.errors import ConfigError
from serai_cli import targets
from serai_cli.output import note, write
from serai_cli.tables import table
from serai_cli.targets import LOCAL, Target, Targets


def show_all() -> int:
    kept = targets.load()
    rows = [
        ["*" if one.name == kept.used else "", one.name, one.url, "yes" if one.token else "no"]
        for one in kept.targets
    ]
    here = "*" if not kept.used else ""
    rows.insert(0, [here, LOCAL, f"this machine ({targets.data_folder()})", ""])
    write(table(("", "name", "url", "token"), rows))
    return 0


def set_one(name: str, url: str, token_file: Path | None, ca: Path | None) -> int:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is not a URL such as https://serai.lab:7070")
    if name == LOCAL:
        raise ConfigError(f"{LOCAL} is always this machine; choose another name")
    if ca is not None and not ca.is_file():
        raise ConfigError(f"there is no file {ca}")
    token = _token(token_file)
    one = Target(name=name, url=url.rstrip("/"), token=token, ca=str(ca.absolute()) if ca else "")
    targets.save(targets.load().with_target(one))
    write([f"{name} is {one.url}"])
    if not token:
        note("it has no token; a scheduler will refuse most calls without one")
    return 0


def _token(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    return getpass.getpass("token (not shown): ") if sys.stdin.isatty() else ""


def use(name: str) -> int:
    kept = targets.load()
    if name != LOCAL and kept.named(name) is None:
        known = ", ".join([LOCAL, *(one.name for one in kept.targets)])
        raise ConfigError(f"there is no environment {name!r} (known: {known})")
    targets.save(Targets(targets=kept.targets, used="" if name == LOCAL else name))
    write([f"commands talk to {name} now"])
    return 0


def delete(name: str) -> int:
    kept = targets.load()
    if kept.named(name) is None:
        raise ConfigError(f"there is no environment {name!r}; see `serai env list`")
    targets.save(kept.without(name))
    write([f"{name} is forgotten"])
    return 0


def show(name: str) -> int:
    found = targets.find(name)
    write(
        [
            f"name   {found.name}",
            f"url    {found.url}",
            f"token  {'set' if found.token else 'none'}",
            f"ca     {found.ca or 'those of the system'}",
        ]
    )
    return 0
