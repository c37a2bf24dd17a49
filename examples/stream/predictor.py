"""Answers word by word: server-sent events for those who accept them, else a chunked body."""

import asyncio

from serai_runtime import HTTPError

ANSWER = "A caravanserai is where nomads rest, and where models are served."


class Predictor:
    def __init__(self, config):
        self.delay_s = config.get("delay_ms", 50) / 1000

    async def predict(self, payload):
        prompt = payload.get("prompt") if isinstance(payload, dict) else None
        if not isinstance(prompt, str):
            raise HTTPError(400, 'send {"prompt": "…"} as JSON')
        return self.words(prompt)

    async def words(self, prompt):
        for word in [*prompt.split(), "→", *ANSWER.split()]:
            yield f"{word} "
            await asyncio.sleep(self.delay_s)
