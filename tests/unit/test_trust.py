"""What a program shows of itself: files that cannot be used are told, and nobody is asked."""

import subprocess
from pathlib import Path

import pytest

from serai.errors import ConfigError
from serai.trust import client_tls, server_tls
from tests.support.certificates import Authority


def test_a_key_with_a_password_is_told_by_whoever_shows_it(tmp_path: Path) -> None:
    made = Authority(tmp_path / "ca").issue("one")
    locked = str(tmp_path / "locked.key")
    command = ["openssl", "pkey", "-in", made.key, "-aes256", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", locked], check=True, capture_output=True)
    told = f"cannot use {made.certificate} with the key {locked}: the key is encrypted"
    with pytest.raises(ConfigError, match=f"listen.certificate: {told}"):
        server_tls("listen", made.certificate, locked)
    with pytest.raises(ConfigError, match=f"nomad.certificate: {told}"):
        client_tls("nomad", made.ca, made.certificate, locked)
    assert server_tls("listen", made.certificate, made.key) is not None
    assert server_tls("listen", "", "") is None
