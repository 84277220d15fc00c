"""What a request's head must not leave open: which version it is, for which host, and where its body ends.

The parser refuses most of it; this is what it lets pass, and what a proxy before the gateway may have read differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_BYTES = 65_536
"""Largest head of a request."""
VERSIONS = ("1.1", "1.0")


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by their names; of several with one name the first, as everywhere."""
    return dict(reversed(headers))


def fault(headers: Iterable[tuple[bytes, bytes]], version: str) -> str:
    """Return why a head is refused, or an empty string; names are in lower case (RFC 9112, 3.2, 6.1)."""
    num_hosts, codings, size = 0, [], 0
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            num_hosts += 1
        elif name == b"transfer-encoding":
            codings.append(value.strip().lower())
    if size > MOST_BYTES:
        return f"The headers are larger than {MOST_BYTES >> 10} KiB."
    if version not in VERSIONS:
        return f"HTTP/{version} is not spoken here; use HTTP/1.1."
    if num_hosts > 1 or (not num_hosts and version == "1.1"):
        return "A request must have exactly one Host header."
    if codings and (version == "1.0" or codings != [b"chunked"]):
        return "The only transfer encoding is 'chunked', once, in HTTP/1.1."
    return ""


def framing(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the header line that says where the body ends; empty when there is no body."""
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")):
            return b"%b: %b\r\n" % (name, value)
    return b""
