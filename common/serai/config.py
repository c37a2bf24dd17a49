"""Configuration files of the programs: TOML in, one strict value out, errors that name the key."""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from serai.errors import ConfigError
from serai.spec.codec import dec_hook

T = TypeVar("T")

MAX_CONFIG_BYTES = 2**20
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*?)`(?: - at `\$\.?(?P<at>.*)`)?")
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<at>.*)`)?")


def load_config(path: Path, kind: type[T]) -> T:
    """Read a TOML file as `kind`; raise ConfigError with the file and the key that is wrong."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} has {len(raw)} bytes; at most {MAX_CONFIG_BYTES} are read")
    try:
        return read_config(raw.decode(), kind)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_config(text: str, kind: type[T]) -> T:
    """Read TOML text as `kind`; raise ConfigError with the key that is wrong."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError("not valid TOML: it is nested too deep") from error
    try:
        return msgspec.convert(found, kind, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise ConfigError(_in_words(str(error), kind)) from error


def read_secret(path: str, what: str) -> str:
    """Return the first line of a file that holds a secret; "" for no path.

    Raises ConfigError for a file that cannot be read, or that is empty.
    """
    if not path:
        return ""
    try:
        lines = Path(path).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {what} from {path}: {error}") from error
    if len(lines) != 1:
        raise ConfigError(f"{path} should hold {what} and nothing else")
    return lines[0]


def _in_words(message: str, kind: type[Any]) -> str:
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is None:
        found = _AT.fullmatch(message)
        what, at = (found["what"], found["at"]) if found else (message, "")
        return f"{at or 'the file'}: {what[:1].lower()}{what[1:]}"
    field, at = unknown["field"], unknown["at"] or ""
    known = _fields(kind, at)
    near = get_close_matches(field, known, n=1)
    hint = f" did you mean `{near[0]}`?" if near else ""
    allowed = f" allowed: {', '.join(known)}" if known else ""
    return f"{f'{at}.' if at else ''}{field}: unknown key;{hint}{allowed}".removesuffix(";")


def _fields(kind: type[Any], at: str) -> list[str]:
    """Return the keys of the table at a path such as `nomad.jobs`, none where there is no table."""
    for step in at.split(".") if at else []:
        kinds = {field.name: field.type for field in msgspec.structs.fields(kind)}
        kind = kinds.get(step.partition("[")[0], str)
        for choice in get_args(kind):
            if isinstance(choice, type) and issubclass(choice, msgspec.Struct):
                kind = choice
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return []
    return [field.name for field in msgspec.structs.fields(kind)]
