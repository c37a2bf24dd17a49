"""Loads until the test says so."""

import threading
from pathlib import Path
from typing import Any


class Predictor:
    def __init__(self, config: dict[str, Any]) -> None:
        self.folder = Path(config["folder"])

    def load(self) -> None:
        while not (self.folder / "loaded").exists():
            threading.Event().wait(0.005)

    def predict(self, payload: Any) -> str:
        return "ready"
