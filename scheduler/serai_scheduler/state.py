"""The store's content as records, decoded only when it changed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from serai import wire
from serai.errors import ConfigError, Refused
from serai.model import Value, Version
from serai.routes import ROUTES, Route
from serai.store import Entry, Snapshot, Store, Write
from serai_scheduler.record import (
    APIS,
    LEARNED,
    NODES,
    VERSIONS,
    ApiRecord,
    NodeIntent,
    StoredApi,
    api_key,
    learned_key,
    node_key,
    route_key,
    version_key,
)

T = TypeVar("T", bound=Value)


MANY = 100
"""From how many changed values on a thread decodes them: it takes 10 ms, and keeps the others from
running for 5 ms at a time as well. A new leader has them all to decode."""

LEARNED_AT_ONCE = 25
"""How many learned values one commit takes: far below what Consul allows, made in 50 ms."""

MENDING = "put it back from a backup; or delete it, deploy again, and end its old jobs by hand"


@dataclass(frozen=True)
class Unreadable:
    """What stands in place of a value that is none of ours, such as one edited by hand.

    `why` tells what to do, too. What a newer release has written is no fault, but nothing that an
    older one may change: it would drop what it does not know.
    """

    why: str


Decoded = Mapping[str, tuple[int, T | Unreadable]]
"""Values with their revisions, by key."""


@dataclass(frozen=True)
class Content:
    """What the store held at one moment; `revision` is the store's, `mark` that of before."""

    mark: str = ""
    revision: int = 0
    records: Decoded[ApiRecord] = field(default_factory=dict)
    versions: Decoded[Version] = field(default_factory=dict)
    routes: Decoded[Route] = field(default_factory=dict)
    intents: Decoded[NodeIntent] = field(default_factory=dict)


class State:
    """Reads and writes records; keeps what it decoded, by key and revision."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._content = Content()
        self.apis: Mapping[str, StoredApi] = {}
        """Every API by name, as the last `read` saw them, but for those of `faults`."""
        self.faults: Mapping[str, str] = {}
        """By API, why its record or a version of it cannot be read: it is to be left as it is."""

    async def read(self) -> dict[str, StoredApi]:
        """Return every API by name, but for those of `faults`."""
        found, faults = await self._read()
        if faults:  # a version may have gone with its record, in between two scans
            found, faults = await self._read()
        self.apis, self.faults = found, faults
        return found

    async def _read(self) -> tuple[dict[str, StoredApi], dict[str, str]]:
        """Return what is there; it is scanned only when the store's mark is another one."""
        mark = await self._store.mark()
        if mark != self._content.mark:
            self._content = await self._scan(mark)
        return _apis(self._content)

    async def probe(self) -> None:
        """Read a little that is not known already; Unavailable while the store does not answer."""
        await self._store.scan(NODES)

    async def _scan(self, mark: str) -> Content:
        apis = await self._store.scan(APIS)
        versions = await self._store.scan(VERSIONS)
        routes = await self._store.scan(ROUTES)
        nodes = await self._store.scan(NODES)
        found = self._content
        if _changed(apis, found.records) + _changed(versions, found.versions) < MANY:
            return _content(mark, found, apis, versions, routes, nodes)
        return await asyncio.to_thread(_content, mark, found, apis, versions, routes, nodes)

    def check(self, api: str) -> None:
        """Raise Refused for an API that cannot be read, as the last `read` saw it."""
        if api in self.faults:
            raise Refused(f"{api} stays as it is: {self.faults[api]}", "unreadable")

    @property
    def revision(self) -> int:
        """Return the store's revision at the last read."""
        return self._content.revision

    @property
    def routes(self) -> dict[str, Route]:
        """Return the routes by API, as the last `read` saw them."""
        return {route.api: route for _, _, route in _readable(self._content.routes)}

    @property
    def intents(self) -> dict[str, NodeIntent]:
        """Return what is wanted of the nodes, by name, as the last `read` saw it."""
        return {intent.node: intent for _, _, intent in _readable(self._content.intents)}

    async def want(self, intent: NodeIntent, epoch: int) -> None:
        """Keep what an operator wants of a node, in place of what was wanted before."""
        write = Write(key=node_key(intent.node), value=wire.encode(intent))
        await self._store.commit([write], epoch)

    async def fulfilled(self, intent: NodeIntent, epoch: int) -> None:
        """Forget an intent, unless it is another by now, also where that has been read since."""
        key = node_key(intent.node)
        found = self._content.intents.get(key)
        if found is not None and found[1] == intent:
            write = Write(key=key, value=None, expect=found[0])
            await self._store.commit([write], epoch)

    async def learned(self) -> dict[str, bytes]:
        """Return by API what has been kept of its autoscaling."""
        found = await self._store.scan(LEARNED)
        return {entry.key.removeprefix(LEARNED): entry.value for entry in found.entries}

    async def keep_learned(self, learned: Mapping[str, bytes | None], epoch: int) -> None:
        """Keep what was learned of some APIs, of LEARNED_AT_ONCE at most; None forgets it."""
        writes = [Write(key=learned_key(api), value=value) for api, value in learned.items()]
        await self._store.commit(writes, epoch)

    async def write(
        self,
        before: StoredApi | None,
        record: ApiRecord | None,
        route: Route | None,
        epoch: int,
        drop_versions: tuple[str, ...] = (),
        versions: tuple[Version, ...] = (),
    ) -> None:
        """Commit one API's record, route and versions together; Refused on a conflict."""
        await self.commit(writes_of(before, record, route, drop_versions, versions), epoch)

    async def commit(self, writes: Sequence[Write], epoch: int) -> None:
        """Carry out writes of several APIs, all or none; Refused on a conflict."""
        await self._store.commit(writes, epoch)


