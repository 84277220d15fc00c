"""The servers behind the gateway, and the experts that they answer for.

A server (`Backend`) may answer for several experts: a model and the adapters on it. An expert may have several servers:
its replicas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from largeforge.gateway.breaker import Breaker
from largeforge.gateway.connection import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from ssl import SSLContext

    from largeforge.gateway.config import GatewayFile, Upstream
    from largeforge.gateway.crew.counts import Count

State = Literal["unknown", "up", "down"]
CANARY = "@canary"
"""Behind an expert's name: its servers that get a share of its requests."""
MOST_HEADER_CHARS = 256
"""What comes after in a header value is cut off."""


class Backend:
    """One server: its connections, what it has to do, and whether it is well."""

    def __init__(
        self, url: str, *, limit: int, connect_timeout_s: float, breaker: Breaker, since: float = 0.0,
        tls: SSLContext | None = None,
    ):  # fmt: skip
        self.url = url
        self.limit = limit
        """Requests that it takes at once; 0 for any number."""
        self.pool = Pool(url, connect_timeout_s=connect_timeout_s, tls=tls)
        self.breaker = breaker
        self.outstanding = 0
        """Requests of this process that it has not finished."""
        self.count: Count | None = None
        """Where the workers of a gateway count them together; None where there is one."""
        self.state: State = "unknown"
        self.reason = "not probed yet"
        self.why = ""
        """In one word why it is down."""
        self.since = since
        self.experts: dict[str, None] = {}
        """Experts that it answers for, also those of earlier topologies, whose requests may still wait."""
        self.is_drained = False
        """Whether operators let it have no new requests."""

    @property
    def is_well(self) -> bool:
        """Whether a request may be sent to it."""
        return self.state != "down" and not self.is_drained and self.breaker.lets_through

    @property
    def has_room(self) -> bool:
        """Whether it takes another request at once."""
        return not self.limit or self.load < self.limit

    @property
    def load(self) -> int:
        """Requests that it has not finished, of all workers."""
        return self.outstanding if self.count is None else self.outstanding + self.count.of_others

    def take(self) -> None:
        """Count a request that goes there."""
        self.outstanding += 1
        if self.count is not None:
            self.count.add(1)

    def give_back(self) -> None:
        """Count a request that is done."""
        self.outstanding -= 1
        if self.count is not None:
            self.count.add(-1)

    @property
    def trouble(self) -> str:
        """Why it is not used, in words; empty when it is."""
        if self.state == "down":
            return self.reason
        if self.is_drained:
            return "is drained"
        return "" if self.breaker.lets_through else "failed again and again and is left alone for a while"


@dataclass(frozen=True, eq=False, slots=True)
class Replica:
    """One server of one expert: what it calls the model, and the headers that name it to clients."""

    expert: str
    backend: Backend
    served_model: str
    model: str
    """Reference of the model."""
    lock: str
    """Digest of the lock of the run that made the model."""
    headers: tuple[tuple[bytes, bytes], ...]
    arm: str = "stable"

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self.backend.url


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """One expert with its replicas, or those of its canary."""

    name: str
    """The expert's; of a canary with `CANARY` behind."""
    replicas: tuple[Replica, ...]

    @property
    def is_down(self) -> bool:
        """Whether no replica may be asked; one that was not probed yet is worth a try."""
        return not any(replica.backend.is_well for replica in self.replicas)

    @property
    def is_up(self) -> bool:
        """Whether some replica answered its last probe and is in use."""
        return any(replica.backend.state == "up" and replica.backend.is_well for replica in self.replicas)

    @property
    def is_drained(self) -> bool:
        """Whether operators have taken a replica out of use for a while: another one is to come in its place."""
        return any(replica.backend.is_drained for replica in self.replicas)

    @property
    def trouble(self) -> str:
        """Why no replica is used, in words."""
        said = dict.fromkeys(replica.backend.trouble for replica in self.replicas)
        return " / ".join(reason for reason in said if reason)


def targets(
    file: GatewayFile, *, clock: Callable[[], float], wall_clock: Callable[[], float],
    kept: Mapping[str, Backend] = {}, tls: SSLContext | None = None,
) -> dict[str, Target]:  # fmt: skip
    """Return the experts of a gateway file, in the order of the topology, each followed by its canary if it has one.

    Servers of `kept` are taken over with their connections and what is known of them, so that a new file changes
    nothing for those that it still names; `adopt` then gives them what the file says of them.
    """
    backends: dict[str, Backend] = {}
    found = {}
    for key, name, upstreams in _arms(file):
        replicas = []
        for upstream in upstreams:
            backend = backends.get(upstream.url)
            if backend is None:
                backend = backends[upstream.url] = kept.get(upstream.url) or _backend(
                    file, upstream, clock, wall_clock(), tls
                )
            headers = _headers(name, upstream)
            replicas.append(
                Replica(name, backend, upstream.served_model, upstream.model, upstream.lock, headers, upstream.arm)
            )
        found[key] = Target(key, tuple(replicas))
    return found


def adopt(file: GatewayFile, experts: Mapping[str, Target], tls: SSLContext | None) -> None:
    """Give the servers what a gateway file says of them, once it is in force."""
    for key, _, upstreams in _arms(file):
        for upstream, replica in zip(upstreams, experts[key].replicas, strict=True):
            backend = replica.backend
            backend.experts[key] = None
            backend.limit, backend.breaker.settings = upstream.limit, file.gateway.breaker
            backend.pool.tls = tls


def backends(experts: Mapping[str, Target]) -> dict[str, Backend]:
    """Return the servers of all experts by address, each once."""
    return {replica.url: replica.backend for target in experts.values() for replica in target.replicas}


def forget_drained(old: Mapping[str, Target], new: Mapping[str, Target]) -> None:
    """Have nobody wait for drained servers that are not part of the topology any more."""
    for server in set(backends(old).values()).difference(backends(new).values()):
        if server.is_drained:
            server.is_drained, server.state, server.reason = False, "down", "is not served any more"


def header_value(text: str) -> bytes:
    """Return any text as a header value: what is not printable ASCII is percent-encoded, long text is cut."""
    return _header_value(text[:MOST_HEADER_CHARS])


@lru_cache(4096)
def _header_value(text: str) -> bytes:
    return quote(text, safe=" !#$&'()*+,/:;=?@[]~")[:MOST_HEADER_CHARS].encode()


def _arms(file: GatewayFile) -> Iterator[tuple[str, str, list[Upstream]]]:
    """Yield the servers of each expert, and of each canary, with its key among targets and the expert's name."""
    for name in file.topology.experts:
        for arm, key in (("stable", name), ("canary", name + CANARY)):
            if servers := [server for server in file.upstreams[name] if server.arm == arm]:
                yield key, name, servers


def _backend(
    file: GatewayFile, upstream: Upstream, clock: Callable[[], float], now: float, tls: SSLContext | None
) -> Backend:
    breaker = Breaker(file.gateway.breaker, clock)
    timeout_s = file.gateway.connect_timeout_s
    return Backend(upstream.url, limit=upstream.limit, connect_timeout_s=timeout_s, breaker=breaker, since=now, tls=tls)


def _headers(name: str, upstream: Upstream) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-largeforge-expert", name.encode()),
        (b"x-largeforge-model", header_value(upstream.model)),
        (b"x-largeforge-lock", header_value(upstream.lock)),
    )
