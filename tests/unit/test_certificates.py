"""What is told of TLS that failed."""

import errno
import ssl

import pytest

from serai.certificates import NO_KEYS, TlsKeys, hint_if_cut_off, why_no_tls

KEYS = TlsKeys(ca="nomad.ca", address="nomad.host", certificate="nomad.certificate")


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (unverified(20, "unable to get"), "name the certificates that it is checked by in "),
        (
            unverified(10, "certificate has expired"),
            "renew the certificate there, or set ",
        ),
        (unverified(9, "certificate is not yet valid"), "set the clock here or there"),
        (unverified(62, "Hostname mismatch"), "call it in `nomad.host` as that does, or "),
        (
            unverified(64, "IP address mismatch"),
            "call it in `nomad.host` as that does, or ",
        ),
        (alert("WRONG_VERSION_NUMBER"), "see `nomad.host`, the port and whether TLS is on there"),
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "in `nomad.certificate` and `nomad.key`"),
        (alert("TLSV1_ALERT_UNKNOWN_CA"), "in `nomad.certificate` and `nomad.key`"),
    ],
)
def test_what_to_do_follows_from_why_it_failed(error: ssl.SSLError, told: str) -> None:
    wrapped = OSError("in the words of a library", error)
    _, _, what_to_do = why_no_tls(wrapped, KEYS).partition("; ")
    assert told in what_to_do
    assert "`" not in why_no_tls(error, NO_KEYS), "no setting is known"


def test_other_errors_are_not_of_tls() -> None:
    for error in (OSError("refused"), alert("HTTP_REQUEST"), ValueError()):
        assert why_no_tls(error, KEYS) == ""


def test_a_connection_that_is_cut_off_may_mean_a_certificate_that_is_refused() -> None:
    reset = ConnectionResetError(errno.ECONNRESET, "reset")
    for error in (reset, OSError("wrapped", reset), ssl.SSLEOFError(8, "EOF")):
        assert "see `nomad.certificate`" in hint_if_cut_off(error, KEYS)
        assert hint_if_cut_off(error, NO_KEYS) == ""
    assert hint_if_cut_off(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), KEYS) == ""
