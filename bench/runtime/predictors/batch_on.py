"""Answers at once, in batches."""

from typing import Any


class Predictor:
    def predict(self, payload: list[Any]) -> list[Any]:
        return [6] * len(payload)
