"""A collector of traces, as a program for a container: it writes the service, the trace and the name of each span."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PORT = 4318


class Receive(BaseHTTPRequestHandler):
    """Answers `POST /v1/traces`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            (service,) = (one.value.string_value for one in group.resource.attributes if one.key == "service.name")
            for span in (span for scope in group.scope_spans for span in scope.spans):
                sys.stdout.write(f"{service} {span.trace_id.hex()} {span.name}\n")
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Write no line for the request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), Receive).serve_forever()
