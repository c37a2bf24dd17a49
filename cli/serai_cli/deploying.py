"""From a folder to a deploy request: spec, bundles, locks, and the upload of what is missing."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from serai.blobs import PAGE_DIGESTS
from serai.clock import SystemClock
from serai.errors import ConfigError
from serai.operator import DeployItem, DeployRequest, Digests, Info
from serai.spec import find_file, load_file
from serai.spec.types import ApiSpec, Predictor
from serai_cli.client import Client
from serai_cli.project.bundle import Bundle, Source, build, default_cache_folder, in_memory
from serai_cli.project.collect import collect
from serai_cli.project.lock import LOCK_FILE, Lock, LockRequest, resolve, write

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Prepared:
    """A request, the content that it needs, and what its writer should know."""

    request: DeployRequest
    sources: tuple[Source, ...]
    notes: tuple[str, ...]


def prepare(path: Path, client: Client, force: bool) -> Prepared:
    """Read the spec, make bundles and locks; errors are told before anything is sent."""
    file = find_file(path)
    loaded = load_file(file)
    info = client.get("/v1/info", Info)
    items, sources, notes = [], {}, [str(note) for note in loaded.notes]
    paths = [spec.predictor.path for spec in loaded.apis if spec.predictor]
    bundles = _Bundles(file, list(dict.fromkeys(paths)))
    locks = _Locks(file.parent, info)
    for spec in loaded.apis:
        bundle = bundles.of(spec)
        lock = locks.of(spec)
        for source in (*(bundle.sources if bundle else ()), *((lock,) if lock else ())):
            sources[source.digest] = source
        items.append(
            DeployItem(
                spec=spec,
                bundle=bundle.digest if bundle else "",
                lock=lock.digest if lock else "",
            )
        )
    request = DeployRequest(apis=tuple(items), force=force)
    return Prepared(request, tuple(sources.values()), (*notes, *bundles.notes, *locks.notes))


class _Bundles:
    """One bundle for all APIs of a file that need the folder."""

    def __init__(self, file: Path, required: list[str]) -> None:
        self._file, self._required = file, required
        self._made: Bundle | None = None
        self.notes: tuple[str, ...] = ()

    def of(self, spec: ApiSpec) -> Bundle | None:
        if spec.predictor is None and not (spec.pod and spec.pod.command):
            return None
        if self._made is None:
            # Before the files are looked at: one that changes meanwhile is hashed anew next time.
            now_ns = time.time_ns()
            collected = collect(
                self._file.parent, self._required, leave_out=[self._file.name, LOCK_FILE]
            )
            self._made = build(collected, default_cache_folder(), now_ns)
            self.notes = collected.notes
        return self._made


class _Locks:
    """Locks of a file's predictors, resolved for the scheduler's Python and platform."""

    def __init__(self, folder: Path, info: Info) -> None:
        self._folder, self._info = folder, info
        self.notes: tuple[str, ...] = ()

    def of(self, spec: ApiSpec) -> Source | None:
        if spec.predictor is None:
            return None
        lock = self.resolved(spec.predictor)
        self.notes = (*self.notes, *lock.notes)
        return in_memory(lock.text.encode(), "the lock") if lock.text else None

    def resolved(self, predictor: Predictor, upgrade: bool = False) -> Lock:
        request = LockRequest(
            requirements=self.requirements_of(predictor),
            runtime_requirements=self._info.runtime_requirements,
            python=predictor.python or self._info.python,
            platform=self._info.platform,
        )
        now_s = SystemClock().wall()
        return asyncio.run(resolve(request, default_cache_folder(), now_s, upgrade=upgrade))

    def requirements_of(self, predictor: Predictor) -> Path | None:
        named = self._folder / (predictor.requirements or REQUIREMENTS)
        return named if named.exists() else None


def write_locks(path: Path, client: Client, upgrade: bool) -> tuple[Path, ...]:
    """Write `serai.lock` beside each requirements file of a spec; return where.

    Raises ConfigError where one file would have to fit two predictors that need different ones.
    """
    file = find_file(path)
    locks = _Locks(file.parent, client.get("/v1/info", Info))
    made: dict[Path, Lock] = {}
    for spec in load_file(file).apis:
        named = locks.requirements_of(spec.predictor) if spec.predictor is not None else None
        if spec.predictor is None or named is None:
            continue
        lock, place = locks.resolved(spec.predictor, upgrade), named.parent / LOCK_FILE
        if made.setdefault(place, lock).inputs != lock.inputs:
            raise ConfigError(
                f"{place} cannot serve {spec.name} and the predictors before it: their "
                "requirements or Python differ; put the requirements into folders of their own"
            )
    for place, lock in made.items():
        write(place, lock)
        place.chmod(0o644)  # colleagues and CI deploy from it, too
    return tuple(made)


def send(prepared: Prepared, client: Client) -> int:
    """Bring what the scheduler lacks over to it; return how many files that were."""
    digests = tuple(source.digest for source in prepared.sources)
    pages = [digests[at : at + PAGE_DIGESTS] for at in range(0, len(digests), PAGE_DIGESTS)]
    if not any(_missing(client, page) for page in pages):
        return 0
    from serai_cli.sending import send_all  # what it imports takes longer than all the rest

    return send_all(prepared.sources, client.target)


def _missing(client: Client, digests: tuple[str, ...]) -> tuple[str, ...]:
    return client.post("/v1/blobs/missing", Digests(digests=digests), Digests).digests
