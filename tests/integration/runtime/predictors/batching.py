"""Doubles numbers in batches; what a payload asks for is done to its batch."""

import threading
from pathlib import Path
from typing import Any

from serai_runtime import HTTPError


class Predictor:
    def predict(self, payload: list[Any]) -> Any:
        for one in payload:
            if isinstance(one, dict):
                while not Path(one["until"]).exists():
                    threading.Event().wait(0.005)
                return [{"batch": len(payload)} for _ in payload]
        if "short" in payload:
            return [1] * (len(payload) - 1)
        if "boom" in payload:
            raise ValueError("for all")
        return [
            HTTPError(422, "not a number")
            if isinstance(one, str)
            else {"double": 2 * one, "batch": len(payload)}
            for one in payload
        ]
