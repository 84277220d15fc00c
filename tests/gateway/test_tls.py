"""TLS to clients and to servers: all as over plain HTTP, certificates renewed while it runs, faults that are told."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from largeforge.cli import main
from largeforge.client import AsyncRouterClient, Operator, RouterClient
from largeforge.errors import ClientError
from largeforge.gateway.connection import ConnectionFailed, Pool
from largeforge.tls import client_context
from tests.gateway.authority import Authority

CHAT = {"messages": [{"role": "user", "content": "Where is my order?"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def trusting(ca, pair=None):
    context = ssl.create_default_context(cafile=ca)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def urls_of(fakes):
    return {name: running.url for name, running in fakes.items()}


def tls_of(pair, **more):
    return {"certificate": pair.certificate, "key": pair.key, **more}


def chat(process, context, **fields):
    """Ask on a connection of its own."""
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.post(process.url + PATH, json={**CHAT, **fields})


@pytest.mark.parametrize("workers", [1, 2])
async def test_all_is_as_over_plain_http(start, threaded_fakes, authority, workers, monkeypatch, capsys):
    process = start(urls_of(threaded_fakes), workers=workers, tls=tls_of(authority.issue()))
    assert process.url.startswith("https://127.0.0.1:")
    context = trusting(authority.ca)
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
        for _ in range(3):
            answer = await client.post(process.url + PATH, json=CHAT)
            assert answer.json()["choices"][0]["message"]["content"] == "I am support"
        streamed = await client.post(process.url + PATH, json={**CHAT, "stream": True})
        assert streamed.text.count('"delta"') == len("I am support") + 1
        assert streamed.text.endswith("data: [DONE]\n\n")
        large = "order " * 200_000
        asked = {"messages": [{"role": "user", "content": large}]}
        assert (await client.post(process.url + PATH, json=asked)).status_code == 200
        assert threaded_fakes["support"].fake.requests[-1]["messages"][0]["content"] == large
    async with connect(process.url.replace("https", "wss") + PATH, ssl=context, proxy=None) as websocket:
        await websocket.send(json.dumps({**CHAT, "stream": False}))
        assert json.loads(await websocket.recv())["choices"][0]["message"]["content"] == "I am support"
    async with AsyncRouterClient(process.url, verify=authority.ca) as client:
        assert (await client.generate("my order")).expert == "support"
    with Operator(process.url, verify=context) as gateway:
        assert gateway.health()["ready"] is True
    with pytest.raises(ClientError, match="certificate verify failed"), Operator(process.url) as gateway:
        gateway.state()
    monkeypatch.setenv("LARGEFORGE_CA", authority.ca)
    with RouterClient(process.url) as client:
        assert "".join(client.stream("my order")) == "I am support"
    assert main(["gateway", "--url", process.url, "mode", "degraded"]) == 0
    assert "degraded  ready" in capsys.readouterr().out


def test_what_is_no_tls_or_an_old_one_is_turned_away(start, threaded_fakes, authority):
    process = start(urls_of(threaded_fakes), tls=tls_of(authority.issue()))
    with pytest.raises(httpx.TransportError):
        httpx.get(process.url.replace("https", "http") + "/health", trust_env=False)
    old = trusting(authority.ca)
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        chat(process, old)
    assert chat(process, trusting(authority.ca)).status_code == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_must_show_a_certificate(start, threaded_fakes, authority, tmp_path, monkeypatch, workers):
    process = start(urls_of(threaded_fakes), workers=workers, tls=tls_of(authority.issue(), client_ca=authority.ca))
    known, stranger = authority.issue("client"), Authority(tmp_path, "stranger").issue("client")
    assert chat(process, trusting(authority.ca, known)).status_code == 200
    for context in (trusting(authority.ca), trusting(authority.ca, stranger)):
        with pytest.raises(httpx.TransportError):
            chat(process, context)
    with pytest.raises(httpx.TransportError):
        chat(process, trusting(authority.ca, authority.issue("late", days=-1)))
    monkeypatch.setenv("LARGEFORGE_CA", authority.ca)
    monkeypatch.setenv("LARGEFORGE_CLIENT_CERTIFICATE", known.certificate)
    monkeypatch.setenv("LARGEFORGE_CLIENT_KEY", known.key)
    with RouterClient(process.url) as client:
        assert client.generate("hi").expert == "general"


def shown(process, context):
    """Return the serial number that a new connection is shown."""
    address = httpx.URL(process.url)
    with (
        socket.create_connection((address.host, address.port)) as plain,
        context.wrap_socket(plain, server_hostname=address.host) as connection,
    ):
        return connection.getpeercert()["serialNumber"]


@pytest.mark.parametrize(("workers", "how"), [(1, "signal"), (1, "request"), (2, "signal"), (2, "request")])
def test_renewed_certificates_are_shown_after_a_reload(
    start, threaded_fakes, authority, events, workers, how, tmp_path
):
    support = threaded_fakes["support"]
    support.fake.script = asyncio.Queue()
    pair = authority.issue()
    process = start(urls_of(threaded_fakes), workers=workers, tls=tls_of(pair))
    context = trusting(authority.ca)

    def reload():
        if how == "signal":
            process.child.send_signal(signal.SIGHUP)
            return None
        return httpx.post(process.url + "/admin/reload", headers=process.operates, verify=context, trust_env=False)

    first = shown(process, context)
    support.do(lambda: support.fake.script.put_nowait(events.event("one")))
    body = {**CHAT, "stream": True}
    with (
        httpx.Client(verify=context, trust_env=False, timeout=30) as client,
        client.stream("POST", process.url + PATH, json=body) as answer,
    ):
        received = answer.iter_raw()
        next(received)
        authority.issue()
        assert shown(process, context) == first
        reload()
        while first in {shown(process, context) for _ in range(8 * workers)}:
            pass
        for piece in (events.done, None):
            support.do(lambda piece=piece: support.fake.script.put_nowait(piece))
        assert b"".join(received) == events.done
    second = shown(process, context)
    Path(pair.certificate).write_text("no certificate")
    refused = reload()
    if refused is not None:
        assert (refused.status_code, "gateway.tls.certificate" in refused.text) == (400, True)
    time.sleep(0.3)
    assert {shown(process, context) for _ in range(4 * workers)} == {second}


def test_authorities_of_clients_are_replaced_at_a_reload(start, threaded_fakes, authority, tmp_path):
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(Path(old.ca).read_bytes())
    process = start(urls_of(threaded_fakes), tls=tls_of(authority.issue(), client_ca=str(trusted)))
    before, after = (trusting(authority.ca, one.issue("client")) for one in (old, new))
    assert chat(process, before).status_code == 200
    with pytest.raises(httpx.TransportError):
        chat(process, after)
    trusted.write_bytes(Path(new.ca).read_bytes())
    httpx.post(process.url + "/admin/reload", headers=process.operates, verify=before, trust_env=False)
    assert chat(process, after).status_code == 200
    with pytest.raises(httpx.TransportError):
        chat(process, before)


def open_key(pair, tmp_path):
    Path(pair.key).chmod(0o644)
    return pair.certificate, pair.key, "gateway.tls.key", "mode 644"


def missing(pair, tmp_path):
    return str(tmp_path / "nowhere.pem"), pair.key, "gateway.tls.certificate", "cannot be read"


def of_another(pair, tmp_path):
    return pair.certificate, Authority(tmp_path, "other").issue().key, "gateway.tls.key", "not the key of"


def no_pem(pair, tmp_path):
    (tmp_path / "text").write_text("hello")
    return str(tmp_path / "text"), pair.key, "gateway.tls.certificate", "no certificate"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("wrong", [open_key, missing, of_another, no_pem])
def test_files_that_cannot_be_used_are_one_clear_message(start, threaded_fakes, authority, tmp_path, wrong, workers):
    certificate, key, where, what = wrong(authority.issue(), tmp_path)
    process = start(urls_of(threaded_fakes), workers=workers, tls={"certificate": certificate, "key": key})
    code, out, err = process.finish()
    assert (code, out) == (2, "")
    assert where in err
    assert what in err
    assert "Traceback" not in err


def test_a_client_that_never_agrees_on_tls_holds_up_nothing(start, threaded_fakes, authority):
    process = start(urls_of(threaded_fakes), tls=tls_of(authority.issue()))
    address = httpx.URL(process.url)
    with socket.create_connection((address.host, address.port)):
        assert chat(process, trusting(authority.ca)).status_code == 200
        began = time.monotonic()
        process.child.send_signal(signal.SIGTERM)
        code, _, err = process.finish()
        assert (code, time.monotonic() - began < 8) == (0, True), err


# To servers.


@pytest.fixture
def expert_tls(authority):
    """Options of a server as vLLM has them: its certificate, and that clients must show one."""
    pair = authority.issue("expert")
    return {
        "ssl_certfile": pair.certificate, "ssl_keyfile": pair.key, "ssl_ca_certs": authority.ca,
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
async def test_servers_are_asked_over_tls(start, start_fake, authority, expert_tls, workers, tmp_path):
    fakes = {name: start_fake(name, **expert_tls) for name in ("general", "vectors")}
    process = start(
        urls_of(fakes),
        workers=workers,
        batches={"folder": str(tmp_path / "bulk")},
        upstream_tls={"ca": authority.ca, **tls_of(authority.issue("gateway"))},
    )
    async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=30) as client:
        assert (await client.get("/ready")).json()["ready"] is True
        for _ in range(3):
            assert (await client.post(PATH, json=CHAT)).json()["choices"][0]["message"]["content"] == "I am general"
        assert (await client.post(PATH, json={**CHAT, "stream": True})).text.endswith("data: [DONE]\n\n")
        vectors = await client.post("/v1/embeddings", json={"model": "vectors", "input": "text"})
        assert vectors.json()["data"][0]["embedding"]
        async with connect(process.url.replace("http", "ws") + PATH, proxy=None) as websocket:
            await websocket.send(json.dumps({**CHAT, "stream": False}))
            assert json.loads(await websocket.recv())["choices"][0]["message"]["content"] == "I am general"
        line = {"custom_id": "1", "method": "POST", "url": PATH, "body": {"model": "general", **CHAT}}
        sent = await client.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", json.dumps(line).encode())}
        )
        batch = {"input_file_id": sent.json()["id"], "endpoint": PATH, "completion_window": "24h"}
        found = (await client.post("/v1/batches", json=batch)).json()
        while found["status"] not in ("completed", "failed"):
            found = (await client.get(f"/v1/batches/{found['id']}")).json()
        assert found["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


def reason_of(process, expert="general"):
    """Return what `/ready` says of an expert that is down, once it was probed."""
    while True:
        said = httpx.get(process.url + "/ready", trust_env=False).json()["experts"][expert]
        if said["state"] == "down":
            return said["reason"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unknown authority", "unable to get local issuer certificate"),
        ("expired", "certificate has expired"),
        ("another host", "IP address mismatch"),
        ("no client certificate", "does it ask for"),
        ("plain", "wrong version number"),
    ],
)
def test_what_is_wrong_with_a_server_s_tls_is_told(start, start_fake, authority, tmp_path, fault, words, request):
    ours = {"ca": authority.ca}
    if fault == "no client certificate":
        options = request.getfixturevalue("expert_tls")
    else:
        signer = Authority(tmp_path, "stranger") if fault == "unknown authority" else authority
        hosts = ["elsewhere.example"] if fault == "another host" else ["127.0.0.1"]
        pair = signer.issue("expert", hosts=hosts, days=-1 if fault == "expired" else 1)
        options = {"ssl_certfile": pair.certificate, "ssl_keyfile": pair.key}
    expert = start_fake("general", **({} if fault == "plain" else options))
    process = start({"general": expert.url.replace("http:", "https:")}, upstream_tls=ours)
    reason = reason_of(process)
    assert reason.startswith("tls: ")
    assert words in reason
    refused = httpx.post(process.url + PATH, json=CHAT, trust_env=False)
    assert (refused.status_code, "tls: " in refused.json()["error"]["message"]) == (503, True)
    metrics = httpx.get(process.url + "/metrics", trust_env=False).text
    down = f'largeforge_gateway_replica_down{{expert="general",reason="tls",replica="{expert.url}"}}'
    assert f"{down.replace('http:', 'https:')} 1.0" in metrics
    process.child.send_signal(signal.SIGTERM)
    code, _, err = process.finish()
    assert (code, "Traceback" in err) == (0, False), err


async def test_a_server_s_own_word_on_our_certificate_is_told(authority):
    pair = authority.issue("expert")
    asking = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    asking.load_cert_chain(pair.certificate, pair.key)
    asking.verify_mode = ssl.CERT_REQUIRED

    def refuse(listener):
        with (
            listener.accept()[0] as plain,
            asking.wrap_socket(plain.dup(), server_side=True, do_handshake_on_connect=False) as wrapped,
        ):
            with pytest.raises(ssl.SSLError):
                wrapped.do_handshake()
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):  # closed with the request unread, it would reset the connection, word and all
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        pool = Pool(url, connect_timeout_s=10, tls=client_context(ca=authority.ca))
        with pytest.raises(ConnectionFailed) as caught:
            await pool.request(b"GET", b"/health")
        await refusing
    assert (caught.value.why, "certificate required" in caught.value.detail) == ("tls", True)


def test_a_server_comes_back_with_another_authority_after_a_reload(start, start_fake, authority, tmp_path):
    pair = Authority(tmp_path, "renewed").issue("expert")
    expert = start_fake("general", ssl_certfile=pair.certificate, ssl_keyfile=pair.key)
    trusted = tmp_path / "servers.pem"
    trusted.write_bytes(Path(authority.ca).read_bytes())
    process = start({"general": expert.url}, upstream_tls={"ca": str(trusted)})
    assert reason_of(process).startswith("tls: ")
    trusted.write_bytes((tmp_path / "renewed.ca.pem").read_bytes())
    httpx.post(process.url + "/admin/reload", headers=process.operates, trust_env=False).raise_for_status()
    while httpx.post(process.url + PATH, json=CHAT, trust_env=False).status_code != 200:
        pass
