"""Ray Serve: one replica, HAProxy in front, its own throughput settings by environment."""

import signal
import sys

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.5})
class Hello:
    async def __call__(self, request: Request) -> dict[str, float]:
        payload = await request.json()
        return {"sum": payload["a"] + payload["b"] + payload["c"]}


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Hello.bind())
    print("serving", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
