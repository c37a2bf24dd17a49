"""Connections follow from open files; a folder may be deep; lines of commands stay short."""

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from serai_agent.edge.config import MAXCONN_CAP, MAXCONN_FLOOR, maxconn_for
from serai_agent.edge.layout import CLASSES
from serai_agent.edge.socket import LINE_LIMIT_BYTES, SOCKET_PATH_LIMIT_BYTES, lines_of, reachable
from serai_agent.edge.startup import MAX_SLOTS_PER_CLASS, grown


@given(st.integers(0, 10_000_000))
def test_connections_leave_room_for_other_files(limit: int) -> None:
    found = maxconn_for(limit)
    assert MAXCONN_FLOOR <= found <= MAXCONN_CAP
    assert found == MAXCONN_FLOOR or 2 * found < limit


def test_common_limits() -> None:
    assert [maxconn_for(n) for n in (256, 1024, 4096, 1_048_576)] == [64, 362, 1843, MAXCONN_CAP]


def test_a_socket_in_a_deep_folder_can_be_bound(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    folder.mkdir(parents=True)
    path = folder / "log.sock"
    assert len(str(path)) > SOCKET_PATH_LIMIT_BYTES
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one, reachable(path) as short:
        one.bind(short)
    assert path.is_socket()


@given(st.lists(st.text("ab ", min_size=1, max_size=4000), max_size=40))
def test_commands_are_joined_without_loss(commands: list[str]) -> None:
    lines = list(lines_of(commands))
    assert ";".join(lines) == ";".join(commands)
    assert all(len(line) <= LINE_LIMIT_BYTES for line in lines)


def test_slots_double_until_there_are_enough_up_to_a_limit() -> None:
    kind, label = CLASSES[0], CLASSES[0].label
    slots = dict.fromkeys(CLASSES, 8)
    more = grown(slots, {label: 1})
    assert more[kind] == 16 and more[CLASSES[1]] == 8
    assert grown(slots, {label: 30})[kind] == 64
    most = grown(slots, {label: 10**6})
    assert most[kind] == MAX_SLOTS_PER_CLASS and grown(most, {label: 1}) == most
    assert grown({}, {label: 1})[kind] == 1
