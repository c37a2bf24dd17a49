"""Real servers that answer as a test says, over plain HTTP or TLS."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""A self-signed certificate for localhost with its key: for these tests, of no other use."""

Answering = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(answering: Answering, secure: bool = False) -> Iterator[str]:
    """Serve on a free port; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answering(self)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'https' if secure else 'http'}://localhost:{http.server_address[1]}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def sending(
    body: bytes, status: int = 200, length: int | None = None, kind: str = "application/json"
) -> Answering:
    """Answer with this body; a `length` beyond it breaks the answer off."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer
