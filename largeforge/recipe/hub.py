"""The `config.json` of a hub repository: from the local cache of huggingface_hub, or fetched by itself.

Nothing but that one file is ever fetched, without huggingface_hub (half a second to import). What comes
back is a stranger's: it is bounded in size and time, and read as data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from largeforge import artifacts

if TYPE_CHECKING:
    from http.client import HTTPMessage
    from typing import IO

    from largeforge.recipe.model_ref import ModelRef

MAX_BYTES = 1024 * 1024
"""Largest config.json that is read."""
TIMEOUT_S = 3.0
"""How long the hub may take."""
FRESH_S = 24 * 3600
"""How long a fetched config.json of a branch is taken for current."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision of a hub repository that can never mean anything else."""
_SHA = re.compile(rb'"sha"\s*:\s*"([0-9a-f]{40})"')
"""What the hub's API says of a revision; lists of files come behind it, and may be cut."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


class NotFound(Exception):
    """There is no config.json to read; the text says why."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json.

    Raises NotFound when it cannot be read, is too large or no JSON object.
    """
    try:
        with path.open("rb") as stream:
            return _parsed(stream.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise NotFound(f"{path} cannot be read ({error.strerror})") from error


def snapshot(ref: ModelRef) -> Path:
    """Return the folder of the local cache that holds what is there of a repository; its name is the commit.

    Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. Raises NotFound when nothing is there.
    """
    revision = ref.selector or "main"
    _check(revision)
    folder = cache_folder() / f"models--{ref.target.replace('/', '--')}"
    commit = revision
    with suppress(OSError):
        commit = (folder / "refs" / revision).read_text(encoding="ascii", errors="replace")[:200].strip()
    found = folder / "snapshots" / commit
    if not COMMIT.fullmatch(commit) or not found.is_dir():
        raise NotFound(f"it is not in the cache {folder.parent}")
    return found


def cached(ref: ModelRef) -> tuple[dict[str, Any], str]:
    """Return the config.json in the local cache, and where it lies.

    Raises NotFound when it is not there.
    """
    folder = snapshot(ref)
    if not (folder / "config.json").is_file():
        raise NotFound(f"it is not in the cache {folder.parents[2]}")
    return read_config(folder / "config.json"), f"the hub cache, commit {folder.name[:8]}"


def cache_folder() -> Path:
    """Return the folder of huggingface_hub's cache, by the environment variables that it heeds itself."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    home = os.environ.get("HF_HOME") or str(_cache_home() / "huggingface")
    return Path(home).expanduser() / "hub"


def offline() -> bool:
    """Tell whether the environment forbids to ask the hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def endpoint() -> str:
    """Return the address of the hub or its mirror."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def fetched(ref: ModelRef) -> tuple[dict[str, Any], str]:
    """Return the config.json of the hub, and where it came from; kept for the next time.

    Raises NotFound when the hub does not answer, or not with a config.json.
    """
    revision = ref.selector or "main"
    _check(revision)
    url = f"{endpoint()}/{ref.target}/resolve/{quote(revision, safe='')}/config.json"
    kept = _cache_home() / "largeforge" / "hub" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, NotFound):
        if COMMIT.fullmatch(revision) or time.time() - kept.stat().st_mtime < FRESH_S:
            return read_config(kept), f"the hub, kept in {kept}"
    answer = _answer(url)
    if isinstance(answer, str):
        raise NotFound(answer)
    config = _parsed(answer, _host(url))
    with suppress(OSError):
        artifacts.write_json(kept, config)
    return config, _host(url)


def commit_of(ref: ModelRef) -> str:
    """Return the commit that a repository's branch or tag means now; empty where the hub does not say.

    A hub that cannot be asked is spoken for by the local cache.
    """
    revision = ref.selector or "main"
    if COMMIT.fullmatch(revision):
        return revision
    answer = b""
    if not offline():
        said = _answer(f"{endpoint()}/api/models/{ref.target}/revision/{quote(revision, safe='')}")
        answer = said if isinstance(said, bytes) else b""
    if found := _SHA.search(answer):
        return found[1].decode()
    with suppress(NotFound):
        return snapshot(ref).name
    return ""


@cache
def _answer(url: str) -> bytes | str:
    """Return what the hub answers, or why it did not; it is asked once in a process.

    In a thread of its own, since neither the look-up of a name nor headers that drip obey a timeout.
    """
    answers: list[bytes | str] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(url)), daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return answers[0] if answers else f"{_host(url)} did not answer within {TIMEOUT_S:g} s"


def _ask(url: str) -> bytes | str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"HF_ENDPOINT is no http address (its scheme is {parts.scheme[:20]!r})"
    request = urllib.request.Request(url, headers={"User-Agent": "largeforge"})
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and (parts.scheme == "https" or parts.hostname in _LOCAL):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read(MAX_BYTES + 1))
    except urllib.error.HTTPError as error:
        hint = "; it may need a token in HF_TOKEN" if error.code in (401, 403) else ""
        return f"{_host(url)} answers {error.code}{hint}"
    except (OSError, ValueError, HTTPException) as error:
        return f"{_host(url)} does not answer ({str(getattr(error, 'reason', error))[:100]})"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects from http to http or https; the token goes on only to the same host, scheme and port."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise urllib.error.HTTPError(newurl, code, "redirected to an address that is not allowed", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if request is not None and token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", token)
        return request


def _parsed(content: bytes, source: str) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise NotFound(f"{source} is larger than {MAX_BYTES} bytes")
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotFound(f"{source} is no JSON ({str(error)[:100]})") from error
    if not isinstance(config, dict):
        raise NotFound(f"{source} is no JSON object")
    return config


def _host(url: str) -> str:
    """Return host and port of an address, without a password that may stand before them."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _check(revision: str) -> None:
    if revision.startswith("/") or ".." in revision:
        raise NotFound(f"{revision!r} is no revision")


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
