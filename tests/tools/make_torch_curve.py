#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the losses of PyTorch's first 20 training steps, with the initial weights and batches that they belong to.

    python3 tests/tools/make_torch_curve.py tests/data/training/torch_curve.json [SEED]

Plain PyTorch in fp32 on the CPU: nn.Linear, softplus, torch.optim.AdamW, clip_grad_norm_. Numbers are written with the
nine digits that give the same fp32 back.
"""
import json
import sys

import torch
from torch.nn.functional import softplus

ROWS, INPUT, HIDDEN, PAIRS, STEPS = 32, 24, 16, 40, 20


def numbers(tensor):
    return [float(f"{value:.9g}") for value in tensor.flatten().tolist()]


def draw_pairs(count, extras):
    chosen = torch.randint(ROWS, (count,))
    rejected = (chosen + torch.randint(1, ROWS, (count,))) % ROWS
    pairs = {"chosen": chosen, "rejected": rejected}
    if extras:
        pairs["margin"] = torch.rand(count)
        pairs["weight"] = 2 * torch.rand(count)
        pairs["label"] = torch.rand(count)
    return pairs


def train(name, x, hidden, batches, clip_norm, learning_rate=1e-2, weight_decay=0.1):
    if hidden:
        head = torch.nn.Sequential(torch.nn.Linear(INPUT, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))
    else:
        head = torch.nn.Linear(INPUT, 1, bias=False)
    initial = [numbers(parameter.detach()) for parameter in head.parameters()]  # W1, b1, w2, b2 or w
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=weight_decay)
    losses, norms = [], []
    for step in range(STEPS):
        pairs = batches[step % len(batches)]
        rewards = head(x).squeeze(1)
        count = len(pairs["chosen"])
        d = rewards[pairs["chosen"]] - rewards[pairs["rejected"]] - pairs.get("margin", torch.zeros(count))
        label = pairs.get("label", torch.ones(count))
        weight = pairs.get("weight", torch.ones(count))
        loss = (weight * (label * softplus(-d) + (1 - label) * softplus(d))).sum() / count
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(head.parameters(), clip_norm or float("inf"))
        optimizer.step()
        losses.append(loss.detach())
        norms.append(norm)
    return {
        "name": name,
        "hidden": hidden,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "clip_norm": clip_norm,
        "initial": [value for tensor in initial for value in tensor],
        "batches": [{key: numbers(value) for key, value in pairs.items()} for pairs in batches],
        "losses": numbers(torch.stack(losses)),
        "gradient_norms": numbers(torch.stack(norms)),
    }


def main():
    torch.manual_seed(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    torch.set_num_threads(1)
    full, extras = draw_pairs(PAIRS, False), draw_pairs(PAIRS, True)
    x = torch.randn(ROWS, INPUT)
    small, small_with_extras = ([draw_pairs(12, flag) for _ in range(STEPS)] for flag in (False, True))
    cases = [
        train("MLP, full batch", x, HIDDEN, [full], clip_norm=0),
        train("MLP, mini-batches", x, HIDDEN, small, clip_norm=0),
        train("MLP, margins, weights, labels, clipped", x, HIDDEN, [extras], clip_norm=0.05),
        train("linear, full batch", x, 0, [full], clip_norm=0),
        train("linear, mini-batches", x, 0, small_with_extras, clip_norm=0),
    ]
    contents = {
        "origin": f"tests/tools/make_torch_curve.py with PyTorch {torch.__version__}",
        "rows": ROWS,
        "input": INPUT,
        "x": numbers(x),
        "cases": cases,  # step i takes batch i modulo their number
    }
    with open(sys.argv[1], "w") as file:
        json.dump(contents, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
