"""Adds three numbers in a coroutine."""

from typing import Any


class Predictor:
    async def predict(self, payload: dict[str, Any]) -> dict[str, float]:
        return {"sum": payload["a"] + payload["b"] + payload["c"]}
