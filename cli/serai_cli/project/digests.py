"""SHA-256 of many files, quickly: in threads, and not again for what did not change since."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from serai.errors import ConfigError
from serai.model import Value, digest_of
from serai_cli.project.collect import FoundFile

RACY_NS = 2_000_000_000
"""A file changed this shortly before it was hashed may change again within one tick of its times,
unseen; its digest is not kept."""
READ_BYTES = 2**20
MAX_CACHE_BYTES = 64 * 2**20


class _Known(msgspec.Struct, frozen=True, array_like=True):
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str


class _Memory(Value):
    """What is kept on disk for one project folder, by the path that is read."""

    known: dict[str, _Known]


class DigestCache:
    """Remembers digests of one project's files in a folder of the user's cache.

    A cache that cannot be read or written costs time and nothing else.
    """

    def __init__(self, cache_folder: Path, project: Path) -> None:
        name = digest_of(os.fsencode(project))[:32]
        self._path = cache_folder / "digests" / f"{name}.msgpack"
        self._known = self._load()

    def _load(self) -> dict[str, _Known]:
        try:
            if self._path.stat().st_size > MAX_CACHE_BYTES:
                return {}
            return msgspec.msgpack.decode(self._path.read_bytes(), type=_Memory).known
        except (OSError, msgspec.DecodeError):
            return {}

    def digest_of(self, file: FoundFile) -> str | None:
        """Return the digest when the file has not changed since it was taken."""
        known = self._known.get(file.source)
        if known is None or _Known(*_identity(file), known.digest) != known:
            return None
        return known.digest

    def save(self, files: Iterable[tuple[FoundFile, str]], hashed_at_ns: int) -> None:
        """Keep the digests of files that were quiet at wall-clock `hashed_at_ns`."""
        quiet_before_ns = hashed_at_ns - RACY_NS
        known = {
            file.source: _Known(*_identity(file), digest)
            for file, digest in files
            if max(file.mtime_ns, file.ctime_ns) < quiet_before_ns
        }
        if known == self._known:
            return
        with contextlib.suppress(OSError, UnicodeEncodeError):
            write_whole(self._path, msgspec.msgpack.encode(_Memory(known=known)))
        self._known = known


def _identity(file: FoundFile) -> tuple[int, int, int, int]:
    return file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a passing name and rename it; OSError leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, passing = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(passing, path)
    except BaseException:  # Ctrl-C, too, leaves no passing file in the project
        with contextlib.suppress(OSError):
            os.unlink(passing)
        raise


def hash_files(
    files: Iterable[FoundFile], cache: DigestCache, now_ns: int
) -> list[tuple[FoundFile, str]]:
    """Return each file with its digest; ConfigError when one changes meanwhile or is unreadable.

    `now_ns` is the wall clock before the files were looked at.
    """
    wanted = list(files)
    known = [cache.digest_of(file) for file in wanted]
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        lacking = [file for file, digest in zip(wanted, known, strict=True) if digest is None]
        fresh = iter(list(pool.map(_hash, lacking)))
    hashed = [
        (file, digest if digest is not None else next(fresh))
        for file, digest in zip(wanted, known, strict=True)
    ]
    cache.save(hashed, now_ns)
    return hashed


def _hash(file: FoundFile) -> str:
    state = hashlib.sha256()
    read_bytes = 0
    try:
        with open(file.source, "rb", buffering=0) as opened:
            while piece := opened.read(READ_BYTES):
                state.update(piece)
                read_bytes += len(piece)
            after = os.fstat(opened.fileno())
    except OSError as error:
        raise ConfigError(f"{file.path} cannot be read: {error.strerror}") from error
    if (read_bytes, after.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        raise ConfigError(
            f"{file.path} is being changed; deploy again when nothing writes to it any more"
        )
    return state.hexdigest()
