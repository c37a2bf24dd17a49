"""Asks a name server over UDP, as a client's resolver does, and reads what the tests need."""

import socket
import struct
from random import randrange

A, SRV = 1, 33
ANSWER_LIMIT_S = 2.0


def addresses(port: int, name: str) -> list[str]:
    """Return the IPv4 addresses that the server on a port of 127.0.0.1 gives for a name."""
    return sorted(socket.inet_ntoa(data) for data in _ask(port, name, A))


def ports(port: int, name: str) -> list[int]:
    """Return the ports of the SRV records of a name."""
    return sorted(struct.unpack("!H", data[4:6])[0] for data in _ask(port, name, SRV))


def _ask(port: int, name: str, kind: int) -> list[bytes]:
    number = randrange(2**16)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(ANSWER_LIMIT_S)
        udp.sendto(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + question, ("127.0.0.1", port))
        answer = udp.recv(4096)
    found, flags, _, count = struct.unpack("!4H", answer[:8])
    assert found == number and flags & 0x8000
    assert flags & 0xF in (0, 3), f"the server failed: {flags & 0xF}"  # 3: there is no such name
    at = 12 + len(question)
    records = []
    for _ in range(count):
        at = _after_name(answer, at)
        told, _, _, size = struct.unpack("!HHIH", answer[at : at + 10])
        if told == kind:
            records.append(answer[at + 10 : at + 10 + size])
        at += 10 + size
    return records


def _after_name(answer: bytes, at: int) -> int:
    while answer[at]:
        if answer[at] & 0xC0:  # the rest of it stands elsewhere
            return at + 2
        at += 1 + answer[at]
    return at + 1
