"""Calls a loaded predictor: on its threads, on the loop, in batches or as a stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from serai_runtime.batch import BatchLimits
from serai_runtime.batcher import Batcher
from serai_runtime.load import Method, Predictor, Style, arguments_for
from serai_runtime.metrics import Metrics
from serai_runtime.options import Options
from serai_runtime.pool import Pool

Offered = dict[str, Any]
END = object()


class Service:
    """One predictor, ready to be called; `offered` holds payload, query_params and headers."""

    def __init__(
        self, predictor: Predictor, options: Options, pool: Pool, metrics: Metrics
    ) -> None:
        self.predictor = predictor
        self._pool = pool
        self._threads = options.threads
        self._predict = self._predicting(options, metrics)
        used = (predictor.predict, predictor.pre_process, predictor.post_predict)
        self.wants_more = any(
            {"query_params", "headers"} & set(method.takes) for method in used if method
        )
        """Whether anything but the payload is asked for: most predictors spare us the work."""

    async def predict(self, offered: Offered) -> Any:
        """Return the result; for a generator, an async iterator of its items."""
        if self.predictor.pre_process is not None:
            offered = {**offered, "payload": await self._call(self.predictor.pre_process, offered)}
        return await self._predict(offered)

    @property
    def call_alone(self) -> Callable[[Offered], Awaitable[Any]]:
        """Return the shortest way to predict: for the hot path."""
        return self._predict if self.predictor.pre_process is None else self.predict

    async def after(self, offered: Offered, response: Any) -> None:
        """Run `post_predict`, once the response has been sent."""
        method = self.predictor.post_predict
        if method is not None:
            await self._call(method, {**offered, "response": response})

    def _predicting(
        self, options: Options, metrics: Metrics
    ) -> Callable[[Offered], Awaitable[Any]]:
        method = self.predictor.predict
        if options.batch_max_size:
            limits = BatchLimits(options.batch_max_size, options.batch_max_wait_ms / 1000)
            batcher = Batcher(
                partial(self._call_batch, method),
                limits,
                parallel=1 if method.style is Style.ASYNC else self._threads,
                on_batch=metrics.batches.observe,
            )
            return batcher.run
        match method.style:
            case Style.ASYNC_GENERATOR:
                return partial(_start_async_stream, method)
            case Style.GENERATOR:
                return partial(self._start_stream, method)
            case Style.ASYNC if method.takes == ("payload",):
                call = method.call
                return lambda offered: call(offered["payload"])
            case Style.BLOCKING if method.takes == ("payload",):
                call, run = method.call, self._pool.run
                return lambda offered: run(partial(call, offered["payload"]))
            case _:
                return partial(self._call, method)

    async def _call(self, method: Method, offered: Offered) -> Any:
        call = partial(method.call, **arguments_for(method, offered))
        return await call() if method.style is Style.ASYNC else await self._pool.run(call)

    async def _call_batch(self, method: Method, batch: list[Offered]) -> Any:
        arguments = {name: [one[name] for one in batch] for name in method.takes}
        call = partial(method.call, **arguments)
        return await call() if method.style is Style.ASYNC else await self._pool.run(call)

    async def _start_stream(self, method: Method, offered: Offered) -> AsyncIterator[Any]:
        items = await self._pool.run(partial(method.call, **arguments_for(method, offered)))
        return self._stream(items)

    async def stream_of(self, items: Iterator[Any]) -> AsyncIterator[Any]:
        """Return an async iterator over a plain iterator, which runs on the threads."""
        return self._stream(items)

    async def _stream(self, items: Iterator[Any]) -> AsyncIterator[Any]:
        try:
            while (item := await self._pool.run(partial(next, items, END))) is not END:
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                # On the threads again: a generator runs on one thread at a time.
                await asyncio.shield(self._pool.run(close))


async def _start_async_stream(method: Method, offered: Offered) -> AsyncIterator[Any]:
    items: AsyncIterator[Any] = method.call(**arguments_for(method, offered))
    return items
