"""Authorities that sign certificates, made by openssl in a moment, for what speaks TLS in tests."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Tls:
    """What one side of TLS has: whom it trusts, and what it shows of itself."""

    ca: str
    certificate: str
    key: str

    def trusting(self, other: "Tls") -> "Tls":
        return replace(self, ca=other.ca)

    def showing(self, other: "Tls") -> "Tls":
        return replace(self, certificate=other.certificate, key=other.key)


class Authority:
    """One whose certificates are believed by who has its own; all files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._ca, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", *NEW_KEY, "-days", "2", "-subj", f"/CN={folder.name}"),
            *("-out", self._ca, "-keyout", self._key),
        )

    def issue(self, name: str, names: str = "", days: int = 2) -> Tls:
        """Sign a certificate for `names`, as openssl writes them; days below 0 are over."""
        made, key, asked, more = (
            self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext")
        )
        more.write_text(f"subjectAltName={names or f'DNS:{name}'}\n")
        _openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-out", asked, "-keyout", key)
        _openssl(
            *("x509", "-req", "-in", asked, "-CA", self._ca, "-CAkey", self._key),
            *("-days", str(days), "-extfile", more, "-out", made),
        )
        return Tls(ca=str(self._ca), certificate=str(made), key=str(key))


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
