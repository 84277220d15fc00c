"""Secrets are fetched from where they are, and errors never show one."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from largeforge.deploy import secret_refs
from largeforge.errors import SecretError

SECRET = "s3cret-value"


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    assert secret_refs.fetch("env:LAB_TOKEN") == SECRET
    with pytest.raises(SecretError, match="env:OTHER: OTHER is not set"):
        secret_refs.fetch("env:OTHER")


def test_a_file_counts_only_when_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o640)
    with pytest.raises(SecretError, match="others can read it; chmod 600") as refused:
        secret_refs.fetch(f"file:{path}")
    assert SECRET not in str(refused.value)
    path.chmod(0o600)
    assert secret_refs.fetch(f"file:{path}") == SECRET
    with pytest.raises(SecretError, match="No such file"):
        secret_refs.fetch(f"file:{path}.missing")


def test_sops_is_asked_for_one_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sops = tmp_path / "sops"
    sops.write_text(
        f'#!/bin/sh\n[ "$3" = \'["hub"]["token"]\' ] && echo {SECRET} && exit 0\necho "no such key" >&2; exit 1\n'
    )
    sops.chmod(sops.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert secret_refs.fetch("sops:secrets.yaml#hub.token") == SECRET
    with pytest.raises(SecretError, match="sops refuses: no such key"):
        secret_refs.fetch("sops:secrets.yaml#other")


class _Vault(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_right = self.path == "/v1/secret/data/lab" and self.headers["X-Vault-Token"] == "root"
        body = json.dumps({"data": {"data": {"hf": SECRET}, "metadata": {}}}).encode() if is_right else b"{}"
        self.send_response(200 if is_right else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def vault() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Vault)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.enable_socket
def test_a_field_of_vault(vault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", vault)
    monkeypatch.setenv("VAULT_TOKEN", "root")
    assert secret_refs.fetch("vault:secret/data/lab#hf") == SECRET
    with pytest.raises(SecretError, match="has no field 'other'") as refused:
        secret_refs.fetch("vault:secret/data/lab#other")
    assert SECRET not in str(refused.value)
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    with pytest.raises(SecretError, match="Vault answers 403"):
        secret_refs.fetch("vault:secret/data/lab#hf")
    monkeypatch.delenv("VAULT_TOKEN")
    with pytest.raises(SecretError, match="VAULT_ADDR and VAULT_TOKEN must be set"):
        secret_refs.fetch("vault:secret/data/lab#hf")
