"""Names iris flowers by their measures, with scikit-learn; see train.py for the model."""

import json
import math
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from serai_runtime import HTTPError

MAX_CM = 1000


class Predictor:
    def __init__(self, config):
        learned = json.loads(Path("model.json").read_text())
        self.features = learned["features"]
        self.labels = learned["labels"]
        self.model = LogisticRegression()
        self.model.classes_ = np.arange(len(self.labels))
        self.model.coef_ = np.array(learned["coefficients"])
        self.model.intercept_ = np.array(learned["intercepts"])
        self.decimals = config.get("decimals", 4)

    def predict(self, payload):
        shares = self.model.predict_proba([self.row(payload)])[0]
        best = int(shares.argmax())
        return {
            "label": self.labels[best],
            "probabilities": dict(zip(self.labels, shares.round(self.decimals), strict=True)),
        }

    def row(self, payload):
        """Return the measures in the model's order; anything else is the caller's mistake."""
        if not isinstance(payload, dict):
            raise HTTPError(400, f"send a JSON object with {', '.join(self.features)} (in cm)")
        if missing := [name for name in self.features if name not in payload]:
            raise HTTPError(400, f"{', '.join(missing)} missing: give all measures, in cm")
        return [measure(name, payload[name]) for name in self.features]


def measure(name, value):
    """Return one measure in cm. JSON has no NaN, but the text "nan" of a form is a float."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= MAX_CM:
        raise HTTPError(400, f"{name} has to be a number of cm from 0 to {MAX_CM}")
    return number
