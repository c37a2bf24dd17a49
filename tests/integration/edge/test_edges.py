"""What goes wrong around a gateway: processes that die, folders, ports, limits, odd requests."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import psutil
import pytest

from serai.clock import SystemClock
from serai.errors import ConfigError, Unavailable
from serai.routes import Route
from serai_agent.edge.gateway import HaproxyGateway
from tests.integration.edge.asking import get
from tests.support.gateways import FEW_SLOTS, PROGRAMS, Edge, route
from tests.support.ports import free_port
from tests.support.wait import auntil

BOTH = pytest.mark.parametrize("version", ["2.6", "2.8"])


def made(folder: Path, port: int, version: str) -> HaproxyGateway:
    return HaproxyGateway(
        folder,
        "127.0.0.1",
        port,
        SystemClock(),
        run="run",
        program=PROGRAMS[version],
        slots=FEW_SLOTS,
    )


async def ended(gateway: HaproxyGateway) -> None:
    pid = gateway.pid()
    await gateway.stop(0.2)
    with contextlib.suppress(psutil.NoSuchProcess):  # what nobody has waited for is a zombie yet
        assert pid is None or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_haproxy_that_was_killed_comes_back_with_everything(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    pid = one.gateway.pid()
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    await auntil(lambda: one.gateway.pid() is None)
    await one.gateway.apply([route()], [backend.server()])
    async with client.get(f"{one.url}/iris") as response:
        assert response.status == 200
    assert one.gateway.pid() not in (None, pid)


async def test_what_was_let_in_is_answered_while_others_are_refused(one: Edge) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(b"GET /iris HTTP/1.1\r\n")
    await writer.drain()
    ending = asyncio.create_task(one.gateway.stop(5.0))
    await auntil(lambda: _is_refused(one.port))
    writer.write(b"Host: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await ending
    assert one.gateway.pid() is None


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_another_port_is_taken_over_by_one_reload(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    pid = one.gateway.pid()
    one.gateway.detach()
    one.port = free_port()
    again = one.attach()
    await again.start()
    assert again.pid() == pid and again.reloads == 1
    async with client.get(f"{one.url}/iris") as response:
        assert response.status == 200
    again.detach()
    third = one.attach()
    await third.start()
    assert third.reloads == 0, "nothing differs any more"


@BOTH
async def test_a_port_in_use_is_one_clear_line(version: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = made(tmp_path / "gateway", port, version)
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}.*another port"):
            await gateway.start()
        assert gateway.pid() is None


@BOTH
async def test_two_starts_on_one_folder_make_one_haproxy(version: str, tmp_path: Path) -> None:
    port = free_port()
    both = [made(tmp_path / "gateway", port, version) for _ in range(2)]
    try:
        results = await asyncio.gather(*(g.start() for g in both), return_exceptions=True)
        assert all(r is None or isinstance(r, Unavailable) for r in results), results
        assert None in results
        reading = await both[results.index(None)].read()
        assert reading.ready and both[0].pid() == both[1].pid()
    finally:
        await ended(both[0])


@BOTH
async def test_a_deep_folder_and_few_open_files_are_enough(
    version: str, tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    folder = tmp_path.joinpath(*["a-folder-with-a-rather-long-name"] * 4, "gateway")
    port = free_port()
    script = (
        "import asyncio, resource, sys; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))\n"
        "from tests.integration.edge.test_edges import made\n"
        "from tests.support.gateways import route\n"
        "async def main() -> None:\n"
        "    one = made(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])\n"
        "    await one.start()\n"
        "    await one.apply([route(hold_limit_s=0)], [])\n"
        "    print((await one.read()).ready)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(folder), str(port), version],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    gateway = made(folder, port, version)
    try:
        assert done.stdout.strip() == "True", done.stderr
        assert "maxconn 106" in (folder / "haproxy.cfg").read_text()
        async with client.get(f"http://127.0.0.1:{port}/iris") as response:
            assert response.status == 503
    finally:
        await ended(gateway)


async def test_a_replica_that_dies_is_seen_without_any_request(one: Edge) -> None:
    dying, living = await one.backend("dying"), await one.backend("living")
    servers = [dying.server(number=1), living.server(number=2)]
    await one.gateway.apply([route()], servers)
    await dying.stop()

    async def states() -> dict[str, str]:
        return {s.server: s.state for s in (await one.gateway.read()).servers}

    async def seen() -> bool:
        return await states() == {"iris.v1.1.0": "down", "iris.v1.2.0": "up"}

    await auntil(seen, within_s=4.0)
    await dying.start()

    async def back() -> bool:
        return set((await states()).values()) == {"up"}

    await auntil(back, within_s=4.0)


async def test_an_api_declared_idempotent_has_its_posts_repeated(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    bad, good = await one.backend("bad"), await one.backend("good")
    bad.cuts = True
    await one.gateway.apply(
        [route(retry="idempotent")], [bad.server(number=1), good.server(number=2)]
    )
    statuses: Counter[int] = Counter()
    for _ in range(20):
        async with client.post(f"{one.url}/iris", data=b"x" * 500) as response:
            statuses[response.status] += 1
    assert statuses == {200: 20} and bad.seen


async def raw(port: int, request: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().splitlines()
            if line.startswith(b"content-length")
        )
        return int(head.split()[1]), await reader.readexactly(length)
    finally:
        writer.close()


async def test_odd_requests_are_refused(one: Edge) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    huge = b"POST /iris HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2**32 + 1)
    status, body = await raw(one.port, huge)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    # HAProxy answers what is no HTTP by itself, with a page of its own that nothing can change.
    status, _ = await raw(one.port, b"GET /iris HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n")
    assert status == 400
    status, body = await raw(one.port, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")
    assert not backend.seen


async def test_a_version_without_replicas_does_not_hold_what_another_can_take(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    split = route(versions=[("v1", 900), ("v2", 100)], hold_limit_s=1)
    await one.gateway.apply([split], [backend.server(version="v2")])
    for _ in range(10):
        async with client.get(f"{one.url}/iris") as response:
            assert response.status == 200
    pinned = {"x-serai-version": "v1"}
    async with client.get(f"{one.url}/iris", headers=pinned) as response:
        assert response.status == 503, "a request that names a version gets that one or none"
    silent = route(versions=[("v1", 1000), ("v2", 0)], hold_limit_s=1, revision=2)
    await one.gateway.apply([silent], [backend.server(version="v2")])
    async with client.get(f"{one.url}/iris") as response:
        assert response.status == 503, "a version with no share gets nothing unasked"
    async with client.get(f"{one.url}/iris", headers={"x-serai-version": "v2"}) as response:
        assert response.status == 200


async def test_only_haproxys_own_metrics_are_on_the_metrics_socket(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    connector = aiohttp.UnixConnector(str(one.folder / "metrics.sock"))
    async with aiohttp.ClientSession(connector=connector) as inside:
        async with inside.get("http://gateway/metrics") as response:
            assert "haproxy_backend_current_queue" in await response.text()
        async with inside.get("http://gateway/other") as response:
            assert response.status == 404
    async with client.get(f"{one.url}/_serai/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "alive"})
    async with client.get(f"{one.url}/metrics") as response:
        assert response.status == 404


async def test_connections_to_replicas_are_used_again(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    for _ in range(30):
        async with client.get(f"{one.url}/iris") as response:
            assert response.status == 200
    connections = {id(request.transport) for request in backend.seen if request.transport}
    assert len(backend.seen) == 30 and len(connections) <= 2


async def test_an_api_that_changes_its_class_keeps_serving(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    for revision, timeout_s in enumerate((30, 5, 1, 120, 30), start=1):
        changed = route(queue_timeout_s=timeout_s, revision=revision)
        await one.gateway.apply([changed], [backend.server()])
        async with client.get(f"{one.url}/iris") as response:
            assert response.status == 200

        async def moved(changed: Route = changed) -> bool:
            await one.gateway.apply([changed], [backend.server()])
            return len((await one.gateway.read()).servers) == 1

        await auntil(moved)
    reading = await one.gateway.read()
    assert (reading.reloads, reading.repairs, reading.revisions) == (0, 0, {"iris": 5})


async def test_a_gateway_that_drains_says_so_and_serves_on(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    health = f"{one.url}/_serai/healthz"
    assert (await get(client, health))[0] == 200
    await one.gateway.drain()
    assert (await get(client, health))[0] == 503
    status, headers, _ = await get(client, f"{one.url}/iris")
    assert status == 200
    assert headers["connection"] == "close", "whoever keeps connections goes elsewhere, too"
    more = [route(f"api{n}") for n in range(6)]  # for which it has to reload
    await one.gateway.apply([route(), *more], [backend.server()])
    assert one.gateway.reloads == 1
    assert (await get(client, health))[0] == 503
    one.gateway.detach()
    again = one.attach()
    await again.start()
    assert (await get(client, health))[0] == 200, "the next agent means it to serve"
    assert again.reloads == 0
