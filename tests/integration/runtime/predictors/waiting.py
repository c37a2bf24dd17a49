"""Waits for files: the test says when a call goes on, by making one."""

import os
import threading
from pathlib import Path
from typing import Any


class Predictor:
    def __init__(self, config: dict[str, Any]) -> None:
        self.folder = Path(config.get("folder", "."))

    def predict(self, payload: dict[str, Any]) -> Any:
        (self.folder / f"began-{payload['name']}").touch()
        while not (self.folder / f"go-{payload['name']}").exists():
            threading.Event().wait(0.005)
        return {"name": payload["name"], "process": os.getpid()}

    def close(self) -> None:
        (self.folder / "closed").touch()
