"""LitServe: its fast queue, one worker, one API server."""

import sys
from typing import Any

import litserve
from fastapi import Request


class Hello(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: Request) -> Any:
        return request

    def predict(self, payload: Any) -> Any:
        return {"sum": payload["a"] + payload["b"] + payload["c"]}

    def encode_response(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Hello(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
    )
