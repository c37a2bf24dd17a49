"""The store's content as records, decoded only when it changed."""

from collections.abc import Sequence
from typing import TypeVar

from serai import wire
from serai.model import Version
from serai.routes import Route
from serai.store import Entry, Store, Write
from serai_scheduler.record import (
    APIS,
    ROUTES,
    VERSIONS,
    ApiRecord,
    StoredApi,
    api_key,
    route_key,
    version_key,
)

T = TypeVar("T")


class State:
    """Reads and writes records; keeps what it decoded, by key and revision."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: dict[str, tuple[int, ApiRecord]] = {}
        self._versions: dict[str, tuple[int, Version]] = {}
        self._routes: dict[str, tuple[int, Route]] = {}
        self.revision = 0
        """The store's revision at the last read."""

    async def read(self) -> dict[str, StoredApi]:
        """Return every API by name."""
        apis = await self._store.scan(APIS)
        versions = await self._store.scan(VERSIONS)
        routes = await self._store.scan(ROUTES)
        self.revision = apis.revision
        self._records = {e.key: _decoded(e, self._records, ApiRecord) for e in apis.entries}
        self._versions = {e.key: _decoded(e, self._versions, Version) for e in versions.entries}
        self._routes = {e.key: _decoded(e, self._routes, Route) for e in routes.entries}
        by_api: dict[str, dict[str, Version]] = {}
        for _, version in self._versions.values():
            by_api.setdefault(version.api, {})[version.name] = version
        return {
            record.name: StoredApi(
                record=record, store_revision=revision, versions=by_api.get(record.name, {})
            )
            for revision, record in self._records.values()
        }

    def route(self, api: str) -> Route | None:
        """Return the route that the last `read` saw."""
        found = self._routes.get(route_key(api))
        return found[1] if found else None

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
        *(Write(key=version_key(name, v.name), value=wire.encode(v)) for v in versions),
        *(Write(key=version_key(name, old), value=None) for old in drop_versions),
    ]


def _decoded(entry: Entry, known: dict[str, tuple[int, T]], kind: type[T]) -> tuple[int, T]:
    found = known.get(entry.key)
    if found is not None and found[0] == entry.revision:
        return found
    return entry.revision, wire.decode(entry.value, kind)