def writes_of(
    before: StoredApi | None,
    record: ApiRecord | None,
    route: Route | None,
    drop_versions: tuple[str, ...] = (),
    versions: tuple[Version, ...] = (),
) -> list[Write]:
    """Return the writes that put an API's record, route and versions in place."""
    name = record.name if record is not None else before.record.name if before else ""
    expect = before.store_revision if before else 0
    return [
        Write(key=api_key(name), value=wire.encode(record) if record else None, expect=expect),
        Write(key=route_key(name), value=wire.encode(route) if route else None),
        *([] if record else [Write(key=learned_key(name), value=None)]),
        *(Write(key=version_key(name, v.name), value=wire.encode(v)) for v in versions),
        *(Write(key=version_key(name, old), value=None) for old in drop_versions),
    ]


def _content(
    mark: str,
    before: Content,
    apis: Snapshot,
    versions: Snapshot,
    routes: Snapshot,
    nodes: Snapshot,
) -> Content:
    return Content(
        mark=mark,
        revision=apis.revision,
        records=_decoded(apis, before.records, ApiRecord, lambda one: api_key(one.name)),
        versions=_decoded(
            versions, before.versions, Version, lambda one: version_key(one.api, one.name)
        ),
        routes=_decoded(routes, before.routes, Route, lambda one: route_key(one.api)),
        intents=_decoded(nodes, before.intents, NodeIntent, lambda one: node_key(one.node)),
    )


def _changed(snapshot: Snapshot, known: Decoded[T]) -> int:
    """Return how many entries are not known as they are."""
    return sum(
        (found := known.get(entry.key)) is None or found[0] != entry.revision
        for entry in snapshot.entries
    )


def _decoded(
    snapshot: Snapshot, known: Decoded[T], kind: type[T], key_of: Callable[[T], str]
) -> Decoded[T]:
    return {
        entry.key: found
        if (found := known.get(entry.key)) is not None and found[0] == entry.revision
        else (entry.revision, _value(entry, kind, key_of))
        for entry in snapshot.entries
    }


def _value(entry: Entry, kind: type[T], key_of: Callable[[T], str]) -> T | Unreadable:
    try:
        value = wire.decode(entry.value, kind)
    except ConfigError as error:
        newer = wire.without_unknown(entry.value, kind)
        if newer is None:
            return _damaged(f"the store's key {entry.key} cannot be read: {error}")
        return Unreadable(
            f"the store's key {entry.key} was written by a newer Serai (it tells "
            f"{', '.join(newer[1])}): update this scheduler, too"
        )
    if key_of(value) != entry.key:
        return _damaged(f"the store's key {entry.key} holds what belongs to {key_of(value)}")
    return value


def _damaged(why: str) -> Unreadable:
    return Unreadable(f"{why}; {MENDING}")


def _readable(values: Decoded[T]) -> Iterator[tuple[str, int, T]]:
    for key, (revision, value) in values.items():
        if not isinstance(value, Unreadable):
            yield key, revision, value


def _apis(content: Content) -> tuple[dict[str, StoredApi], dict[str, str]]:
    """Return the APIs, and why others cannot be told. One fault leaves all other APIs alone."""
    faults = {
        key.removeprefix(APIS): value.why
        for key, (_, value) in content.records.items()
        if isinstance(value, Unreadable)
    }
    by_api: dict[str, dict[str, Version]] = {}
    for _, _, version in _readable(content.versions):
        by_api.setdefault(version.api, {})[version.name] = version
    apis = {}
    for _, revision, record in _readable(content.records):
        mine = by_api.get(record.name, {})
        if why := _lacking(record, mine, content.versions):
            faults[record.name] = why
        else:
            apis[record.name] = StoredApi(record=record, store_revision=revision, versions=mine)
    return apis, faults


def _lacking(
    record: ApiRecord, versions: Mapping[str, Version], values: Decoded[Version]
) -> str | None:
    """Say which version that may have replicas cannot be told; None when all can."""
    for name in record.versions:
        if name not in versions:
            key = version_key(record.name, name)
            _, value = values.get(key, (0, _damaged(f"the store's key {key} is missing")))
            return value.why if isinstance(value, Unreadable) else None
    return None
