"""A collector of OpenTelemetry that takes OTLP over HTTP, and keeps what it gets."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Spans by name, the last of each; `raw` is all that came."""

    def __init__(self):
        self.spans = {}
        self.raw = b""
        self.headers = []
        self.resource = {}
        self.arrived = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                collector.take(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        body = gzip.decompress(body) if handler.headers.get("content-encoding") == "gzip" else body
        handler.send_response(200)
        handler.end_headers()
        with self.arrived:
            self.raw += body
            self.headers.append((handler.path, dict(handler.headers)))
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = plain(group.resource.attributes)
                for scope in group.scope_spans:
                    self.spans.update({span.name: span for span in scope.spans})
            self.arrived.notify_all()

    def wait(self, *names, timeout_s=30):
        """Return spans of these names once all have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: set(names) <= self.spans.keys(), timeout_s), sorted(self.spans)
            return [self.spans[name] for name in names]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def plain(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
