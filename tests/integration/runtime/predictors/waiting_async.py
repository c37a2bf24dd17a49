"""Like `waiting`, in coroutines; it notes which calls were cancelled, and blocks on request."""

import asyncio
import threading
from pathlib import Path
from typing import Any


class Predictor:
    def __init__(self, config: dict[str, Any]) -> None:
        self.folder = Path(config.get("folder", "."))

    async def predict(self, payload: dict[str, Any]) -> Any:
        name = payload["name"]
        if name == "block":
            (self.folder / "blocks").touch()
            threading.Event().wait(60)
        if name == "cancel":
            raise asyncio.CancelledError
        (self.folder / f"began-{name}").touch()
        try:
            # The test decides when it goes on, by making a file.
            while not (self.folder / f"go-{name}").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # noqa: TID251
        except asyncio.CancelledError:
            (self.folder / f"cancelled-{name}").touch()
            raise
        return {"name": name}
