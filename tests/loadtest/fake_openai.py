"""A fake of an OpenAI server whose delays and failures are known, on real sockets in threads of this process.

It streams as vLLM 0.32 does: a piece with the role and no text, a piece for each token, one with the usage, `[DONE]`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeOpenai:
    """What a test sets, and what came in."""

    def __init__(self) -> None:
        self.ttft_s = 0.0
        self.gap_s = 0.0
        self.tokens = 4
        self.fails_every = 0
        """Each request of this number is refused with 503."""
        self.breaks_every = 0
        """The stream of each request of this number ends in an error after its first token."""
        self.arrived: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self.lock = threading.Lock()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve on the loopback and give the address."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self.send_error(404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path != "/v1/chat/completions":
                    self.send_error(404)
                    return
                with fake.lock:
                    fake.arrived.append(time.monotonic())
                    fake.bodies.append(body)
                    fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                    number = len(fake.arrived)
                    fake._at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake._at_once)
                try:
                    self.answer(number)
                finally:
                    with fake.lock:
                        fake._at_once -= 1

            def answer(self, number: int) -> None:
                if fake.fails_every and number % fake.fails_every == 0:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.stream(broken=bool(fake.breaks_every) and number % fake.breaks_every == 0)

            def stream(self, *, broken: bool) -> None:
                time.sleep(fake.ttft_s)
                self.piece({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
                for place in range(fake.tokens):
                    if place:
                        time.sleep(fake.gap_s)
                    self.piece({"choices": [{"index": 0, "delta": {"content": f" {place}"}, "finish_reason": None}]})
                    if broken:
                        self.piece({"error": {"message": "secret words", "type": "ServerError", "code": 500}})
                        break
                else:
                    self.piece({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": fake.tokens}})
                self.chunk(b"data: [DONE]\n\n")
                self.chunk(b"")

            def piece(self, value: dict[str, Any]) -> None:
                self.chunk(f"data: {json.dumps({'object': 'chat.completion.chunk', **value})}\n\n".encode())

            def chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
