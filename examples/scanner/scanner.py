"""What a scanner for pixtoll needs beside its judgement: an HTTP server for docs/blocks.md.

`serve(judge)` calls `judge(body, content_type)` for each image. It returns (allow, reason, block). If it fails, the
scanner answers 500, and the server decides by its setting `trust.scanner_on_silence`.
"""
import argparse
import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST = 64 * 1024 * 1024


def serve(judge):
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=8090)
    port = arguments.parse_args().port
    # The same as trust.scanner_token.
    token = os.environ.get("SCANNER_TOKEN", "")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("Content-Length", "-1"))
            sent = self.headers.get("Authorization", "")
            if token and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
                return self.answer(401, {"error": "wrong token"})
            if not 0 <= length <= LARGEST:
                return self.answer(413, {"error": "the body has no length, or is too large"})
            body = self.rfile.read(length)
            try:
                allow, reason, block = judge(body, self.headers.get("Content-Type", ""))
            except Exception as error:  # Silence, and not a verdict.
                return self.answer(500, {"error": str(error)})
            self.answer(200, {"allow": allow, "reason": reason, "block": block})

        def answer(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status in (401, 413):
                # The body was not read.
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Logs nothing about clients."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"scanner on http://127.0.0.1:{server.server_port}/scan", flush=True)
    server.serve_forever()
