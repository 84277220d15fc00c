"""Contexts of TLS from certificates in files: for who is spoken to, and for who speaks.

TLS 1.2 and later. What is wrong with a file is said with the setting that names it; nothing of a key is ever shown.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import NoReturn

from largeforge.errors import Problem, RecipeError

_OTHERS = stat.S_IRWXO


def server_context(certificate: str, key: str, *, client_ca: str = "", section: str = "gateway.tls") -> ssl.SSLContext:
    """Return the context of a server; with `client_ca` clients must show a certificate of one of these authorities.

    Raises RecipeError with the key of `section` that is wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _show(context, certificate, key, section)
    if client_ca:
        _trust(context, client_ca, f"{section}.client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # a session that is taken up again would not show its certificate
        context.options |= ssl.OP_NO_TICKET
    return context


def client_context(
    *, ca: str = "", certificate: str = "", key: str = "", section: str = "", names: tuple[str, str, str] | None = None
) -> ssl.SSLContext:
    """Return the context of a client: without `ca` the authorities of the system, with `certificate` one to show.

    Raises RecipeError with what is wrong: the keys of `section`, or the `names` of ca, certificate and key.
    """
    names = names or (f"{section}.ca", f"{section}.certificate", f"{section}.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        _trust(context, ca, names[0])
    else:
        context.load_default_certs()
    if certificate:
        _show(context, certificate, key or certificate, section, names=names[1:])
    return context


def said(error: ssl.SSLError) -> str:
    """Return in words why TLS failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return (error.reason or str(error)).replace("_", " ").lower()


def _show(
    context: ssl.SSLContext, certificate: str, key: str, section: str, *, names: tuple[str, ...] | None = None
) -> None:
    """Load a certificate and its key."""
    of_certificate, of_key = names or (f"{section}.certificate", f"{section}.key")
    _read(certificate, of_certificate)
    mode = _read(key, of_key)
    if mode & _OTHERS:
        rule = f"can be read or written by every user (mode {stat.S_IMODE(mode):o}); a key is for its owner: chmod 600"
        _refuse(of_key, rule, key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Encrypted:
        _refuse(of_key, "is encrypted; give a key without a password, in a file that only its owner can read", key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            _refuse(of_key, f"is not the key of the certificate {certificate}", key)
        _refuse(of_certificate, f"is no certificate with its key {key} in PEM ({said(error)})", certificate)


def _trust(context: ssl.SSLContext, path: str, name: str) -> None:
    """Load the certificates of authorities."""
    _read(path, name)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        _refuse(name, f"has no certificates in PEM ({said(error)})", path)
    if not context.cert_store_stats()["x509"]:
        _refuse(name, "has no certificates in PEM", path)


def _read(path: str, name: str) -> int:
    """Return the mode of a file that can be read; ssl's own errors do not say which file it was."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
        return Path(path).stat().st_mode
    except OSError as error:
        _refuse(name, f"cannot be read: {error.strerror or error}", path)


class _Encrypted(Exception):
    pass


def _no_password() -> NoReturn:
    raise _Encrypted


def _refuse(name: str, rule: str, given: str) -> NoReturn:
    raise RecipeError([Problem(name, rule, given=given)]) from None
