"""Short ways to write routes and servers."""

from collections.abc import Sequence

from serai.model import Server
from serai.routes import Route, VersionShare


def server(
    api: str = "iris", version: str = "v1", number: int = 1, port: int = 9000, capacity: int = 2
) -> Server:
    replica = f"{api}.{version}.{number}"
    return Server(
        id=f"{replica}.0",
        replica=replica,
        api=api,
        version=version,
        host="10.0.0.1",
        port=port,
        capacity=capacity,
    )


def route(
    api: str = "iris",
    versions: Sequence[tuple[str, int]] = (("v1", 1000),),
    **changes: object,
) -> Route:
    fields: dict[str, object] = {
        "api": api,
        "endpoint": f"/{api}",
        "versions": tuple(VersionShare(version=v, share=s) for v, s in versions),
        "queue_limit": 10,
        "queue_timeout_s": 30,
        "hold_limit_s": 60,
        "first_byte_s": 60.0,
        "idle_s": 90.0,
        "total_s": 600.0,
        "body_max_bytes": 1000,
        "retry": "connection",
        "draining": (),
        "retry_after_s": 7,
        "revision": 1,
        "epoch": 1,
    }
    return Route(**{**fields, **changes})  # type: ignore[arg-type]  # checked by the tests
