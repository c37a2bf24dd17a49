"""How HAProxy takes clients: in the clear, or over TLS with a certificate. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Certificate:
    """A PEM file with certificate, chain and key; after a renewal it has another `mark`.

    The path is absolute, for HAProxy runs in its state folder.
    """

    path: str
    mark: str


def bind_line(host: str, port: int, certificate: Certificate | None) -> str:
    """Return the line of the public frontend.

    HTTP/1.1 over TLS as without: a drain tells clients to go by closing connections.
    """
    line = f"    bind {host}:{port}"
    if certificate is None:
        return line
    path = certificate.path.replace("'", "'\\''")
    return (
        f"    # The certificate is {certificate.mark}.\n"
        f"{line} ssl crt '{path}' ssl-min-ver TLSv1.2 alpn http/1.1"
    )
