"""A proxy through which test hosts fetch packages: `way_out.py ADDRESS PASSWORD`; prints its port.

It listens where the hosts are, and fetches from where its parent is. It wants `Proxy-Authorization`.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD_BACK = {"connection", "proxy-authorization", "proxy-connection", "transfer-encoding"}


class WayOut(BaseHTTPRequestHandler):
    """Answers with what another server answers."""

    allowed: str

    def do_GET(self) -> None:
        if self.headers.get("proxy-authorization") != self.allowed:
            self.send_response(407)
            self.send_header("proxy-authenticate", "Basic")
            self.end_headers()
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HELD_BACK}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.path, headers=headers), timeout=60) as answer:
                self._head(answer.status, answer.headers.items())
                shutil.copyfileobj(answer, self.wfile)
        except urllib.error.HTTPError as error:
            with error:
                self._head(error.code, error.headers.items())
                shutil.copyfileobj(error, self.wfile)

    def _head(self, status: int, headers: object) -> None:
        self.send_response(status)
        for name, value in headers:  # type: ignore[attr-defined]
            if name.lower() not in HELD_BACK:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(address: str, password: str, listening: str = "") -> None:
    """Serve until killed; a socket stays in the network in which it was opened."""
    if not listening:
        opened = socket.create_server((address, 0))
        opened.set_inheritable(True)
        out = [f"--net=/proc/{os.getppid()}/ns/net", sys.executable, __file__, address, password, str(opened.fileno())]
        os.execvp("nsenter", ["nsenter", *out])
    allowed = f"Basic {base64.b64encode(password.encode()).decode()}"
    server = ThreadingHTTPServer(("", 0), type("Allowed", (WayOut,), {"allowed": allowed}), bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(listening))
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
