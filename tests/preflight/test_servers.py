"""Hub, registry and clock, asked of real servers on the loopback."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from email.utils import formatdate
from time import monotonic, time

import pytest

from tests.ports import free_port
from tests.preflight.conftest import ON_CPU, levels, only

MODEL = "models--Qwen--Qwen2.5-7B-Instruct"


@pytest.fixture
def closed_port():
    return free_port()


def test_a_hub_or_mirror_that_answers_is_fine(look, server):
    finding = only(look("hub", *ON_CPU, HF_ENDPOINT=f"{server.url}/mirror/"))
    assert finding.level == "ok"
    assert [path for path, _ in server.seen] == ["/mirror/Qwen/Qwen2.5-7B-Instruct/resolve/main/config.json"]


def test_a_hub_that_cannot_be_reached_is_an_error(look, closed_port):
    finding = only(look("hub", *ON_CPU, HF_ENDPOINT=f"http://127.0.0.1:{closed_port}"))
    assert finding.level == "error"
    assert "connection refused" in finding.text
    assert "HF_ENDPOINT" in finding.cure


def test_a_hub_that_hangs_is_an_error_after_the_timeout(look, server):
    server.hangs = True
    started = monotonic()
    finding = only(look("hub", *ON_CPU, HF_ENDPOINT=server.url, timeout_s=0.3))
    assert monotonic() - started < 20
    assert finding.level == "error"
    assert "no answer" in finding.text


@pytest.mark.parametrize(
    ("status", "code", "token", "text", "cure"),
    [
        (401, "GatedRepo", "", "is gated (401) and there is no HF_TOKEN", "export HF_TOKEN"),
        (403, "GatedRepo", "secret", "refuses Qwen/Qwen2.5-7B-Instruct to this HF_TOKEN (403)", "accept its licence"),
        (403, "", "", "there is no HF_TOKEN", "accept its licence"),
        (401, "RepoNotFound", "secret", "has no Qwen/Qwen2.5-7B-Instruct that this user may see", "hf auth whoami"),
        (404, "RevisionNotFound", "", "but not at main", "/tree/main"),
    ],
)
def test_a_model_that_the_hub_refuses_is_an_error_that_names_the_cure(look, server, status, code, token, text, cure):
    server.status, server.headers = status, {"X-Error-Code": code}
    finding = only(look("hub", *ON_CPU, HF_ENDPOINT=server.url, HF_TOKEN=token))
    assert finding.level == "error"
    assert text in finding.text
    assert cure in finding.cure
    assert "secret" not in json.dumps(asdict(finding))


def test_a_hub_in_trouble_is_a_warning(look, server):
    server.status = 503
    assert levels(look("hub", *ON_CPU, HF_ENDPOINT=server.url)) == ["warning"]


def test_a_token_goes_to_the_hub_and_not_where_it_redirects_to(look, server):
    server.status, server.headers = 302, {"Location": f"{server.url}/elsewhere"}
    assert levels(look("hub", *ON_CPU, HF_ENDPOINT=server.url, HF_TOKEN="secret")) == ["ok"]
    assert [headers["Authorization"] for _, headers in server.seen] == ["Bearer secret"]


def test_the_hub_is_asked_through_the_proxy_unless_its_host_is_excepted(look, server, closed_port):
    proxied = {"HF_ENDPOINT": "http://hub.example", "HTTP_PROXY": server.url}
    assert levels(look("hub", *ON_CPU, **proxied)) == ["ok"]
    assert server.seen[0][0].startswith("http://hub.example/")
    refused = {"HF_ENDPOINT": server.url, "http_proxy": f"http://user:secret@127.0.0.1:{closed_port}"}
    assert "secret" not in str(only(look("hub", *ON_CPU, **refused)))
    assert levels(look("hub", *ON_CPU, **refused)) == ["error"]
    assert levels(look("hub", *ON_CPU, **refused, NO_PROXY="127.0.0.1")) == ["ok"]


def test_a_model_in_the_cache_needs_no_hub_and_half_a_model_does(look, folder, server):
    snapshot = folder / "hf" / "hub" / MODEL / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (snapshot / "1.safetensors").write_text("")
    assert levels(look("hub", *ON_CPU, HF_HUB_OFFLINE="1")) == ["error"]
    (snapshot / "2.safetensors").write_text("")
    assert levels(look("hub", *ON_CPU, HF_HUB_OFFLINE="1")) == ["ok"]
    assert levels(look("hub", *ON_CPU, HF_ENDPOINT=server.url)) == ["ok"]
    assert server.seen == []


def test_a_clock_that_is_wrong_is_a_warning(look, server):
    server.date = formatdate(time() - 3600, usegmt=True)
    finding = only(look("clock", *ON_CPU, HF_ENDPOINT=server.url))
    assert finding.level == "warning"
    assert "s ahead of 127.0.0.1" in finding.text
    assert "timedatectl" in finding.cure


def test_a_clock_that_is_right_is_fine_and_without_a_server_there_is_nothing_to_compare(look, server):
    assert levels(look("clock", *ON_CPU, HF_ENDPOINT=server.url)) == ["ok"]
    assert levels(look("clock", *ON_CPU, HF_HUB_OFFLINE="1")) == ["skipped"]
    server.date = "yesterday"
    assert levels(look("clock", *ON_CPU, HF_ENDPOINT=server.url)) == ["skipped"]


def test_a_registry_server_is_asked_for_its_version_with_the_users_name(look, server):
    uri = server.url.replace("//", "//ann:s3cret@")
    finding = only(look("registry", *ON_CPU, f"registry.uri={uri}"))
    assert finding.level == "ok"
    path, headers = server.seen[0]
    assert (path, headers["Authorization"]) == ("/version", "Basic YW5uOnMzY3JldA==")
    assert "s3cret" not in str(finding)


@pytest.mark.parametrize(("status", "words"), [(401, "refuses this user"), (404, "is it an MLflow server?")])
def test_a_registry_that_refuses_is_an_error_without_the_password(look, server, status, words):
    server.status = status
    finding = only(look("registry", *ON_CPU, f"registry.uri={server.url.replace('//', '//ann:s3cret@')}"))
    assert finding.level == "error"
    assert words in finding.text
    assert "s3cret" not in str(finding)


def test_a_registry_that_is_not_there_is_an_error(look, closed_port):
    finding = only(look("registry", *ON_CPU, f"registry.uri=http://127.0.0.1:{closed_port}"))
    assert (finding.level, "connection refused" in finding.text) == ("error", True)


def test_a_broken_database_is_an_error_and_a_whole_or_missing_one_is_fine(look, folder):
    file = folder / "mlflow.db"
    words = (*ON_CPU, f"registry.uri=sqlite:///{file}")
    assert levels(look("registry", *words)) == ["ok"]
    assert not file.exists()
    with sqlite3.connect(file) as connection:
        connection.execute("create table t (a)")
    connection.close()
    assert levels(look("registry", *words)) == ["ok"]
    file.write_text("this is no database, however long it may be")
    assert levels(look("registry", *words)) == ["error"]
