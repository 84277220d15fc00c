"""This machine's clock agrees with the servers that it talks to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight import servers
from largeforge.preflight.finding import Finding, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

MAX_SKEW_S = 60
"""Signed URLs and TLS bear minutes; a `Date` header has whole seconds and a network its delay."""


def check(context: Context) -> Iterator[Finding]:
    """Compare the clock with the `Date` header of whatever is reached anyway."""
    from email.utils import parsedate_to_datetime

    replies = [context.web.get(url, headers) for url, headers in servers.reached(context)]
    skews = []
    for reply in replies:
        try:
            skews.append((reply.at - parsedate_to_datetime(reply.date).timestamp(), reply.url))
        except (TypeError, ValueError):
            continue
    if not skews:
        yield skipped("nothing to compare with: no server is reached for this")
        return
    skew, url = min(skews, key=lambda found: abs(found[0]))
    if abs(skew) > MAX_SKEW_S:
        ahead = "ahead of" if skew > 0 else "behind"
        text = f"this machine's clock is {abs(skew):.0f} s {ahead} {servers.host_of(url)}"
        yield warning(text, "sudo timedatectl set-ntp true; timedatectl")
    else:
        yield ok(f"within {MAX_SKEW_S} s of {servers.host_of(url)}")
