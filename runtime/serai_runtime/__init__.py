"""Serves a Python predictor over HTTP. `HTTPError` is all that a predictor may want of it."""

from serai_runtime.errors import HTTPError

__all__ = ["HTTPError"]
