"""Taking a port, with one clear line when it cannot be had."""

import errno
import ipaddress
import socket

from serai.errors import ConfigError

ANYWHERE = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine itself reaches what listens on all of its addresses."""


def url_here(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL at which this machine itself reaches what listens on `host` and `port`."""
    host = ANYWHERE.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches what listens on `host`; of a name, only localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; "" and "*" stand for any address.

    Raises ConfigError that says what to do when the address or the port cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            None if host in ("", "*") else host,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot(host, port, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()  # some systems report a taken port only here
    except OSError as error:
        sock.close()
        raise _cannot(host, port, error) from error
    return sock


def _cannot(host: str, port: int, error: OSError) -> ConfigError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        hint = "choose an address or name of this machine with --host"
    elif error.errno == errno.EACCES:
        hint = "choose a port above 1023, or run as a user that may take it"
    else:
        hint = "stop what uses it or choose another port"
    return ConfigError(f"cannot listen on {host or '*'}:{port}: {error.strerror}; {hint}")
