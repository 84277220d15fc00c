"""Certificates that hosts make: who is trusted by whom, when they are renewed, and real handshakes with them."""

from __future__ import annotations

import getpass
import os
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from largeforge.deploy import desired, present, seating, steps, tls
from largeforge.deploy.service import Layout
from largeforge.recipe.schema import Deploy, Host, Hosts
from largeforge.tls import client_context
from tests.deploy.conftest import Case, gpu, look
from tests.deploy.test_steps import carry_out, found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from largeforge.deploy.desired import Wanted

sys.path.insert(0, str(Path(desired.AGENT)))
import ask

NOW = 1_000 * tls.DAY_S
HOST = Host(address="a.lab")
LAYOUT = Layout("/opt/largeforge", "/var/lib/largeforge", "/var/log/largeforge", "shop", "largeforge", "")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="certificates belong to root")


def wanted(case: Case, **texts: str) -> Wanted:
    """Return what hosts should have, of which some have certificates already, made today."""
    hosts = case.given.hosts.hosts
    looks: dict[str, Any] = {}
    for name in hosts:
        folder = tls.certificate_of(LAYOUT, hosts[name], {"paths": {}}).folder
        entry = {"kind": "file", "changed": time.time(), "text": texts.get(name, "")}
        paths = {f"{folder}/{steps.CERTIFICATE}": entry} if name in texts else {}
        looks[name] = look(gpu(0), paths=paths)
    return seating.wanted_of(case.given, case.experts, case.places, looks, lock="c" * 64)  # type: ignore[arg-type]


def words_of(made: Wanted, host: str) -> dict[str, str]:
    argv = made.services[host]["general"].argv
    return {word: argv[place + 1] for place, word in enumerate(argv) if word.startswith("--ssl")}


def test_servers_on_other_hosts_answer_only_gateways_and_their_own_host(folder: Path) -> None:
    made = wanted(Case(folder), front="F", box="B", other="O")
    serving = made.seats["general"].host
    mine = {"box": "B", "other": "O"}[serving]
    words = words_of(made, serving)
    files = {step.path: step.text for step in tls.installing(made, serving) if isinstance(step, steps.File)}
    assert files == {words["--ssl-ca-certs"]: "".join(sorted(["F", mine]))}
    assert words["--ssl-cert-reqs"] == "2" and words["--ssl-keyfile"].startswith(
        "/opt/largeforge/deployments/shop/tls/"
    )
    ours = {step.path: step.text for step in tls.installing(made, "front") if isinstance(step, steps.File)}
    assert list(ours.values()) == [mine]
    gateway = tls.gateway_section(made)
    assert tls.located(gateway.upstream_tls.ca, made.layout("front")) in ours and not gateway.tls.certificate
    release = next(one.new for one in present.replacements(made, {serving: look(gpu(0))["state"]}))
    assert release.url.startswith("https://10.0.0.1")
    assert tls.installing(made, "other" if serving == "box" else "box") == []


def test_what_stays_on_one_host_is_plain_unless_asked_for(folder: Path) -> None:
    case = Case(folder)
    one = {"box": {"address": "10.0.0.11", "python": "/opt/venv/bin/python"}}
    case.given.hosts = Hosts.model_validate({"name": "lab", "hosts": one})
    alone = wanted(case, box="B")
    assert words_of(alone, "box") == {} and tls.certified(alone) == []
    case.given.deploy = Deploy.model_validate({"tls": {"servers": "self_made", "clients": "self_made"}})
    asked = wanted(case, box="B")
    assert words_of(asked, "box") and tls.clients_trust(asked) == "B"
    assert seating.url_of(case.given) == "https://10.0.0.11:8080"
    assert asked.services["box"]["gateway"].place["ca"].endswith("/tls/own/certificate.pem")


def test_your_own_certificates_are_used_where_they_are(folder: Path) -> None:
    files = {"certificate": "/etc/lab/host.pem", "key": "/etc/lab/host.key", "ca": "/etc/lab/ca.pem"}
    made = wanted(Case(folder, tls={"servers": "given", "given": files}))
    words = words_of(made, made.seats["general"].host)
    assert (words["--ssl-certfile"], words["--ssl-ca-certs"]) == ("/etc/lab/host.pem", "/etc/lab/ca.pem")
    assert tls.gateway_section(made).upstream_tls.model_dump() == files and tls.certified(made) == []
    with pytest.raises(ValueError, match="needs certificate, key and ca"):
        Deploy.model_validate({"tls": {"servers": "given"}})


def test_a_plan_before_certificates_are_made_says_so(folder: Path) -> None:
    made = wanted(Case(folder))
    assert set(tls.unmade(made)) == {"front", made.seats["general"].host}
    state = look()["state"]
    titles = [step.title for step, _ in steps.changes(desired.prepared(made, "front", {"gateway": 8080}), state)]
    assert any(title.startswith("certificate for 10.0.0.10, 127.0.0.1") for title in titles)


