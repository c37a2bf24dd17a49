"""A program that knows nothing of Serai: it listens on $PORT and ends at SIGTERM."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer({"status": "ok"})
        return self.answer({"path": self.path, "replica": os.environ.get("SERAI_REPLICA")})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        words = self.rfile.read(length).decode("utf-8", "replace").split()
        self.answer({"words": len(words)})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False  # requests in flight finish before the process ends


def main():
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    # shutdown() waits for the loop, which this handler interrupts: another thread has to call it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
