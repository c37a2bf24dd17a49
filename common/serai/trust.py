"""How a program verifies the other side of TLS, and what it shows of itself: files to a context."""

import ssl

from serai.errors import ConfigError


def client_tls(section: str, ca: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """Return what calls are made with; ConfigError names the key of `section` that cannot be used.

    `ca` are the certificates to trust, "" for the system's; `certificate` and `key` are shown to
    who asks for one, both "" for none.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigError(f"{section}.ca: cannot use the certificates {ca}: {error}") from error
    if bool(certificate) != bool(key):
        raise ConfigError(
            f"{section}: a certificate needs its key and a key its certificate; name both files"
        )
    if certificate:
        _show(context, section, certificate, key)
    return context


def server_tls(section: str, certificate: str, key: str) -> ssl.SSLContext | None:
    """Return what calls are taken with, None for no `certificate`; ConfigError as above."""
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(context, section, certificate, key)
    return context


def check_pem(section: str, file: str) -> None:
    """See that a PEM file holds a certificate and its key, for a program that reads it itself.

    ConfigError as above.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(file, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{section}.certificate: cannot use {file}: {_why_unusable(error)}; it has to hold, in "
            "PEM, the certificate, those of its chain, and the key without a password"
        ) from error


def _show(context: ssl.SSLContext, section: str, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{section}.certificate: cannot use {certificate} with the key {key}: "
            f"{_why_unusable(error)}"
        ) from error


def _no_password() -> str:
    """Stand for the password of a key, which nobody is there to type."""
    raise ValueError("the key is encrypted; only keys without a password can be used")


def _why_unusable(error: OSError | ValueError) -> str:
    """Return what is wrong with the files of a certificate, without OpenSSL's ornaments."""
    told = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(told)
