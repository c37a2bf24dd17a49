"""The bundle of a project: its manifest, and where the content of each digest is read."""

from dataclasses import dataclass
from pathlib import Path

import platformdirs

from serai.bundle import BundleFile, Manifest, check_manifest, encode_manifest
from serai.model import digest_of
from serai_cli.project.collect import Collected
from serai_cli.project.digests import DigestCache, hash_files


@dataclass(frozen=True)
class Source:
    """Content to upload: a file (`file`, named `label` in messages), or `data` in memory."""

    digest: str
    size_bytes: int
    label: str
    file: str = ""
    data: bytes = b""


@dataclass(frozen=True)
class Bundle:
    """A project made ready: `digest` names it, `sources` holds each content once.

    The manifest itself is the last of the sources: once it is stored, all before it is too.
    """

    manifest: Manifest
    digest: str
    sources: tuple[Source, ...]


def default_cache_folder() -> Path:
    """Return the user's cache folder for Serai."""
    return Path(platformdirs.user_cache_dir("serai", appauthor=False))


def build(collected: Collected, cache_folder: Path, now_ns: int) -> Bundle:
    """Hash the files and return their bundle; `now_ns` is the wall clock before they were found.

    Raises ConfigError for a file that changes or cannot be read, Refused for a manifest over the
    limits.
    """
    cache = DigestCache(cache_folder, collected.folder)
    sources: dict[str, Source] = {}
    files = []
    for found, digest in hash_files(collected.files, cache, now_ns):
        files.append(
            BundleFile(
                path=found.path,
                digest=digest,
                size_bytes=found.size_bytes,
                executable=found.executable,
            )
        )
        sources.setdefault(
            digest, Source(digest, found.size_bytes, label=found.path, file=found.source)
        )
    manifest = Manifest(files=tuple(files))
    check_manifest(manifest)
    own = in_memory(encode_manifest(manifest), "the manifest")
    return Bundle(manifest, own.digest, (*sources.values(), own))


def in_memory(data: bytes, label: str) -> Source:
    """Return content that is in memory as a source for an upload."""
    return Source(digest_of(data), len(data), label=label, data=data)
