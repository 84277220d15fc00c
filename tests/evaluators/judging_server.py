"""A judge behind OpenAI's protocol: prefers the longer answer, favours what stands first, fails on demand."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret"
_ANSWERS = re.compile(r"\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)", re.DOTALL)


class JudgingServer(ThreadingHTTPServer):
    """`bias`: by how many characters the first answer may be shorter and is preferred all the same."""

    daemon_threads = True

    def __init__(self, *, bias=0, failures=(), key="", usage=True):
        self.bias, self.failures, self.key, self.usage = bias, list(failures), key, usage
        self.asked, self.lock = [], threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def reply(self, content):
        if "mumble" in content:
            return "I would rather not say."
        if found := _ANSWERS.search(content):
            first, second = (len(answer) for answer in found.groups())
            return f"I like one more. [[{'A' if first + self.bias >= second else 'B'}]]"
        answer = content.rpartition("[Answer]\n")[2]
        return f"It is short.\ncorrect: {min(5, max(1, len(answer)))}\n**helpful**: 2"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        judge, body = self.server, json.loads(self.rfile.read(int(self.headers["content-length"])))
        with judge.lock:
            judge.asked.append(body)
            failure = judge.failures.pop(0) if judge.failures else 0
        if judge.key and self.headers["authorization"] != f"Bearer {judge.key}":
            return self.say(401, {"error": {"message": f"wrong key {self.headers['authorization']}"}})
        if failure:
            return self.say(failure, {"error": {"message": "come back later"}})
        text = judge.reply(body["messages"][-1]["content"])
        answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        if judge.usage:
            answer["usage"] = {"prompt_tokens": 100, "completion_tokens": 10}
        return self.say(200, answer)

    def say(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@contextmanager
def judging(**options):
    """Give a judge that answers until the block ends."""
    server = JudgingServer(**options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
