"""A program that knows nothing of Serai: it listens on $PORT and ends well at SIGTERM."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY_BYTES = 1 << 20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that the gateway can keep its connections

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, {"status": "ok"})
        return self.answer(200, {"path": self.path, "replica": os.environ.get("SERAI_REPLICA")})

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self.refuse(411, "say how long the body is: Content-Length, a whole number")
        if int(length) > MAX_BODY_BYTES:
            return self.refuse(413, f"the body may have {MAX_BODY_BYTES} bytes")
        words = self.rfile.read(int(length)).decode("utf-8", "replace").split()
        return self.answer(200, {"words": len(words)})

    def refuse(self, status, reason):
        """Answer with an error; a body that was not read must not pass for the next request."""
        self.close_connection = True
        self.answer(status, {"error": reason})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.stopping:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self):
        self.server.waiting.add(self.connection)
        try:
            if self.server.stopping:
                self.close_connection = True
            else:
                super().handle_one_request()
        finally:
            self.server.waiting.discard(self.connection)

    def parse_request(self):
        """A request has come: this connection is no longer one that a stop may close."""
        self.server.waiting.discard(self.connection)
        return super().parse_request()

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False  # requests in flight finish before the process ends

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.stopping = False
        self.waiting = set()  # connections without a request

    def stop(self):
        """Take no more requests; `serve_forever` returns, and what is in flight finishes."""
        self.stopping = True
        for connection in list(self.waiting):
            with contextlib.suppress(OSError):  # the client may just have gone
                connection.shutdown(socket.SHUT_RD)  # else its thread would wait for ever
        self.shutdown()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    # shutdown() waits for the loop, which this handler interrupts: another thread has to call it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.stop).start())
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
