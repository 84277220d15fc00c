"""Ask servers whether they are there: once each, with a deadline, through the user's proxies."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True)
class Reply:
    """What came back; `status` is 0 when nothing did, and `fault` says why."""

    url: str
    status: int = 0
    date: str = ""
    """The server's `Date` header."""
    at: float = 0.0
    """This machine's clock when the reply came, in seconds since the epoch."""
    code: str = ""
    """The hub's own word for what is wrong (header `X-Error-Code`)."""
    fault: str = ""


class Web:
    """Remembers every reply, so that several checks may look at one."""

    def __init__(self, environ: Mapping[str, str], *, timeout_s: float):
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(_proxies(environ)), _NoRedirect())
        self._no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        self._lock = threading.Lock()
        self._asked: dict[str, tuple[threading.Event, list[Reply]]] = {}

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Return the server's reply to a GET, of which no body is read and no redirect followed."""
        with self._lock:
            first = url not in self._asked
            done, replies = self._asked.setdefault(url, (threading.Event(), []))
        if first:
            threading.Thread(target=self._fetch, args=(url, headers or {}, done, replies), daemon=True).start()
        if not done.wait(self._timeout_s):
            return Reply(url, fault=f"no answer within {self._timeout_s:g} s")
        return replies[0]

    def _fetch(self, url: str, headers: Mapping[str, str], done: threading.Event, replies: list[Reply]) -> None:
        replies.append(self._reply(url, headers))
        done.set()

    def _reply(self, url: str, headers: Mapping[str, str]) -> Reply:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "largeforge", **headers})
            with (_direct() if self._bypasses(url) else self._opener).open(request, timeout=self._timeout_s) as answer:
                return _read(url, answer.status, answer.headers)
        except HTTPError as error:
            return _read(url, error.code, error.headers)
        except URLError as error:
            return Reply(url, fault=_words(error.reason))
        except (OSError, ValueError) as error:
            return Reply(url, fault=_words(error))

    def _bypasses(self, url: str) -> bool:
        """Whether `NO_PROXY` names the host, by the rules of urllib."""
        bypass: Any = vars(urllib.request)["proxy_bypass_environment"]  # typeshed does not know it
        return bool(bypass(urlsplit(url).netloc, {"no": self._no_proxy}))


def without_password(url: str) -> str:
    """Return a URL as it may be shown: no user, password, query or fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer; following it would carry a token to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for scheme in ("http", "https"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
        if value := next((environ[name] for name in names if environ.get(name)), ""):
            found[scheme] = value
    return found


def _read(url: str, status: int, headers: Any) -> Reply:
    return Reply(url, status, headers.get("Date") or "", time(), headers.get("X-Error-Code") or "")


def _words(reason: object) -> str:
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return "no answer in time" if "timed out" in text else str(text)[:200].rstrip(".").lower()
