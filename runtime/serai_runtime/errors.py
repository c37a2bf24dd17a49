"""What a predictor raises on purpose, and what is wrong with a predictor itself."""


class HTTPError(Exception):
    """Raise it in a predictor to answer with this status; `detail` becomes the message."""

    def __init__(
        self, status: int, detail: str = "", headers: dict[str, str] | None = None
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"HTTPError is for 400 to 599, not {status}")
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


class PredictorError(Exception):
    """The predictor cannot be used; the message tells its author what to change."""


class BodyError(Exception):
    """The request's body cannot be read as what its content type says."""


class BodyTooLarge(Exception):
    """The request's body is larger than what is allowed."""
