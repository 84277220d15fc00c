"""TLS: files of certificates, by their paths; what is in them is read by the process that uses them."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from largeforge.recipe.base import Strict


class ServerTls(Strict):
    """How the gateway speaks TLS to clients; files are read again when it reloads, so that they can be renewed."""

    certificate: str = ""
    """PEM file of the certificate and those between it and its authority; empty means plain HTTP."""
    key: str = ""
    """PEM file of its key, without a password, which other users must not be able to read."""
    client_ca: str = ""
    """PEM file of authorities: clients must show a certificate that one of them has signed. Empty asks for none."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are given together")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs certificate and key")
        return self


class UpstreamTls(Strict):
    """How the gateway speaks TLS to servers whose address begins with `https`."""

    ca: str = ""
    """PEM file of authorities that servers' certificates must come from; empty means those of the system."""
    certificate: str = ""
    """PEM file of the certificate that the gateway shows to servers; empty shows none."""
    key: str = ""
    """PEM file of its key, which other users must not be able to read."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are given together")
        return self
