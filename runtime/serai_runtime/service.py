"""Calls a loaded predictor: on its threads, on the loop, or in batches."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from serai_runtime.batch import BatchLimits
from serai_runtime.batcher import Batcher
from serai_runtime.errors import PredictorError
from serai_runtime.load import Method, Predictor, Style, arguments_for
from serai_runtime.metrics import Metrics
from serai_runtime.options import Options
from serai_runtime.pool import Pool

Offered = dict[str, Any]
GENERATORS = (Style.GENERATOR, Style.ASYNC_GENERATOR)


class Service:
    """One predictor, ready to be called; `offered` holds payload, query_params and headers."""

    def __init__(
        self, predictor: Predictor, options: Options, pool: Pool, metrics: Metrics
    ) -> None:
        self.predictor = predictor
        self._pool = pool
        self._predict = self._predicting(options, metrics)
        used = (predictor.predict, predictor.pre_process, predictor.post_predict)
        self.wants_more = any(
            {"query_params", "headers"} & set(method.takes) for method in used if method
        )
        """Whether anything but the payload is asked for: most predictors spare us the work."""

    @property
    def call_alone(self) -> Callable[[Offered], Awaitable[Any]]:
        """Return the shortest way to predict: for the hot path."""
        return self._predict if self.predictor.pre_process is None else self._predict_prepared

    async def _predict_prepared(self, offered: Offered) -> Any:
        method = self.predictor.pre_process
        assert method is not None
        return await self._predict({**offered, "payload": await self._call(method, offered)})

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
            return self._batcher(method, options, metrics).run
        if method.style in GENERATORS:
            return partial(_generate, method)
        call, run = method.call, self._pool.run
        if method.takes != ("payload",):
            return partial(self._call, method)
        if method.style is Style.ASYNC:
            return lambda offered: call(offered["payload"])
        return lambda offered: run(call, offered["payload"])

    def _batcher(self, method: Method, options: Options, metrics: Metrics) -> Batcher:
        if method.style in GENERATORS:
            raise PredictorError(
                "batching gives predict a list and needs a list back, but this predict is a "
                "generator: leave out the batch settings, or return a list"
            )
        limits = BatchLimits(
            options.batch_max_size, options.batch_max_wait_ms / 1000, options.threads
        )
        return Batcher(partial(self._call_batch, method), limits, metrics.batches.observe)

    async def _call(self, method: Method, offered: Offered) -> Any:
        arguments = arguments_for(method, offered)
        if method.style is Style.ASYNC:
            return await method.call(**arguments)
        return await self._pool.run(partial(method.call, **arguments))

    async def _call_batch(self, method: Method, batch: list[Offered]) -> Any:
        arguments = {name: [one[name] for one in batch] for name in method.takes}
        return await self._call(method, arguments)


async def _generate(method: Method, offered: Offered) -> Any:
    """Return the generator; nothing of the user's runs before its first item is asked for."""
    return method.call(**arguments_for(method, offered))
