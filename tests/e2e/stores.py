"""Stores that speak the real protocols: moto's S3 server, and the part of the Hugging Face hub that data needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40


class S3:
    """An S3 server, with credentials that it accepts."""

    def __init__(self, endpoint: str):
        self.environment = {
            "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "a-secret-key",
        }  # fmt: skip

        import boto3

        self._client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id="key", aws_secret_access_key="a-secret-key",
            region_name="us-east-1",
        )  # fmt: skip

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        self._client.create_bucket(Bucket=bucket)

    def put(self, path: str, content: bytes) -> None:
        """Put an object into a bucket."""
        bucket, _, key = path.partition("/")
        self._client.put_object(Bucket=bucket, Key=key, Body=content)


@contextmanager
def s3() -> Iterator[S3]:
    """Run moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield S3(f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    finally:
        server.stop()


@contextmanager
def hub(repo: str, files: dict[str, bytes]) -> Iterator[str]:
    """Run a hub with one dataset; yield its address for HF_ENDPOINT."""
    handler = type("Handler", (_Hub,), {"repo": repo, "files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does for the info, the tree and the files of a dataset."""

    protocol_version = "HTTP/1.1"
    repo: str
    files: dict[str, bytes]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, tree = unquote(url.path), f"/api/datasets/{self.repo}/tree/"
        resolve = f"/datasets/{self.repo}/resolve/"
        if path.startswith(tree):
            whole = parse_qs(url.query).get("recursive") == ["true"]
            return self._send(self._listed(path.removeprefix(tree).partition("/")[2], whole=whole))
        if path.startswith(f"/api/datasets/{self.repo}"):
            siblings = [{"rfilename": name} for name in self.files]
            return self._send({"id": self.repo, "sha": COMMIT, "siblings": siblings, "tags": []})
        name = path.removeprefix(resolve).partition("/")[2]
        if path.startswith(resolve) and name in self.files:
            tag = f'"{self._entry(name)["oid"]}"'
            return self._send(self.files[name], headers={"etag": tag, "x-repo-commit": COMMIT})
        missing = "EntryNotFound" if path.startswith(resolve) else "RepoNotFound"
        return self._send({"error": missing}, status=404, headers={"x-error-code": missing})

    def _listed(self, folder: str, *, whole: bool) -> list[dict[str, Any]]:
        start = f"{folder}/" if folder else ""
        found = {}
        for name in (name for name in self.files if name.startswith(start)):
            rest = name.removeprefix(start)
            if "/" in rest:
                below = start + rest.partition("/")[0]
                found[below] = {"type": "directory", "path": below, "oid": "0" * 40, "size": 0}
            if whole or "/" not in rest:
                found[name] = self._entry(name)
        return list(found.values())

    def _entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _send(self, body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
