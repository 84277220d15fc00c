#!/usr/bin/env python3
"""Stands for vLLM: `serving.python` may name this file. Standard library only.

Takes vLLM's command line and speaks its protocol. The name of the model's folder says how it
behaves: `dies`, `hangs`, `killed`, `stubborn` (ignores SIGTERM, with a child that does, too),
`mute` (empty answers), `forgetful` (does not list its adapters); anything else answers properly.
A file `needs_gpu` has it need a GPU for itself: it dies where another such server is on the same.
A file `behaviour` in the folder takes the place of its name. A file `die` ends it later, `dies_after` after the
seconds in it; a file `tokens.json` is what `/tokenize` answers. A file `says` is all that it ever answers, `fails` the
share of users' requests that it fails.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("-m")
parser.add_argument("--model")
parser.add_argument("--served-model-name")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int)
parser.add_argument("--lora-modules", nargs="+", default=[])
parser.add_argument("--ssl-certfile")
parser.add_argument("--ssl-keyfile")
parser.add_argument("--ssl-ca-certs")
parser.add_argument("--ssl-cert-reqs", type=int, default=0)
arguments, _ = parser.parse_known_args()
folder = Path(arguments.model)
behaviour = (folder / "behaviour").read_text().strip() if (folder / "behaviour").exists() else folder.name
names = [arguments.served_model_name]
if behaviour != "forgetful":
    names += [module.partition("=")[0] for module in arguments.lora_modules]


METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="%s"} %d
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/metrics":
            self.send(METRICS % (names[0], threading.active_count()), "text/plain; version=0.0.4")
            return
        self.reply({"data": [{"id": name} for name in names]} if self.path == "/v1/models" else {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/tokenize":
            tokens = Path(arguments.model) / "tokens.json"
            self.send(
                tokens.read_text() if tokens.exists() else "{}", "application/json", 200 if tokens.exists() else 404
            )
            return
        text = "" if behaviour == "mute" else f"{body['model']}: {body['messages'][-1]['content']}"
        for file in ("version", "version.txt"):
            text += f" ({(folder / file).read_text().strip()})" if (folder / file).exists() else ""
        text = (folder / "says").read_text() if (folder / "says").exists() else text
        if body.get("user") and (folder / "fails").exists() and random.random() < float((folder / "fails").read_text()):
            self.send('{"error": {"message": "the engine has hiccups"}}', "application/json", 500)
            return
        time.sleep(float((folder / "takes_s").read_text()) if (folder / "takes_s").exists() else 0)
        if body.get("stream"):
            pieces = [
                {"index": 0, "delta": {"content": word}, "finish_reason": None} for word in re.findall(r"\S+\s*", text)
            ]
            chunks = [{"id": "1", "object": "chat.completion.chunk", "choices": [piece]} for piece in pieces]
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
            self.send("".join([*lines, "data: [DONE]\n\n"]), "text/event-stream")
            return
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.reply({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})

    def reply(self, content):
        self.send(json.dumps(content), "application/json")

    def send(self, text, kind, status=200):
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


def die_later():
    after = folder / "dies_after"
    until = time.monotonic() + float(after.read_text()) if after.exists() else float("inf")
    while not (folder / "die").exists() and time.monotonic() < until:
        time.sleep(0.02)
    print("RuntimeError: the engine met its end", flush=True)
    os._exit(1)


print("fake vLLM", *sys.argv, flush=True)
if behaviour == "dies":
    print("(EngineCore pid=7) ERROR 11-21 03:14:02 [core.py:1510] MemoryError: Cannot allocate memory")
    sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if (folder / "needs_gpu").exists():
    card = socket.socket(socket.AF_UNIX)
    try:
        card.bind(f"\0gpu-{os.environ.get('CUDA_VISIBLE_DEVICES')}")
    except OSError:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 14.00 GiB.")
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
if behaviour == "hangs":
    time.sleep(1000)
threading.Thread(target=die_later, daemon=True).start()
server = ThreadingHTTPServer((arguments.host, arguments.port), Handler)
if arguments.ssl_certfile:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.ssl_certfile, arguments.ssl_keyfile)
    tls.load_verify_locations(arguments.ssl_ca_certs)
    tls.verify_mode = arguments.ssl_cert_reqs
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
