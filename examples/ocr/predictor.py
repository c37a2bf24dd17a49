"""Reads text in images with RapidOCR: three small ONNX models inside a package."""

import logging

import cv2
import numpy as np
from rapidocr import RapidOCR

from serai_runtime import HTTPError


class Predictor:
    def __init__(self, config):
        self.engine = RapidOCR()
        logging.getLogger("RapidOCR").setLevel(logging.WARNING)

    def predict(self, payload):
        """Take a list of images (a batch), return a list of as many answers."""
        return [self.read(image) for image in payload]

    def read(self, data):
        if not isinstance(data, bytes) or not data:
            return HTTPError(400, "send an image's bytes as the body, with its content type")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            return HTTPError(400, "the body is no image that can be read (PNG, JPEG, WebP …)")
        found = self.engine(image)
        texts = found.txts or ()
        scores = found.scores or ()
        return {
            "text": " ".join(texts),
            "lines": [
                {"text": text, "score": round(float(score), 3)}
                for text, score in zip(texts, scores, strict=True)
            ],
        }