def aged(**days: float) -> dict[str, Any]:
    """Return a host's state with certificates of an age in days, by their number."""
    prefix = tls.certificate_of(LAYOUT, HOST, {"paths": {}}, now=NOW).folder.rpartition("-")[0]
    return {
        "paths": {
            f"{prefix}-{number[1:]}/{steps.CERTIFICATE}": {"text": number, "changed": NOW - age * tls.DAY_S}
            for number, age in days.items()
        }
    }


@pytest.mark.parametrize(
    ("ages", "number", "text", "others"),
    [
        ({}, 1, "", ()),
        ({"n1": 1}, 1, "n1", ()),
        ({"n1": 750}, 2, "", ("n1",)),
        ({"n1": 750, "n2": 2}, 2, "n2", ("n1",)),
        ({"n1": 801, "n2": 40}, 2, "n2", ()),
    ],
)
def test_certificates_are_renewed_in_time_and_the_old_one_is_trusted_to_its_end(
    ages: dict[str, float], number: int, text: str, others: tuple[str, ...]
) -> None:
    certificate = tls.certificate_of(LAYOUT, HOST, aged(**ages), now=NOW)
    assert certificate.folder.endswith(f"-{number}")
    assert (certificate.text, certificate.others) == (text, others)


class Says(BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with certificates of two hosts, both on the loopback, and of a stranger."""
    top = tmp_path_factory.mktemp("hosts")
    folders = {name: top / name for name in ("server", "asker", "stranger")}
    for folder in folders.values():
        step = steps.Certificate(str(folder), ("127.0.0.1", "::1", "a.lab"), getpass.getuser(), tls.VALID_DAYS)
        assert step.differs(found(top)) == "new"
        carry_out(step)
        assert step.differs(found(top)) == "" and folder.joinpath(steps.KEY).stat().st_mode & 0o777 == 0o640
    return folders


@pytest.fixture
def port(made: dict[str, Path], tmp_path: Path) -> Iterator[int]:
    """A server that answers whoever shows the asker's certificate, or its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made["server"] / steps.CERTIFICATE, made["server"] / steps.KEY)
    trusted = tmp_path / "trusted.pem"
    trusted.write_text("".join((made[name] / steps.CERTIFICATE).read_text() for name in ("server", "asker")))
    context.load_verify_locations(trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Says)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def pair(folder: Path) -> dict[str, str]:
    return {"certificate": str(folder / steps.CERTIFICATE), "key": str(folder / steps.KEY)}


def test_a_host_asks_its_own_server(made: dict[str, Path], port: int) -> None:
    place = {"host": "127.0.0.1", "port": port, "ca": str(made["server"] / steps.CERTIFICATE)}
    assert ask.ask({**place, **pair(made["server"])}, "GET", "/health") == (200, {})
    assert ask.ask({**place, **pair(made["stranger"])}, "GET", "/health")[0] == 0
    assert ask.ask(place, "GET", "/health")[0] == 0
    assert ask.ask({**place, **pair(made["server"]), "ca": "/nowhere"}, "GET", "/health")[0] == 0


def test_a_gateway_asks_with_its_certificate_and_only_servers_that_it_was_told_of(
    made: dict[str, Path], port: int
) -> None:
    trusted = str(made["server"] / steps.CERTIFICATE)
    known = client_context(ca=trusted, **pair(made["asker"]))
    assert httpx.get(f"https://127.0.0.1:{port}/", verify=known, trust_env=False).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://127.0.0.1:{port}/", verify=client_context(ca=trusted), trust_env=False)
    other = client_context(ca=str(made["stranger"] / steps.CERTIFICATE), **pair(made["asker"]))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://127.0.0.1:{port}/", verify=other, trust_env=False)


def test_a_certificate_says_what_it_may_be_used_for(made: dict[str, Path]) -> None:
    path = made["server"] / steps.CERTIFICATE
    argv = ["openssl", "verify", "-x509_strict", "-CAfile", str(path), "-verify_ip", "127.0.0.1", str(path)]
    assert subprocess.run(argv, capture_output=True, text=True).stdout.endswith(": OK\n")
    for purpose in ("sslserver", "sslclient"):
        assert subprocess.run([*argv[:2], "-purpose", purpose, *argv[2:]], capture_output=True).returncode == 0


def test_a_link_points_to_the_certificate_in_force(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        step = steps.Link(str(tmp_path / "own"), name)
        assert step.differs(found(tmp_path)) in ("new", "one → two")
        carry_out(step)
        assert step.differs(found(tmp_path)) == "" and (tmp_path / "own").resolve() == tmp_path / name
