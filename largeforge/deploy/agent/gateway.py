"""Operate the gateway of this host: `gateway.py ORDER`, a JSON object; prints one as answer.

`url` is where it listens, `token` the file with its token. `do`: `state`, `drain` (`servers`: address to reason),
`wait` until a server answers nothing any more (`server`, `timeout_s`), `reload` its file and undrain `servers`.
"""

from __future__ import annotations

import json
import sys
import time
from urllib.parse import urlsplit

from ask import ask

POLL_S = 0.1


def main(order):
    """Do it and return what is to be told."""
    if order["do"] == "drain":
        return set_drained(order, order["servers"])
    if order["do"] == "wait":
        return wait(order)
    if order["do"] == "reload":
        answer = call(order, "POST", "/admin/reload")
        return {**answer, **set_drained(order, dict.fromkeys(order["servers"]))}
    return {**call(order, "GET", "/admin/state"), "ready": call(order, "GET", "/ready", allowed=(503,))}


def set_drained(order, servers):
    """Drain servers, or take them in again; those that the gateway does not know are left out."""
    known = call(order, "GET", "/admin/state").get("outstanding", {})
    wanted = {url: reason for url, reason in servers.items() if url in known or reason is None}
    return call(order, "PATCH", "/admin/state", {"drained": wanted}) if wanted else {}


def wait(order):
    """Wait until a server has nothing to answer; return how much was left at the end of the time."""
    until = time.monotonic() + order["timeout_s"]
    while True:
        left = call(order, "GET", "/admin/state").get("outstanding", {}).get(order["server"], 0)
        if not left or time.monotonic() > until:
            return {"left": left}
        time.sleep(POLL_S)


def call(order, method, path, value=None, allowed=()):
    """Ask the gateway; raises OSError with what it says when it refuses."""
    with open(order["token"], encoding="utf-8") as stream:
        headers = {"authorization": "Bearer %s" % stream.read().strip()}
    parts = urlsplit(order["url"])
    place = {"host": parts.hostname, "port": parts.port, **order.get("tls", {})}
    status, body = ask(place, method, path, value, timeout_s=30.0, headers=headers)
    if status != 200 and status not in allowed:
        said = body.get("error", {}).get("message", body) if isinstance(body, dict) else body
        raise OSError("the gateway answers %s to %s: %s" % (status or "nothing", path, said))
    return body if isinstance(body, dict) else {}


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.loads(sys.argv[1]))))
    except OSError as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(1)
