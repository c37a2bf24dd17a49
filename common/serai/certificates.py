"""Why TLS failed and what to do, out of the errors that libraries wrap each other's in. Pure."""

import errno
import ssl
from collections import deque
from collections.abc import Iterator

from serai.model import Value

MOST_ERRORS = 20
NOT_YET_VALID, EXPIRED, OTHER_HOST, OTHER_ADDRESS = 9, 10, 62, 64
"""OpenSSL's X509_V_ERR_…, which say why a certificate is not believed."""
CERTIFICATE_WANTED = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
CERTIFICATE_REFUSED = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "missing, or not signed by its CA",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "expired, or not signed by its CA",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "unknown to it",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "not for clients",
    "TLSV1_ALERT_UNKNOWN_CA": "not signed by its CA",
}
"""What the other side calls our certificate. Go says `bad` also when it got none with TLS 1.2."""
PLAIN_TO_TLS = "Client sent an HTTP request to an HTTPS server"
"""How a server of Go, as Nomad and Consul are, answers HTTP at a port for HTTPS; status 400."""


class TlsKeys(Value):
    """The settings that TLS to one program hangs on, as messages name them; "" where none does."""

    ca: str = ""
    address: str = ""
    certificate: str = ""


NO_KEYS = TlsKeys()


def why_no_tls(error: BaseException, keys: TlsKeys = NO_KEYS) -> str:
    """Return in words why there is no TLS and what to do, "" for an error of another kind."""
    for one in _causes(error):
        # aiohttp's own errors are of these types, too, but say nothing of their own.
        if isinstance(one, ssl.SSLCertVerificationError) and hasattr(one, "verify_message"):
            why = f"its certificate cannot be verified ({one.verify_message.rstrip('.')})"
            return why + _then(_verified_when(one.verify_code, keys))
        reason = getattr(one, "reason", None)
        if not isinstance(one, ssl.SSLError) or not isinstance(reason, str):
            continue
        if reason == "WRONG_VERSION_NUMBER":
            at = f"see `{keys.address}`, the port and whether TLS is on there"
            return "it does not speak TLS at this port" + _then(at if keys.address else "")
        shown = f"name one that its CA has signed, and the key, {_in_settings(keys)}"
        if reason == CERTIFICATE_WANTED:
            return "it asks for a certificate, and none is shown" + _then(shown)
        if reason in CERTIFICATE_REFUSED:
            why = f"it refuses this program's certificate ({CERTIFICATE_REFUSED[reason]})"
            return why + _then(shown)
    return ""


def hint_if_cut_off(error: BaseException, keys: TlsKeys) -> str:
    """Return what else a connection that just ended may mean, "" for an error of another kind.

    With TLS 1.3 a certificate is refused after the caller has begun to send, and why is told in
    vain when the end overtakes it.
    """
    if not keys.certificate:
        return ""
    for one in _causes(error):
        reset = isinstance(one, OSError) and one.errno in (errno.ECONNRESET, errno.EPIPE)
        if reset or isinstance(one, ssl.SSLEOFError):
            return f"; it may refuse this program's certificate: see `{keys.certificate}`"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = deque([error]), 0
    while waiting and seen < MOST_ERRORS:
        one, seen = waiting.popleft(), seen + 1
        yield one
        # `reason` of urllib3, `os_error` and `certificate_error` of aiohttp.
        wrapped = (getattr(one, name, None) for name in ("reason", "os_error", "certificate_error"))
        causes = (one.__cause__, one.__context__, *wrapped, *one.args)
        waiting.extend(cause for cause in causes if isinstance(cause, BaseException))


def _verified_when(code: int, keys: TlsKeys) -> str:
    if code == EXPIRED:
        return "renew the certificate there, or set the clock here"
    if code == NOT_YET_VALID:
        return "set the clock here or there"
    if code in (OTHER_HOST, OTHER_ADDRESS):
        call = f"call it in `{keys.address}` as that does, or " if keys.address else ""
        return f"{call}give it one for the name it is called by"
    return f"name the certificates that it is checked by in `{keys.ca}`" if keys.ca else ""


def _in_settings(keys: TlsKeys) -> str:
    certificate = keys.certificate
    if not certificate:
        return "where it can be told of it"
    return f"in `{certificate}` and `{certificate.removesuffix('certificate')}key`"


def _then(what_to_do: str) -> str:
    return f"; {what_to_do}" if what_to_do else ""
