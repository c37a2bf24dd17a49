"""Ends its process in the way the payload asks."""

import os
import signal
from typing import Any


class Predictor:
    def predict(self, payload: Any) -> Any:
        if payload == "exit":
            os._exit(7)
        if payload == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()
