"""Reads text in images with RapidOCR: three small ONNX models inside a package."""

import logging
import os
from pathlib import Path

# Before cv2 is imported, which reads it once: a small file may hold a picture of gigabytes.
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(40_000_000)

import cv2
import numpy as np
from rapidocr import RapidOCR

from serai_runtime import HTTPError

MAX_ASPECT = 50  # a thinner picture holds no line of text, and RapidOCR cannot scale it


class Predictor:
    def __init__(self, config):
        self.engine = RapidOCR()
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)

    def load(self):
        """Read one image, since the first one takes longest: ready means ready."""
        self.read(Path("sample.png").read_bytes())

    def predict(self, payload):
        """Take a list of images (a batch), return a list of as many answers."""
        return [self.answer(image) for image in payload]

    def answer(self, data):
        """Return what one image says, or its error: the others of the batch are answered."""
        try:
            return self.read(data)
        except HTTPError as error:
            return error

    def read(self, data):
        if not isinstance(data, bytes) or not data:
            raise HTTPError(400, "send an image's bytes as the body, with its content type")
        found = self.engine(decoded(data))
        texts = found.txts or ()
        scores = found.scores or ()
        return {
            "text": " ".join(texts),
            "lines": [
                {"text": text, "score": round(float(score), 3)}
                for text, score in zip(texts, scores, strict=True)
            ],
        }


def decoded(data):
    """Return the picture in an image file's bytes; refuse what cannot be read or is too large."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise HTTPError(400, "the image is broken, or has more than 40 million pixels") from error
    if image is None:
        raise HTTPError(400, "the body is no image that can be read (PNG, JPEG, WebP …)")
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise HTTPError(400, f"an image of {width} x {height} pixels is too thin to hold text")
    return image
