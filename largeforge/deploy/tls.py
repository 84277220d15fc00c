"""Certificates with which gateways and model servers of a deployment know each other, and clients know gateways. Pure.

A host makes its own key, which never leaves it, and signs its certificate itself. A model server answers only those
whose certificates it was given: the gateways of its deployment, and its own host. A gateway asks only servers whose
certificates it was given. So there is no authority whose key could be stolen. Folders are named by what is in them:
what a release uses never changes, and another certificate is another release.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import digest
from largeforge.deploy import steps
from largeforge.recipe.sections.tls import ServerTls, UpstreamTls

if TYPE_CHECKING:
    from largeforge.deploy.desired import Wanted
    from largeforge.deploy.service import Layout
    from largeforge.recipe.schema import Gateway
    from largeforge.recipe.sections.hosts import Host

VALID_DAYS = 800
"""Some clients take none that is valid for more than 825 days (https://support.apple.com/en-us/103769)."""
RENEWED_DAYS = 90
"""A deployment makes a new one when fewer days than these are left."""
DAY_S = 86_400.0
OWN = "own"
"""Link to the folder of a host's certificate in force."""
PLACE = "{tls}"
"""Stands for the folder of certificates in the gateways' file, which is the same for all hosts until it is written."""


@dataclass(frozen=True)
class Certificate:
    """The certificate of a host."""

    folder: str
    """Where it is on the host, with its key."""
    text: str = ""
    """In PEM; empty while it is still to be made."""
    others: tuple[str, ...] = ()
    """Those before it that are still valid: servers that show one of them are still to be trusted."""

    @property
    def all(self) -> tuple[str, ...]:
        """Return every text by which the host may be known now."""
        return tuple(sorted((self.text, *self.others)))

    def files(self) -> dict[str, str]:
        """Return the files with which the host asks its own servers."""
        certificate = f"{self.folder}/{steps.CERTIFICATE}"
        return {"ca": certificate, "certificate": certificate, "key": f"{self.folder}/{steps.KEY}"}


def names_of(host: Host) -> list[str]:
    """Return the names and addresses that a host's certificate is for."""
    return sorted({host.address, host.reached_at, "localhost", "127.0.0.1", "::1"})


def certificate_of(layout: Layout, host: Host, state: Mapping[str, Any], *, now: float | None = None) -> Certificate:
    """Return the newest certificate of a host for its names; one to be made, where there is none that lasts."""
    now = time.time() if now is None else now
    prefix = f"{layout.tls}/{digest(names_of(host))[:8]}-"
    found = {
        int(number): entry
        for path, entry in state["paths"].items()
        if path.startswith(prefix)
        and path.endswith(f"/{steps.CERTIFICATE}")
        and (number := path.removeprefix(prefix).partition("/")[0]).isdigit()
    }
    valid = {
        number: entry for number, entry in found.items() if _days_left(entry, now) > 0 and entry.get("text")
    }  # fmt: skip
    newest = max(valid, default=0)
    if newest and _days_left(valid[newest], now) > RENEWED_DAYS:
        others = tuple(entry["text"] for number, entry in sorted(valid.items()) if number != newest)
        return Certificate(f"{prefix}{newest}", valid[newest]["text"], others)
    return Certificate(f"{prefix}{max(found, default=0) + 1}", others=tuple(entry["text"] for entry in valid.values()))


def _days_left(entry: Mapping[str, Any], now: float) -> float:
    return VALID_DAYS - (now - float(entry["changed"])) / DAY_S


def protected(wanted: Wanted, host: str) -> str:
    """Return how the model servers of a host speak: `self_made`, `given`, or empty for plain HTTP."""
    how = wanted.deploy.tls.servers
    if how == "auto":
        return "self_made" if wanted.address(host) != wanted.loopback else ""
    return "" if how == "off" else how


def certified(wanted: Wanted) -> list[str]:
    """Return the hosts that need a certificate of their own."""
    servers = [host for host in wanted.serving_hosts if protected(wanted, host) == "self_made"]
    gateways = wanted.gateways if servers or wanted.deploy.tls.clients == "self_made" else ()
    return sorted({*servers, *gateways})


def unmade(wanted: Wanted) -> list[str]:
    """Return the hosts whose certificates must be made before it is known what others have to trust."""
    return [host for host in certified(wanted) if not wanted.certificates[host].text]


def making(wanted: Wanted, host: str) -> list[steps.Step]:
    """Return the steps after which a host has its certificate."""
    if host not in certified(wanted):
        return []
    layout, certificate = wanted.layout(host), wanted.certificates[host]
    names = tuple(names_of(wanted.hosts[host]))
    return [
        steps.Folder(layout.tls),
        steps.Certificate(certificate.folder, names, layout.user, VALID_DAYS),
    ]


def installing(wanted: Wanted, host: str) -> list[steps.Step]:
    """Return the steps after which a host has all that its services read of TLS."""
    made = making(wanted, host)
    if not made:
        return []
    layout = wanted.layout(host)
    found = [*made, steps.Link(f"{layout.tls}/{OWN}", wanted.certificates[host].folder.rpartition("/")[2])]
    if host in wanted.gateways:
        found.append(steps.File(f"{layout.tls}/{_trusted(_servers(wanted))}", _text(_servers(wanted))))
    if host in wanted.serving_hosts and protected(wanted, host) == "self_made":
        found.append(steps.File(f"{layout.tls}/{_trusted(_askers(wanted, host))}", _text(_askers(wanted, host))))
    return found


def server_words(wanted: Wanted, host: str) -> list[str]:
    """Return the options of a model server: it shows its certificate and answers nobody without one that it trusts."""
    files = asking(wanted, host)
    if not files:
        return []
    how = protected(wanted, host)
    ca = files["ca"] if how == "given" else f"{wanted.layout(host).tls}/{_trusted(_askers(wanted, host))}"
    pair = ["--ssl-certfile", files["certificate"], "--ssl-keyfile", files["key"]]
    return [*pair, "--ssl-ca-certs", ca, "--ssl-cert-reqs", "2"]


def asking(wanted: Wanted, host: str) -> dict[str, str]:
    """Return the files with which a host asks its own model servers; none where they speak plain HTTP."""
    how = protected(wanted, host)
    if how == "given":
        return wanted.deploy.tls.given.model_dump()
    return wanted.certificates[host].files() if how else {}


def gateway_section(wanted: Wanted) -> Gateway:
    """Return the gateways' settings with their files of TLS."""
    own = {"certificate": f"{PLACE}/{OWN}/{steps.CERTIFICATE}", "key": f"{PLACE}/{OWN}/{steps.KEY}"}
    changed: dict[str, Any] = {}
    hows = {protected(wanted, host) for host in wanted.serving_hosts}
    if "given" in hows:
        changed["upstream_tls"] = UpstreamTls(**wanted.deploy.tls.given.model_dump())
    elif "self_made" in hows:
        changed["upstream_tls"] = UpstreamTls(ca=f"{PLACE}/{_trusted(_servers(wanted))}", **own)
    if wanted.deploy.tls.clients == "self_made":
        changed["tls"] = ServerTls(**own)
    return wanted.gateway.model_copy(update=changed)


def clients_trust(wanted: Wanted) -> str:
    """Return the certificates, in PEM, that clients must trust to speak to self-made gateways; else empty."""
    texts = [wanted.certificates[host].all for host in wanted.gateways if host in wanted.certificates]
    return _text(text for all_of in texts for text in all_of) if wanted.deploy.tls.clients == "self_made" else ""


def located(text: str, layout: Layout) -> str:
    """Return the gateways' file for one host."""
    return text.replace(PLACE, layout.tls)


def unlocated(text: str, layout: Layout) -> str:
    """Return the gateways' file for all hosts, from the one of a host."""
    return text.replace(layout.tls, PLACE)


def _servers(wanted: Wanted) -> list[str]:
    hosts = [host for host in wanted.serving_hosts if protected(wanted, host) == "self_made"]
    return sorted({text for host in hosts for text in wanted.certificates[host].all})


def _askers(wanted: Wanted, host: str) -> list[str]:
    return sorted({text for each in (*wanted.gateways, host) for text in wanted.certificates[each].all})


def _trusted(texts: Iterable[str]) -> str:
    """Return the name of a file with certificates to trust."""
    return f"trusted-{digest(list(texts))[:12]}.pem"


def _text(texts: Iterable[str]) -> str:
    return "".join(texts)
