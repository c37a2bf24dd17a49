"""BentoML: one worker, an async API method, access log, metrics and tracing off by its settings."""

import bentoml


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Hello:
    @bentoml.api(route="/predict")
    async def predict(self, a: float, b: float, c: float) -> dict[str, float]:
        return {"sum": a + b + c}
