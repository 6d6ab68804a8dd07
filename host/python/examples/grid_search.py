# SPDX-License-Identifier: Apache-2.0
"""Chooses width and decay by cross-validation that holds out whole debates, with scikit-learn:

    python grid_search.py SAMPLE_DATA [--epochs 60]

SAMPLE_DATA is a folder with embeddings.npy, items.csv and pairs.csv as host/sample_data has them.
"""

import argparse
import csv
import pathlib

import numpy as np
from sklearn.model_selection import GridSearchCV, GroupKFold

from rewardhead import RewardModel


def main(data: pathlib.Path, epochs: int) -> None:
    embeddings = np.load(data / "embeddings.npy")
    with open(data / "items.csv", newline="", encoding="utf-8") as file:
        items = list(csv.DictReader(file))
    row = {item["id"]: i for i, item in enumerate(items)}
    debates = np.array([item["debate"] for item in items])
    with open(data / "pairs.csv", newline="", encoding="utf-8") as file:
        pairs = np.array([[row[pair["chosen"]], row[pair["rejected"]]] for pair in csv.DictReader(file)])

    search = GridSearchCV(
        RewardModel(embeddings, epochs=epochs, standardize=True),
        {"hidden": [0, 64], "weight_decay": [0.1, 1.0]},
        cv=GroupKFold(4),
    )
    search.fit(pairs, groups=debates[pairs[:, 0]])
    for parameters, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(f"{parameters}  held-out accuracy {score:.3f}")
    print(f"best: {search.best_params_}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="SAMPLE_DATA", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=60)
    main(**vars(parser.parse_args()))
