"""What a deployment's alerts and logs are sent to: `collectors.py ADDRESS FOLDER`; prints the ports of both as JSON.

Every body that is posted is a line of `alerts`, with its path before it; every line over TCP is one of `lines`.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hook(BaseHTTPRequestHandler):
    """Writes down what it is told."""

    folder: Path

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with (self.folder / "alerts").open("a") as stream:
            stream.write(json.dumps({"path": self.path, **json.loads(body)}) + "\n")
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Lines(socketserver.StreamRequestHandler):
    """Writes down every line."""

    folder: Path

    def handle(self) -> None:
        for line in self.rfile:
            with (self.folder / "lines").open("ab") as stream:
                stream.write(line)


def main(address: str, folder: str) -> None:
    """Serve until killed."""
    hook = ThreadingHTTPServer((address, 0), type("Told", (Hook,), {"folder": Path(folder)}))
    lines = socketserver.ThreadingTCPServer((address, 0), type("Sent", (Lines,), {"folder": Path(folder)}))
    print(json.dumps({"hook": hook.server_port, "lines": lines.server_address[1]}), flush=True)
    threading.Thread(target=lines.serve_forever, daemon=True).start()
    hook.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
