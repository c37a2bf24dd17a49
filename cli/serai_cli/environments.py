"""`serai env`: named targets."""

import getpass
import os
import re
import sys
from pathlib import Path

from serai.errors import ConfigError
from serai_cli import targets
from serai_cli.output import look, note, write
from serai_cli.tables import Column, table
from serai_cli.targets import LOCAL, Target, Targets, address_of, context_of
from serai_cli.whereabouts import folder_in_use

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
OVERRIDES = ("SERAI_URL", "SERAI_ENV", "SERAI_DATA_DIR")
COLUMNS = (Column(""), Column("name", least=12), Column("url", least=30), Column("token"))


def show_all() -> int:
    kept = targets.load()
    rows = [
        ["*" if one.name == kept.used else "", one.name, one.url, "yes" if one.token else "no"]
        for one in kept.targets
    ]
    here = "*" if not kept.used else ""
    rows.insert(0, [here, LOCAL, f"this machine ({folder_in_use()})", ""])
    write(table(COLUMNS, rows, look()))
    return 0


def set_one(name: str, url: str, token_file: Path | None, ca: Path | None) -> int:
    """Add an environment, or change what is given of one; a token stays with its URL."""
    known = targets.load()
    before = known.named(name)
    if not url and before is None:
        raise ConfigError(f"there is no environment {name!r} yet; give its --url")
    url = url or (before.url if before else "")
    address_of(url)
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for an environment; use letters, digits and dashes")
    if name == LOCAL:
        raise ConfigError(f"{LOCAL} is always this machine; choose another name")
    if ca is not None:
        context_of(str(ca))
    same = before is not None and before.url == url.rstrip("/")
    kept_token = before.token if before is not None and same else ""
    token = kept_token if token_file is None and kept_token else _token(token_file)
    kept_ca = before.ca if before is not None else ""
    one = Target(
        name=name,
        url=url.rstrip("/"),
        token=token,
        ca=str(ca.absolute()) if ca is not None else kept_ca,
    )
    kept = known.with_target(one)
    targets.save(kept)
    chosen = kept.used == name and known.used != name
    write([f"{name} is {one.url}" + (", and in use from now on" if chosen else "")])
    if not token:
        note("it has no token; a scheduler will refuse most calls without one")
    return 0


def _token(file: Path | None) -> str:
    if file is not None:
        try:
            token = file.read_text().strip()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file} holds no token: it is not text") from error
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
        if not token:
            raise ConfigError(f"{file} is empty; put the token into it")
        return token
    asks = sys.stdin is not None and sys.stdin.isatty()
    return getpass.getpass("token (not shown): ").strip() if asks else ""


def use(name: str) -> int:
    kept = targets.load()
    if name != LOCAL and kept.named(name) is None:
        raise targets.unknown(kept, name)
    targets.save(Targets(targets=kept.targets, used="" if name == LOCAL else name))
    over = next((one for one in OVERRIDES if os.environ.get(one)), "")
    if over and (name, over) != (LOCAL, "SERAI_DATA_DIR"):
        write([f"{name} is in use where {over} is not set; here it is set, and decides: unset it"])
    else:
        write([f"commands talk to {name} now"])
    return 0


def delete(name: str) -> int:
    kept = targets.load()
    if kept.named(name) is None:
        raise targets.unknown(kept, name)
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
