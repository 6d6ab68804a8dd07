#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/evaluation/metrics.json: random comparisons, and their metrics as NumPy computes them.

    python3 tests/tools/make_metrics.py tests/data/evaluation/metrics.json

An independent statement of the definitions in host/evaluation/metrics.h: whole arrays, histograms and corrcoef where
the C++ code loops. Needs NumPy only.
"""
import json
import sys

import numpy as np


def metrics(r, pairs, lengths):
    c, j = pairs["chosen"], pairs["rejected"]
    y, w, m = pairs["label"], pairs["weight"], pairs["margin"]
    d = r[c] - r[j]
    p = 1 / (1 + np.exp(-d))

    def cross_entropy(x):
        return y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)

    decided = y != 0.5
    sign = np.sign(y - 0.5)[decided]
    hit = (np.sign(d[decided]) * sign + 1) / 2
    longer = (np.sign(lengths[c] - lengths[j])[decided] * sign + 1) / 2
    confidence = np.maximum(p, 1 - p)[decided]
    edges = np.linspace(0.5, 1, 16)
    count, _ = np.histogram(confidence, edges)
    hits, _ = np.histogram(confidence, edges, weights=hit)
    sums, _ = np.histogram(confidence, edges, weights=confidence)
    full = count > 0
    gap = np.abs(hits[full] / count[full] - sums[full] / count[full])
    rows = np.unique(np.concatenate([c, j]))
    return {
        "pairs": len(c),
        "loss": (w * cross_entropy(d - m)).sum() / len(c),
        "accuracy": hit.mean(),
        "accuracy_longer_rule": longer.mean(),
        "nll": cross_entropy(d).mean(),
        "brier": ((p - y) ** 2).mean(),
        "ece": np.average(gap, weights=count[full]),
        "margin_mean": d.mean(),
        "reward_mean": r[rows].mean(),
        "reward_std": r[rows].std(),
        "accuracy_longer_chosen": hit[longer == 1].mean(),
        "accuracy_shorter_chosen": hit[longer == 0].mean(),
        "reward_length_correlation": np.corrcoef(r[rows], lengths[rows])[0, 1],
    }


def main():
    random = np.random.default_rng(20240501)
    groups = np.repeat(np.arange(5), 8)
    rewards = np.round(random.normal(size=40), 1).astype(np.float32)  # one decimal: some are equal
    lengths = random.integers(5, 25, size=40)
    group = random.integers(0, 5, size=160)
    chosen = group * 8 + random.integers(0, 8, size=160)
    rejected = group * 8 + (chosen % 8 + random.integers(1, 8, size=160)) % 8
    pairs = {
        "chosen": chosen,
        "rejected": rejected,
        "label": random.choice(np.array([1, 1, 1, 0.75, 0.5, 0.25, 0], np.float32), size=160),
        "weight": np.round(random.uniform(0, 2, size=160), 2).astype(np.float32),
        "margin": np.round(random.uniform(-0.5, 1, size=160), 2).astype(np.float32),
    }
    r = rewards.astype(np.float64)
    by_group = {}
    for g in range(5):
        of_group = {name: column[group == g] for name, column in pairs.items()}
        by_group[f"group {g}"] = metrics(r, of_group, lengths)
    contents = {
        "origin": f"tests/tools/make_metrics.py with NumPy {np.__version__}",
        "rewards": [float(f"{x:.9g}") for x in rewards],
        "lengths": lengths.tolist(),
        "groups": [f"group {g}" for g in groups],
        "pairs": {name: [float(f"{x:.9g}") for x in column] for name, column in pairs.items()},
        "expected": metrics(r, pairs, lengths),
        "expected_by_group": by_group,
    }
    with open(sys.argv[1], "w") as file:
        json.dump(contents, file, indent=1)
        file.write("\n")


main()
