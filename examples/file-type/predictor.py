"""Tells what kind of file it is sent, with Google's magika: a small ONNX model in a package."""

from magika import Magika

from serai_runtime import HTTPError

AS_BYTES = "Content-Type: application/octet-stream"


class Predictor:
    def __init__(self, config):
        self.magika = Magika()

    def predict(self, payload, headers):
        found = self.magika.identify_bytes(content(payload, headers.get("content-type")))
        return {
            "label": found.output.label,
            "description": found.output.description,
            "mime_type": found.output.mime_type,
            "score": round(float(found.score), 4),
        }


def content(payload, content_type):
    """Return the file's bytes: the body, text, or the one file of a multipart form.

    What the runtime has parsed (JSON, form fields) is no longer what was sent: a guess from it
    would be wrong without a word, so it is refused.
    """
    if payload is None:
        raise HTTPError(400, f"send the file as the body, with {AS_BYTES}")
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, dict) and len(payload) == 1:
        (only,) = payload.values()
        if isinstance(getattr(only, "data", None), bytes):
            return only.data
    raise HTTPError(
        400, f"the body was read as {content_type or 'JSON'}; send the file's bytes with {AS_BYTES}"
    )
