"""The runtime's code as a blob: what is packed is what is read, and nothing else is taken."""

import pytest

from serai.errors import ConfigError
from serai.model import digest_of
from serai.runtime_code import (
    pack_runtime,
    read_runtime,
    runtime_blob,
    runtime_digest,
    runtime_files,
)


def test_the_digest_is_that_of_the_blob() -> None:
    assert digest_of(runtime_blob()) == runtime_digest()
    assert read_runtime(runtime_blob()) == {p.name: p.read_bytes() for p in runtime_files()}


def test_the_digest_does_not_depend_on_the_order_of_files() -> None:
    files = read_runtime(runtime_blob())
    assert pack_runtime(dict(reversed(files.items()))) == runtime_blob()


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"a.py",
        b"a.py\0x\0b.py",
        b"../a.py\0x",
        b"/etc/a.py\0x",
        b"a.so\0x",
        b"a.py\0x\0a.py\0y",
    ],
)
def test_what_was_never_packed_is_refused(blob: bytes) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        read_runtime(blob)
