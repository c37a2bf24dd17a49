"""Names iris flowers by their measures, with scikit-learn; see train.py for the model."""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from serai_runtime import HTTPError


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
        if not isinstance(payload, dict):
            raise HTTPError(400, f"send a JSON object with {', '.join(self.features)} (in cm)")
        try:
            row = [float(payload[name]) for name in self.features]
        except KeyError as missing:
            raise HTTPError(400, f"{missing} is missing") from missing
        except (TypeError, ValueError) as wrong:
            raise HTTPError(400, f"measures are numbers: {wrong}") from wrong
        shares = self.model.predict_proba([row])[0]
        best = int(shares.argmax())
        return {
            "label": self.labels[best],
            "probabilities": dict(zip(self.labels, shares.round(self.decimals), strict=True)),
        }
