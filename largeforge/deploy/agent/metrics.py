"""Tell Prometheus what the servers of this host measure: `metrics.py SERVICES STATE HOST PORT`.

    /gateway    the gateway's own page; 502 while it does not answer
    /servers    the pages of all model servers as one: every series gets the label `server`; and of each how long its
                last start took, as it noted in its folder below STATE

It asks the current releases, whatever their ports, over TLS where they speak it. So their keys stay on their host, and
nobody else has to follow releases.
"""

from __future__ import annotations

import glob
import http.client
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ask import connect

TIMEOUT_S = 5.0
UP = "largeforge_server_up"
START, STARTED = "largeforge_server_start_seconds", "largeforge_server_started_timestamp_seconds"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def places(services, kind):
    """Return where the current releases of a kind are, by service."""
    found = {}
    for path in sorted(glob.glob(os.path.join(services, "*", "current", "service.json"))):
        try:
            with open(path, encoding="utf-8") as stream:
                service = json.load(stream)
            with open(os.path.join(os.path.dirname(path), "port"), encoding="utf-8") as stream:
                port = int(stream.read())
        except (OSError, ValueError):
            continue  # it is being replaced
        if service["kind"] == kind:
            found[service["service"]] = {**service["place"], "port": port, "release": release(path)}
    return found


def release(path):
    """Return the key of the release that a file below `current` is of."""
    return os.path.basename(os.path.realpath(os.path.dirname(path)))


def started(state, service, key):
    """Return how long the last start of a release took and when it was, None where it is not known."""
    try:
        with open(os.path.join(state, service, "started-%s.json" % key), encoding="utf-8") as stream:
            told = json.load(stream)
        return float(told["seconds"]), float(told["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def page(place):
    """Return a server's page, None while there is none."""
    connection = None
    try:
        connection = connect(place, TIMEOUT_S)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        if connection:
            connection.close()
    return text if answer.status == 200 else None


def merged(pages, starts):
    """Return one page of several by server: the series of a metric stand together, once with its meaning and type."""
    metrics = {UP: (["# HELP %s Whether the server tells what it measures." % UP, "# TYPE %s gauge" % UP], [])}
    for place, (name, meaning) in enumerate(
        (
            (START, "How long it took to serve its models when it started last."),
            (STARTED, "When that was."),
        )
    ):
        series = ['%s{server="%s"} %s' % (name, server, start[place]) for server, start in starts.items() if start]
        metrics[name] = (["# HELP %s %s" % (name, meaning), "# TYPE %s gauge" % name], series)
    for server, text in pages.items():
        metrics[UP][1].append('%s{server="%s"} %d' % (UP, server, text is not None))
        about, series = [], []
        for line in (text or "").splitlines():
            if line.startswith("# HELP ") or line.startswith("# TYPE "):
                about, series = metrics.setdefault(line.split(" ", 3)[2], ([], []))
                kind = line[:7]
                if not any(other.startswith(kind) for other in about):
                    about.append(line)
            elif line and not line.startswith("#"):
                series.append(with_server(line, server))
    return "".join(line + "\n" for about, series in metrics.values() if series for line in (*about, *series))


def with_server(line, server):
    """Return a series with the label `server`."""
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return '%s{server="%s",%s' % (name, server, rest)  # a comma at the end of labels is allowed
    name, _, rest = line.partition(" ")
    return '%s{server="%s"} %s' % (name, server, rest)


def handler(services, state):
    """Return what answers."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self):
            if self.path == "/gateway":
                found = [page(place) for place in places(services, "gateway").values()]
                text = found[0] if found else None
            elif self.path == "/servers":
                asked = places(services, "vllm")
                with ThreadPoolExecutor(max_workers=8) as pool:
                    pages = dict(pool.map(lambda one: (one[0], page(one[1])), asked.items()))
                starts = {name: started(state, name, place["release"]) for name, place in asked.items()}
                text = merged(pages, starts)
            else:
                self.reply(404, "there is /gateway and /servers\n")
                return
            self.reply(*(502, "it does not answer\n") if text is None else (200, text))

        def reply(self, status, text):
            data = text.encode()
            self.send_response(status)
            self.send_header("content-type", TEXT)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass  # twice every few seconds

    return Handler


def serve(services, state, host, port):
    """Answer until the end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

    with Server((host, port), handler(services, state)) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
