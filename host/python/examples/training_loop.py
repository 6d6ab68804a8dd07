# SPDX-License-Identifier: Apache-2.0
"""A training loop by hand, with mini-batches of pairs accumulated to one step:

    python training_loop.py EMBEDDINGS.npy PAIRS.npy MODEL.safetensors [--epochs 5] [--batch 256] [--accumulate 4]

PAIRS.npy holds [pairs, 2] rows of the embeddings, chosen and rejected. Rows that a batch names several times are scored
once.
"""

import argparse

import numpy as np
import torch

import rewardhead.torch as rht


def main(embeddings: str, pairs: str, model: str, epochs: int, batch: int, accumulate: int) -> None:
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", metavar="EMBEDDINGS.npy")
    parser.add_argument("pairs", metavar="PAIRS.npy")
    parser.add_argument("model", metavar="MODEL.safetensors")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256, help="pairs whose gradients are computed at once")
    parser.add_argument("--accumulate", type=int, default=4, help="batches in a step")
    main(**vars(parser.parse_args()))
