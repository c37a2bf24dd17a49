"""Train the model of this example: `python train.py` writes model.json.

What was learned is kept as numbers, not as a pickle, so that it outlives versions of scikit-learn.
"""

import json
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def main() -> None:
    data = load_iris()
    train_x, test_x, train_y, test_y = train_test_split(
        data.data, data.target, test_size=0.2, random_state=0, stratify=data.target
    )
    model = LogisticRegression(max_iter=1000).fit(train_x, train_y)
    learned = {
        "features": FEATURES,
        "labels": [str(name) for name in data.target_names],
        "coefficients": model.coef_.round(6).tolist(),
        "intercepts": model.intercept_.round(6).tolist(),
    }
    Path(__file__).with_name("model.json").write_text(json.dumps(learned, indent=2) + "\n")
    print(f"accuracy on {len(test_y)} flowers it had not seen: {model.score(test_x, test_y):.3f}")


if __name__ == "__main__":
    main()
