# SPDX-License-Identifier: Apache-2.0
"""Chooses width and decay by cross-validation that holds out whole debates, with scikit-learn:

python grid_search.py SAMPLE_DATA [EPOCHS]

SAMPLE_DATA is a folder with embeddings.npy, items.csv and pairs.csv as host/sample_data has them.
"""

import csv
import pathlib
import sys

import numpy as np
from sklearn.model_selection import GridSearchCV, GroupKFold

from rewardhead import RewardModel


def main(folder: str, epochs: str = "60") -> None:
    data = pathlib.Path(folder)
    embeddings = np.load(data / "embeddings.npy")
    with open(data / "items.csv", newline="", encoding="utf-8") as file:
        items = list(csv.DictReader(file))
    row = {item["id"]: i for i, item in enumerate(items)}
    debates = np.array([item["debate"] for item in items])
    with open(data / "pairs.csv", newline="", encoding="utf-8") as file:
        pairs = np.array([[row[pair["chosen"]], row[pair["rejected"]]] for pair in csv.DictReader(file)])

    search = GridSearchCV(
        RewardModel(embeddings, epochs=int(epochs), standardize=True),
        {"hidden": [0, 64], "weight_decay": [0.1, 1.0]},
        cv=GroupKFold(4),
    )
    search.fit(pairs, groups=debates[pairs[:, 0]])
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(f"{parameters}  held-out accuracy {score:.3f}")
    print(f"best: {search.best_params_}")


if __name__ == "__main__":
    main(*sys.argv[1:])
