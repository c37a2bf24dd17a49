"""Requirements files as far as a lock must know them: what they include, and what cannot be locked.

Everything else in them is uv's to judge.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serai.errors import ConfigError

MAX_FILES = 50
MAX_BYTES = 2**20

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"(--?[a-zA-Z][a-z-]*)(?:[\s=]\s*(.*))?$", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_USERINFO = re.compile(r"(https?://)([^/\s@]+)@")
_REFERENCE = re.compile(r"(?:[^:@/]*:)?\$\{[A-Z0-9_]+\}")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")
_INCLUDES = frozenset({"-r", "--requirement", "-c", "--constraint"})
_INDEXES = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}


@dataclass(frozen=True)
class Line:
    """One requirement or option, with where it stands (`file:number`)."""

    place: str
    text: str


@dataclass(frozen=True)
class Requirements:
    """A requirements file and all that it includes: their bytes, their lines, their indexes.

    `indexes` are options that whoever installs the lock needs too; passwords in them are
    references to environment variables.
    """

    contents: tuple[bytes, ...]
    lines: tuple[Line, ...]
    indexes: tuple[str, ...]

    def place_of(self, package: str) -> str:
        """Return ` (file:line: text)` of the line that asks for a package, "" when none does."""
        for line in self.lines:
            match = _NAME.match(line.text)
            if match and normalised(match[0]) == normalised(package):
                return f" ({line.place}: {line.text})"
        return ""


NOTHING = Requirements((), (), ())


def normalised(package: str) -> str:
    """Return the one form of a package's name."""
    return re.sub(r"[-_.]+", "-", package).lower()


def read_requirements(path: Path) -> Requirements:
    """Read a requirements file with all that it includes.

    Raises ConfigError, with the line, for what cannot be locked: editable and local packages,
    version control, passwords.
    """
    contents: list[bytes] = []
    lines: list[Line] = []
    indexes: list[str] = []
    waiting = [path]
    seen: set[Path] = set()
    while waiting:
        current = waiting.pop(0)
        if current.resolve() in seen:
            continue
        seen.add(current.resolve())
        if len(seen) > MAX_FILES:
            raise ConfigError(f"{path.name} includes more than {MAX_FILES} files")
        raw = _read(current)
        contents.append(raw)
        for line in _lines(current, raw):
            option = _OPTION.fullmatch(line.text)
            if option is None:
                _check_requirement(line)
                lines.append(line)
            elif option[1] in _INCLUDES:
                waiting.append(current.parent / (option[2] or ""))
            else:
                indexes += _checked_option(line, option[1], option[2] or "")
    return Requirements(tuple(contents), tuple(lines), tuple(dict.fromkeys(indexes)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the requirements file {path} cannot be read: {error.strerror}"
        ) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"the requirements file {path} is larger than {MAX_BYTES} bytes")
    return raw


def _lines(path: Path, raw: bytes) -> Iterator[Line]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the requirements file {path} is not UTF-8: {error}") from error
    held = ""
    start = 1
    for number, line in enumerate(text.splitlines(), 1):
        if not held:
            start = number
        if line.endswith("\\"):
            held += line[:-1]
            continue
        if told := _COMMENT.sub("", held + line).strip():
            yield Line(f"{path.name}:{start}", told)
        held = ""
    if told := held.strip():
        yield Line(f"{path.name}:{start}", told)


def _checked_option(line: Line, option: str, value: str) -> list[str]:
    """Return an index option in its long form; other options are uv's business."""
    if option in ("-e", "--editable"):
        raise _cannot(
            line,
            "an editable package lies on your machine and nowhere else",
            "put its code into the project folder, where the predictor can import it",
        )
    if option not in _INDEXES:
        return []
    if "://" not in value or value.startswith("file:"):
        raise _cannot(
            line,
            "replicas cannot see a folder of your machine",
            "use an index that the nodes reach too",
        )
    _check_password(line)
    return [f"{_INDEXES[option]} {value}"]


def _check_requirement(line: Line) -> None:
    target = line.text.partition(" @ ")[2].strip() or line.text
    bare = target.partition(";")[0].strip()
    if re.match(r"(git|hg|svn|bzr)\+", target):
        raise _cannot(
            line,
            "a checkout has no hash to hold it against",
            "use a release, or the address of an archive of one commit: "
            "`name @ https://…/archive/COMMIT.zip`",
        )
    is_path = target.startswith((".", "/", "~", "file:", "\\"))
    if is_path or ("://" not in target and bare.lower().endswith(_ARCHIVES)):
        raise _cannot(
            line,
            "a local path lies on your machine and nowhere else",
            "put the code into the project folder, where the predictor can import it, or the "
            "package on an index",
        )
    _check_password(line)


def _check_password(line: Line) -> None:
    if has_password(line.text):
        raise ConfigError(
            f"{line.place}: a user or password stands in an address; it would be stored with the "
            "lock. Write ${VARIABLE} instead and set that variable here and on the nodes"
        )


def has_password(text: str) -> bool:
    """Say whether an address in `text` holds a user or password that is no `${REFERENCE}`."""
    return any(not _REFERENCE.fullmatch(found[2]) for found in _USERINFO.finditer(text))


def without_passwords(text: str) -> str:
    """Return `text` with users and passwords in addresses blotted out."""
    return _USERINFO.sub(r"\1***@", text)


def _cannot(line: Line, why: str, what_to_do: str) -> ConfigError:
    told = without_passwords(line.text)
    return ConfigError(f"{line.place}: `{told}` cannot be locked: {why}; {what_to_do}")


def file_name(path: Path | None) -> str:
    """Return how messages call the requirements."""
    return "the runtime's requirements" if path is None else os.path.basename(path)
