"""Put the metrics of all workers on one page: every series gets the label `worker`.

So a worker that is started anew resets only its own counters, as Prometheus expects of a process; `sum` over workers
is the gateway.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAMPLE = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{?)", re.MULTILINE)
_FAMILY = re.compile(rb"^# HELP (\S+) .*\n(?:# TYPE .*\n)?", re.MULTILINE)


def merged(pages: Mapping[int, bytes]) -> bytes:
    """Return pages in Prometheus' text format as one page."""
    heads: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for worker, page in pages.items():
        places = list(_FAMILY.finditer(page))
        for place, end in zip(places, [*(one.start() for one in places[1:]), len(page)], strict=True):
            heads.setdefault(place[1], place[0])
            samples.setdefault(place[1], []).append(_labelled(page[place.end() : end], worker))
    return b"".join(head + b"".join(samples[name]) for name, head in heads.items())


def _labelled(lines: bytes, worker: int) -> bytes:
    label = b'worker="%d"' % worker

    def insert(found: re.Match[bytes]) -> bytes:
        return b"%b{%b," % (found[1], label) if found[2] else b"%b{%b}" % (found[1], label)

    return _SAMPLE.sub(insert, lines)
