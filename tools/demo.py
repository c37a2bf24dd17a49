"""`make demo`: start Serai, deploy an example, send a real file through the gateway."""

import argparse
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERAI = Path(sys.executable).parent / "serai"
DATA = ROOT / ".cache" / "demo"
EXAMPLE = ROOT / "examples" / "file-type"
SAMPLE = ROOT / "docs" / "images" / "flow.svg"
PORTS = (8080, 7070)


def port(preferred: int) -> int:
    """Return the preferred port, or a free one when it is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def serai(*arguments: str) -> str:
    """Run a serai command on the demo's data folder and return what it printed."""
    done = subprocess.run(
        [str(SERAI), *arguments],
        env={"PATH": "/usr/bin:/bin:/usr/sbin", "SERAI_DATA_DIR": str(DATA), **_passed_on()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _passed_on() -> dict[str, str]:
    import os

    wanted = ("HOME", "LANG", "TERM", "PATH", "SSL_CERT_FILE", "PIP_CERT")
    kept = {name: os.environ[name] for name in wanted if name in os.environ}
    return kept | {n: v for n, v in os.environ.items() if n.startswith(("UV_", "PIP_", "CI"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the first answer")
    once = parser.parse_args().once
    DATA.mkdir(parents=True, exist_ok=True)
    gateway, control = (port(number) for number in PORTS)
    print("starting Serai", flush=True)
    serai("up", "--detach", "--port", str(gateway), "--control-port", str(control))
    try:
        print("deploying examples/file-type", flush=True)
        subprocess.run(
            [str(SERAI), "deploy", str(EXAMPLE), "--wait"],
            env={"SERAI_DATA_DIR": str(DATA), **_passed_on()},
            check=True,
        )
        print(f"sending {SAMPLE.relative_to(ROOT)} through the gateway", flush=True)
        print("answer:", serai("predict", "file-type", f"@{SAMPLE}").strip(), flush=True)
        endpoint = json.loads((DATA / "endpoint.json").read_text())
        print(f"\ngateway  {endpoint['gateway_url']}/file-type")
        print(f"control  {endpoint['control_url']}")
        print("\nnext:")
        command = f"SERAI_DATA_DIR={DATA.relative_to(ROOT)} {SERAI.relative_to(ROOT)}"
        for words in ("get -w", "describe file-type", "logs file-type -f"):
            print(f"  {command} {words}", flush=True)
        if not once:
            print("\nserving; Ctrl-C ends it", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        serai("down")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:  # serai has said why
        sys.exit(
            f"the demo ended: `serai {error.cmd[1]}` failed with status {error.returncode}; "
            f"what an earlier demo left ends with: SERAI_DATA_DIR={DATA.relative_to(ROOT)} "
            f"{SERAI.relative_to(ROOT)} down"
        )
