"""Certificates for tests: an authority of one's own and what it signs, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Signs certificates; `ca` is the file that others trust."""

    def __init__(self, folder: Path, name: str = "authority"):
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _named(name)
        signed = (
            _builder(self._subject, self._subject, self._key, days=1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path = folder / f"{name}.ca.pem"
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        self.ca = str(path)

    def issue(self, name: str = "server", *, hosts: Sequence[str] = LOOPBACK, days: float = 1) -> Pair:
        """Write a certificate for hosts, which is over already with negative `days`; the same name writes it anew."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = (
            _builder(_named(name), self._subject, key, days=days)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(*(str(self._folder / f"{self._name}.{name}.{kind}.pem") for kind in ("certificate", "key")))
        (self._folder / pair.certificate).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        file = self._folder / pair.key
        file.touch(mode=0o600)
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=abs(days) + 1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
