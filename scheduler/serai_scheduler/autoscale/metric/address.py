"""Where Prometheus is: which addresses can be asked. Pure."""

from urllib.parse import urlsplit

EXAMPLE = "http://prometheus.example:9090"
QUERY_PATH = "/api/v1/query"
LABEL_LENGTH = 63
"""Of each part of a host's name (RFC 1035, 2.3.4)."""


def address_fault(address: str) -> str:
    """Return what is wrong with the address of a Prometheus, "" if nothing is or it is ""."""
    if not address:
        return ""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  # it is read only now
    except ValueError:
        return f"{address!r} is no URL such as {EXAMPLE}"
    odd = not (address.isascii() and address.isprintable()) or " " in address
    if odd or parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{address!r} is no URL such as {EXAMPLE}"
    if "@" in parts.netloc:
        return (
            "it should hold no user and no password, which would be shown: a Prometheus that asks "
            "for them needs a proxy before it that adds them"
        )
    labels = parts.hostname.removesuffix(".").split(".")
    if ":" not in parts.hostname and not all(0 < len(label) <= LABEL_LENGTH for label in labels):
        return f"{address!r} has a host that no name server can know"
    if "?" in address or "#" in address:
        return f"{address!r} should end with its path, if it has one: the query is put behind it"
    if parts.path.rstrip("/").endswith(QUERY_PATH):
        return f"{address!r} should be without {QUERY_PATH}, which is put behind it"
    return ""


def query_url(address: str) -> str:
    """Return where instant queries go."""
    return address.rstrip("/") + QUERY_PATH
