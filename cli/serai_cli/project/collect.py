"""The files of a project folder, as far as they belong to it: nothing ignored, nothing outside."""

import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serai.bundle import MAX_FILE_BYTES, MAX_FILES, path_fault
from serai.errors import ConfigError
from serai.units import Size
from serai_cli.project.ignore import Rule, parse_rules, verdict

WARN_ABOVE_BYTES = 500 * 2**20
NAMED_IN_NOTES = 5
MAX_IGNORE_BYTES = 2**20
MAX_DEPTH = 100

OWN_IGNORE = ".seraiignore"
IGNORE_FILES = (".gitignore", ".cortexignore", OWN_IGNORE)
"""Read in this order in every folder: a later one overrides."""
SPEC_FILES = frozenset({"serai.yaml", "serai.yml", "cortex.yaml"})
"""At the top these are settings and no content: a new limit must not make a new version."""
NEVER = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", ".DS_Store"})
NEVER_ENDINGS = (".pyc", ".pyo")


@dataclass(frozen=True)
class FoundFile:
    """A file as it was found: `path` is its place in the bundle, `source` where it is read."""

    path: str
    source: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    executable: bool


@dataclass(frozen=True)
class Collected:
    """The files of a project, sorted by path; `notes` are for the user to read."""

    folder: Path
    files: tuple[FoundFile, ...]
    notes: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def collect(folder: Path, required: Sequence[str] = (), leave_out: Sequence[str] = ()) -> Collected:
    """Return the files of a project folder.

    `required` paths (relative, such as the predictor's) must be among them; `leave_out` names more
    files at the top that are settings, such as the spec file. Raises ConfigError that names the
    file: a link that leads out of the folder, a path or a number of files over the limits, a
    required file that is absent or ignored, a folder that is a home folder.
    """
    root = _checked_root(folder)
    walk = _Walk(root, SPEC_FILES | set(leave_out))
    files = tuple(sorted(walk.run(), key=lambda file: file.path))
    _check_required(root, {file.path for file in files}, required)
    return Collected(folder=root, files=files, notes=(*walk.notes, *_size_notes(files)))


def _checked_root(folder: Path) -> Path:
    try:
        root = folder.resolve(strict=True)
        home = Path.home().resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"the project folder {folder} cannot be read: {error}") from error
    if not root.is_dir():
        raise ConfigError(f"{folder} is a file; name the folder of the project")
    if root == home or root in home.parents:
        raise ConfigError(
            f"{root} is a home folder or holds one; its files would all be uploaded. "
            "Put the project into a folder of its own and deploy that"
        )
    return root


def _check_required(root: Path, found: set[str], required: Sequence[str]) -> None:
    for path in required:
        wanted = os.path.normpath(path).replace(os.sep, "/")
        if wanted in found:
            continue
        if not (root / wanted).exists():
            raise ConfigError(f"{path} does not exist in {root}; the spec refers to it")
        raise ConfigError(
            f"{path} is needed by the spec, but ignore rules (or its dot) leave it out; "
            f"add a line `!{wanted}` to {OWN_IGNORE}"
        )


def _size_notes(files: tuple[FoundFile, ...]) -> list[str]:
    total_bytes = sum(file.size_bytes for file in files)
    if total_bytes <= WARN_ABOVE_BYTES:
        return []
    biggest = sorted(files, key=lambda file: -file.size_bytes)[:NAMED_IN_NOTES]
    named = ", ".join(f"{file.path} ({in_mib(file.size_bytes)})" for file in biggest)
    return [
        f"the project has {in_mib(total_bytes)} in {len(files)} files, the biggest: {named}; "
        f"name what is not needed in {OWN_IGNORE}"
    ]


