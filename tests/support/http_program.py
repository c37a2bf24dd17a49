"""Projects with a small HTTP server: a program of a folder, or a container that runs it."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.support.dockerd import IMAGE

PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
MOUNTED = sorted({"/usr", sys.base_prefix})
"""What this machine's Python needs of the node in a container."""
SERVER = """
import http.server, os, sys

status, text, port = int(sys.argv[1]), sys.argv[2], sys.argv[3:] or [os.environ["PORT"]]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())
    do_POST = do_GET
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", int(port[0])), Handler).serve_forever()
"""


STILL = {"policy": "fixed"}
"""The count stays as it was deployed or set: what is tested here is something else."""


def serving(text: str, status: int = 200, port: int | None = None) -> list[str]:
    """Return the command of a server that answers so, on `$PORT` unless told another port."""
    return [PYTHON, "server.py", str(status), text, *([] if port is None else [str(port)])]


def program(name: str, command: list[str], **more: Any) -> dict[str, Any]:
    """Return the spec of an API that is a program."""
    return {
        "name": name,
        "pod": {"command": command},
        "readiness": {"path": "/"},
        "autoscaling": STILL,
        **more,
    }


def container(
    name: str, command: list[str], image: str = IMAGE, port: int = 8080, **more: Any
) -> dict[str, Any]:
    """Return the spec of an API that is a container which sees this machine's Python."""
    return {
        "name": name,
        "pod": {"port": port, "containers": [{"image": image, "command": command}]},
        "mounts": [{"host": place, "path": place} for place in MOUNTED],
        "readiness": {"path": "/"},
        "autoscaling": STILL,
        **more,
    }


def write_project(folder: Path, *specs: dict[str, Any]) -> Path:
    """Write a project with these APIs and the server."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.py").write_text(SERVER)
    (folder / "serai.yaml").write_text(json.dumps(specs))  # JSON is YAML
    return folder
