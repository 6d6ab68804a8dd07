# SPDX-License-Identifier: Apache-2.0
"""Trains a head on several processes, each with its share of the pairs of every step:

    torchrun --nproc-per-node 2 distributed.py EMBEDDINGS.npy PAIRS.npy MODEL.safetensors [--steps 30]

PAIRS.npy holds [pairs, 2] rows of the embeddings, chosen and rejected. The curve and the model do not depend on the
number of processes, except for rounding.
"""

import argparse
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # before a group exists: its functions' defaults would hold on to the group for good

import rewardhead.torch as rht


def train(embeddings: str, pairs: str, model: str, steps: int) -> None:
    rank, processes = dist.get_rank(), dist.get_world_size()
    x = torch.from_numpy(np.load(embeddings))
    every = torch.from_numpy(np.load(pairs))
    # Unevenly, to show that it does not matter: process i gets i + 1 shares.
    bounds = torch.arange(processes + 1).cumsum(0) * len(every) // (processes * (processes + 1) // 2)
    mine = every[bounds[rank] : bounds[rank + 1]]
    rows, index = mine.unique(return_inverse=True)  # only the rows that this process scores

    torch.manual_seed(0)
    head = rht.data_parallel(rht.RewardHead(x.size(1), 64))
    # eps above the rounding of gradients that cancel, as that of b1 does for a unit that is active in every row: of
    # 1e-8, AdamW would make steps of what rounding leaves, which differs with the number of processes.
    optimizer = rht.AdamW(head.parameters(), lr=1e-3, eps=1e-6)
    normalizer = rht.global_normalizer(len(mine))
    for step in range(steps):
        optimizer.zero_grad()
        loss = rht.preference_loss(head, x[rows], index[:, 0], index[:, 1], normalizer=normalizer)
        loss.backward()
        optimizer.step()
        total = loss.detach() / processes
        dist.all_reduce(total)
        if rank == 0:
            print(f"step {step + 1}  loss {total.item():.9f}", flush=True)
    if rank == 0:
        head.module.save(model)


def main(**arguments: Any) -> None:
    dist.init_process_group("gloo")
    train(**arguments)
    # With nothing left that holds the group, this ends its threads. One that still had to drop a tensor while Python
    # shuts down would abort the process.
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", metavar="EMBEDDINGS.npy")
    parser.add_argument("pairs", metavar="PAIRS.npy")
    parser.add_argument("model", metavar="MODEL.safetensors")
    parser.add_argument("--steps", type=int, default=30)
    main(**vars(parser.parse_args()))
