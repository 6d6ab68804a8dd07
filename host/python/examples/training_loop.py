# SPDX-License-Identifier: Apache-2.0
"""A training loop by hand, with mini-batches of pairs accumulated to one step:

    python training_loop.py EMBEDDINGS.npy PAIRS.npy MODEL.safetensors

PAIRS.npy holds [pairs, 2] rows of the embeddings, chosen and rejected. Rows that a batch names several times are scored
once.
"""

import sys

import numpy as np
import torch

import rewardhead.torch as rht


def main(embeddings: str, pairs: str, model: str, epochs: int = 5, batch: int = 256, accumulate: int = 4) -> None:
    x = torch.from_numpy(np.load(embeddings))
    every = torch.from_numpy(np.load(pairs))
    torch.manual_seed(0)
    head = rht.RewardHead(x.size(1), hidden=64)
    optimizer = rht.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    for epoch in range(epochs):
        total = 0.0
        for step in every[torch.randperm(len(every))].split(batch * accumulate):
            optimizer.zero_grad()
            for part in step.split(batch):
                rows, index = part.unique(return_inverse=True)
                loss = rht.preference_loss(head, x[rows], index[:, 0], index[:, 1], normalizer=len(step))
                loss.backward()
                total += loss.item() * len(step)
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
        print(f"epoch {epoch + 1}  loss {total / len(every):.4f}")
    head.save(model)
    with torch.no_grad():
        rewards = head(x)
    print(f"accuracy on the training pairs {(rewards[every[:, 0]] > rewards[every[:, 1]]).float().mean().item():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
