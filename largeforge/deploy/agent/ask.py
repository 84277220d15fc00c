"""HTTP to a server of this host, and whether it serves what it should. No proxies, no redirects."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

PARTIAL_CHAIN = 0x80000
"""X509_V_FLAG_PARTIAL_CHAIN: the certificate of a server may itself be what is trusted."""


def ask(place, method, path, value=None, *, timeout_s=5.0, headers=None, most=500):
    """Return status and parsed body, or (0, reason) when nobody answers.

    What is no JSON is cut after `most` characters. `place` is {"host", "port"}, for TLS also `ca`,
    and `certificate` and `key` to show.
    """
    body = None if value is None else json.dumps(value)
    connection = None
    try:
        connection = connect(place, timeout_s)
        sent = {**({"content-type": "application/json"} if body else {}), **(headers or {})}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, "%s: %s" % (type(error).__name__, error)
    finally:
        if connection:
            connection.close()
    try:
        return answer.status, json.loads(data) if data else None
    except ValueError:
        return answer.status, data.decode("utf-8", "replace")[:most]


def connect(place, timeout_s):
    """Return a connection that is not open yet."""
    if not place.get("ca"):
        return http.client.HTTPConnection(place["host"], place["port"], timeout=timeout_s)
    context = ssl.create_default_context(cafile=place["ca"])
    context.check_hostname = False  # a server of this host, known by its certificate alone
    context.verify_flags |= PARTIAL_CHAIN
    if place.get("certificate"):
        context.load_cert_chain(place["certificate"], place["key"])
    return http.client.HTTPSConnection(place["host"], place["port"], timeout=timeout_s, context=context)


def is_healthy(place, timeout_s=5.0):
    """Tell whether a server says that it is healthy."""
    return ask(place, "GET", "/health", timeout_s=timeout_s)[0] == 200


def missing(place, names):
    """Return the models that a server should serve and does not list, or all while it does not answer."""
    status, body = ask(place, "GET", "/v1/models")
    if status != 200 or not isinstance(body, dict):
        return list(names)
    served = {model.get("id") for model in body.get("data", ())}
    return [name for name in names if name not in served]


def notify(message, address):
    """Tell systemd something (sd_notify); nothing without an address."""
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
            messenger.connect("\0" + address[1:] if address.startswith("@") else address)
            messenger.sendall(message.encode())
