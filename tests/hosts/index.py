"""A package index of a folder of wheels (PEP 503): `index.py ADDRESS FOLDER`; prints its address."""

from __future__ import annotations

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Lists the wheels of a project, and gives them out."""

    folder: Path

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple":
            wheels = [path.name for path in self.folder.glob("*.whl") if normal(path.name.partition("-")[0]) == name]
            self._send("".join(f'<a href="/files/{wheel}">{wheel}</a>\n' for wheel in wheels).encode(), "text/html")
        elif (self.folder / name).is_file() and "/" not in name:
            self._send((self.folder / name).read_bytes(), "application/octet-stream")
        else:
            self.send_error(404)

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200 if content else 404)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def normal(name: str) -> str:
    """Return a project's name as an index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(address: str, folder: str) -> None:
    """Serve until killed."""
    server = ThreadingHTTPServer((address, 0), type("Of", (Handler,), {"folder": Path(folder)}))
    print(f"http://{address}:{server.server_port}/simple", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
