"""Pass alerts on to webhooks whose URLs are secret: `hooks.py SECRETS HOST PORT NAME …`.

A POST to /NAME goes on, as it came, to the URL in the file NAME of the folder SECRETS, and its status comes back: 502
where nobody answers, or elsewhere is pointed to. So Alertmanager, which tells everybody its configuration (up to 0.25
with the URLs of webhooks, which it also logs), knows none of them.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TIMEOUT_S = 20.0
MOST_BYTES = 16 * 2**20
UNUSUAL = re.compile(r"""[\s\x00-\x1f\x7f'"\\]""")
PASSED_ON = ("content-type", "user-agent")


def read(secrets, names):
    """Return the URLs by name; raises ValueError with the name, and nothing else, of what is none."""
    found = {}
    for name in names:
        with open(os.path.join(secrets, name), encoding="utf-8") as stream:
            text = stream.read().strip()
        if not is_url(text):
            raise ValueError("%s is no URL" % name)
        found[name] = urlsplit(text)
    return found


def is_url(text):
    """Tell whether a text is an address that can be asked."""
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not UNUSUAL.search(text)
    except ValueError:
        return False


def post(url, body, headers):
    """Send a body; return the status, or 502 and the kind of error that there was."""
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connect(url.hostname, url.port, timeout=TIMEOUT_S)
    path = (url.path or "/") + ("?%s" % url.query if url.query else "")
    if url.username:
        user = "%s:%s" % (unquote(url.username), unquote(url.password or ""))
        headers = {**headers, "authorization": "Basic %s" % base64.b64encode(user.encode()).decode()}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 502, type(error).__name__  # what it says may have the URL
    finally:
        connection.close()
    return answer.status, ""


def handler(urls):
    """Return what answers."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self):
            self.reply(*((200, "it is up\n") if self.path == "/" else (404, "POST to a webhook's name\n")))

        def do_POST(self):
            name, length = self.path[1:], self.headers.get("content-length", "")
            if name not in urls:
                self.reply(404, "there is no such webhook\n")
            elif not length.isdigit() or int(length) > MOST_BYTES:
                self.reply(413, "at most %d bytes, with their number\n" % MOST_BYTES)
            else:
                headers = {key: self.headers[key] for key in PASSED_ON if key in self.headers}
                status, error = post(urls[name], self.rfile.read(int(length)), headers)
                if error or status >= 300:
                    print("%s: %s" % (name, error or status), flush=True)
                self.reply(502 if 300 <= status < 400 else status, "%s\n" % (error or status))

        def reply(self, status, text):
            data = b"" if status == 204 else text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    return Handler


def serve(secrets, host, port, names):
    """Answer until the end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

    with Server((host, port), handler(read(secrets, names))) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
