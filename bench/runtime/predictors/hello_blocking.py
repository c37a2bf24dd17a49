"""Adds three numbers in a plain method."""

from typing import Any


class Predictor:
    def predict(self, payload: dict[str, Any]) -> dict[str, float]:
        return {"sum": payload["a"] + payload["b"] + payload["c"]}