def in_mib(size_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{size_bytes / 2**20:,.0f} MiB" if size_bytes >= 2**20 else str(Size(size_bytes))


@dataclass(frozen=True)
class _Level:
    """The rules that stand in one folder; `start` is where paths below it begin."""

    start: int
    rules: tuple[Rule, ...]
    own_rules: tuple[Rule, ...]


@dataclass(frozen=True)
class _Folder:
    """A folder to look into: its prefix in the bundle, where it is, and the folders it is in."""

    prefix: str
    source: str
    levels: tuple[_Level, ...]
    chain: tuple[str, ...]


class _Walk:
    """One walk through a project; counts and notes what it meets."""

    def __init__(self, root: Path, settings: frozenset[str]) -> None:
        self._root = str(root)
        self._settings = settings
        self._files: list[FoundFile] = []
        self.notes: list[str] = []

    def run(self) -> list[FoundFile]:
        waiting = [_Folder("", self._root, (), (self._root,))]
        while waiting:
            waiting += self._look_into(waiting.pop())
        return self._files

    def _look_into(self, folder: _Folder) -> list[_Folder]:
        try:
            with os.scandir(folder.source) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise _unreadable(folder.prefix or ".", error) from error
        names = {entry.name for entry in entries}
        levels = (*folder.levels, *_level_of(folder, names))
        found = []
        for entry in entries:
            deeper = self._take(entry, folder, levels)
            if deeper is not None:
                found.append(deeper)
        return found

    def _take(
        self, entry: os.DirEntry[str], folder: _Folder, levels: tuple[_Level, ...]
    ) -> _Folder | None:
        path = folder.prefix + entry.name
        try:
            is_folder = entry.is_dir()
        except OSError:  # links that lead to each other
            is_folder = False
        if self._is_left_out(entry.name, path, is_folder, levels):
            return None
        if fault := path_fault(path):
            raise ConfigError(f"the file name {path!r} cannot be used: {fault}; rename it")
        source = self._inside(entry, path) if entry.is_symlink() else entry.path
        try:
            info = os.stat(source)
        except OSError as error:
            raise _unreadable(path, error) from error
        if stat.S_ISDIR(info.st_mode):
            return self._deeper(path, source, folder, levels)
        if stat.S_ISREG(info.st_mode):
            self._add(path, source, info)
        else:
            self.notes.append(f"{path} is a socket, pipe or device and is left out")
        return None

    def _is_left_out(
        self, name: str, path: str, is_folder: bool, levels: tuple[_Level, ...]
    ) -> bool:
        if name in NEVER or name.endswith(NEVER_ENDINGS) or path in self._settings:
            return True
        if name.startswith("."):
            return _judged([(v.start, v.own_rules) for v in levels], path, is_folder) is not False
        return _judged([(v.start, v.rules) for v in levels], path, is_folder) is True

    def _inside(self, entry: os.DirEntry[str], path: str) -> str:
        """Return where a link leads; ConfigError when that is nowhere or outside."""
        try:
            target = os.path.realpath(entry.path, strict=True)
        except OSError as error:
            raise ConfigError(
                f"the link {path} leads nowhere ({os.readlink(entry.path)}); remove it or name "
                f"it in {OWN_IGNORE}"
            ) from error
        if not target.startswith(self._root.rstrip("/") + "/"):
            if target == self._root:
                raise _loop(path, target)
            raise ConfigError(
                f"the link {path} leads out of the project, to {target}; copy the file into the "
                f"project, or name the link in {OWN_IGNORE}"
            )
        return target

    def _deeper(
        self, path: str, source: str, folder: _Folder, levels: tuple[_Level, ...]
    ) -> _Folder:
        if source in folder.chain:
            raise _loop(path, source)
        if len(folder.chain) > MAX_DEPTH:
            raise ConfigError(f"{path} is nested deeper than {MAX_DEPTH} folders")
        return _Folder(path + "/", source, levels, (*folder.chain, source))

    def _add(self, path: str, source: str, info: os.stat_result) -> None:
        if info.st_size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{path} has {in_mib(info.st_size)}; a file may have {in_mib(MAX_FILE_BYTES)}. "
                "Mount big weights from the node instead (mounts: in the spec)"
            )
        if len(self._files) >= MAX_FILES:
            raise self._too_many()
        self._files.append(
            FoundFile(
                path=path,
                source=source,
                size_bytes=info.st_size,
                mtime_ns=info.st_mtime_ns,
                ctime_ns=info.st_ctime_ns,
                inode=info.st_ino,
                executable=bool(info.st_mode & 0o111),
            )
        )

    def _too_many(self) -> ConfigError:
        tops = Counter(file.path.partition("/")[0] for file in self._files)
        named = ", ".join(f"{top} ({count})" for top, count in tops.most_common(NAMED_IN_NOTES))
        return ConfigError(
            f"the project has more than {MAX_FILES} files; most lie in {named}. Name what is not "
            f"needed in {OWN_IGNORE}"
        )


def _judged(levels: list[tuple[int, tuple[Rule, ...]]], path: str, is_folder: bool) -> bool | None:
    """Return the verdict of the deepest folder whose rules say something."""
    for start, rules in reversed(levels):
        said = verdict(rules, path[start:], is_folder)
        if said is not None:
            return said
    return None


def _level_of(folder: _Folder, names: set[str]) -> list[_Level]:
    rules: list[Rule] = []
    own_rules: tuple[Rule, ...] = ()
    for name in IGNORE_FILES:
        if name in names:
            own_rules = parse_rules(_read_rules(folder, name))
            rules += own_rules
    if OWN_IGNORE not in names:
        own_rules = ()
    return [_Level(len(folder.prefix), tuple(rules), own_rules)] if rules else []


def _read_rules(folder: _Folder, name: str) -> str:
    path = folder.prefix + name
    try:
        with open(os.path.join(folder.source, name), "rb") as file:
            raw = file.read(MAX_IGNORE_BYTES + 1)
    except IsADirectoryError:
        return ""
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(raw) > MAX_IGNORE_BYTES:
        raise ConfigError(f"{path} is larger than {in_mib(MAX_IGNORE_BYTES)}; shorten it")
    return raw.decode("utf-8-sig", errors="surrogateescape")


def _loop(path: str, target: str) -> ConfigError:
    return ConfigError(
        f"the link {path} leads to {target}, a folder that it lies in itself; remove it or name "
        f"it in {OWN_IGNORE}"
    )


def _unreadable(path: str, error: OSError) -> ConfigError:
    why = error.strerror or str(error)
    return ConfigError(f"{path} cannot be read ({why}); mend that or name it in {OWN_IGNORE}")
