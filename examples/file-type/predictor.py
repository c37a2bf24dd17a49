"""Tells what kind of file it is sent, with Google's magika: a small ONNX model in a package."""

from magika import Magika

from serai_runtime import HTTPError


class Predictor:
    def __init__(self, config):
        self.magika = Magika()

    def predict(self, payload):
        if payload is None:
            raise HTTPError(400, "send the file's bytes as the body")
        if not isinstance(payload, bytes):
            # The runtime has read text or JSON for us; the model wants the bytes as they were.
            payload = payload.encode() if isinstance(payload, str) else repr(payload).encode()
        found = self.magika.identify_bytes(payload)
        return {
            "label": found.output.label,
            "description": found.output.description,
            "mime_type": found.output.mime_type,
            "score": round(float(found.score), 4),
        }
