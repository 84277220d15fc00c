"""A model hub that speaks the Hugging Face Hub's API as far as pushing and pulling models needs it, in memory.

Repositories are made, commits are lists of files with git's hashes, weights go by LFS (batch, upload, verify) and
the rest inline in the commit; the tree, the info and the files of a revision are given out.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_a_token"
_LFS = (".safetensors", ".bin")


@dataclass
class Hub:
    """What the hub holds, and what it is asked to do wrong."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    """Repository to commit to the files of that commit."""
    heads: dict[str, dict[str, str]] = field(default_factory=dict)
    """Repository to branch to commit."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by sha256."""
    messages: list[str] = field(default_factory=list)
    address: str = ""
    damages: bool = False
    """Whether it gives out weights that are not what it says."""
    loses: bool = False
    """Whether it forgets weights that were pushed."""

    def commit(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a commit with these files and return its id."""
        oid = hashlib.sha1(json.dumps([repo, len(self.commits.get(repo, {})), sorted(files)]).encode()).hexdigest()
        self.commits.setdefault(repo, {})[oid] = files
        self.heads.setdefault(repo, {})[branch] = oid
        return oid

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """Return the id and the files of a branch or a commit."""
        oid = self.heads[repo].get(revision, revision)
        return oid, self.commits[repo][oid]


@contextmanager
def model_hub(address: str = "127.0.0.1") -> Iterator[Hub]:
    """Run a hub; its address is for HF_ENDPOINT."""
    hub = Hub()
    server = ThreadingHTTPServer((address, 0), type("Handler", (_Handler,), {"hub": hub}))
    Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://{address}:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            return self._api(path.removeprefix("/api/models/"))
        repo, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo not in self.hub.commits or name not in self.hub.at(repo, revision)[1]:
            return self._refuse(404, "EntryNotFound")
        oid, files = self.hub.at(repo, revision)
        content, entry = files[name], _entry(name, files[name])
        if self.hub.damages and "lfs" in entry:
            content = bytes([content[0] ^ 1]) + content[1:]
        tag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        self._send(content, headers={"etag": f'"{tag}"', "x-repo-commit": oid})

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Unauthorized")
        if path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if repo in self.hub.commits:
                told = {"error": "You already created this model repo", "url": f"{self.hub.address}/{repo}"}
                return self._send(told, status=409)
            self.hub.commit(repo, {".gitattributes": b"*.safetensors filter=lfs"})
            return self._send({"url": f"{self.hub.address}/{repo}"})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._send(
                {"transfer": "basic", "objects": [self._action(each) for each in json.loads(body)["objects"]]}
            )
        if path.endswith("/verify"):
            asked = json.loads(body)
            whole = len(self.hub.uploads.get(asked["oid"], b"")) == asked["size"]
            return self._send({}, status=200 if whole else 404)
        if "/branch/" in path:
            repo, _, branch = path.removeprefix("/api/models/").partition("/branch/")
            self.hub.heads[repo][branch] = self.hub.heads[repo]["main"]
            return self._send({})
        if "/preupload/" in path:
            modes = [
                {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(_LFS) else "regular",
                 "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]  # fmt: skip
            return self._send({"files": modes})
        repo, _, branch = path.removeprefix("/api/models/").rpartition("/commit/")
        self._commit(repo, branch, [json.loads(line) for line in body.splitlines()])

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        oid = self.path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != oid:
            return self._refuse(400, "BadDigest")
        self.hub.uploads[oid] = content
        self._send({})

    def _api(self, path: str) -> None:
        repo, _, rest = path.partition("/tree/")
        if rest:
            _, files = self.hub.at(repo, rest.partition("/")[0])
            return self._send([_entry(name, content) for name, content in files.items()])
        repo, _, revision = path.partition("/revision/")
        if repo not in self.hub.commits or revision not in ("", *self.hub.heads[repo], *self.hub.commits[repo]):
            return self._refuse(404, "RepoNotFound" if repo not in self.hub.commits else "RevisionNotFound")
        oid, files = self.hub.at(repo, revision or "main")
        self._send({"id": repo, "sha": oid, "siblings": [{"rfilename": name} for name in files], "tags": []})

    def _action(self, asked: dict[str, Any]) -> dict[str, Any]:
        oid, size = asked["oid"], asked["size"]
        upload = {"href": f"{self.hub.address}/lfs/{oid}", "header": {}}
        verify = {"href": f"{self.hub.address}/lfs/verify", "header": {}}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    def _commit(self, repo: str, branch: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.hub.at(repo, branch)[1])
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = b"" if self.hub.loses else self.hub.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"])
        oid = self.hub.commit(repo, files, branch)
        url = f"{self.hub.address}/{repo}/commit/{oid}"
        self._send({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _refuse(self, status: int, code: str) -> None:
        self._send({"error": code}, status=status, headers={"x-error-code": code, "x-error-message": code})

    def _send(self, body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if name.endswith(_LFS):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
    return entry
