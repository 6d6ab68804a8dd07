# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's eager step (forward, pair loss, backward) at one shape: the named peer of bench_kernels' `step`.

python bench/torch_step.py INPUT HIDDEN ROWS PAIRS THREADS DX SECONDS   -> the fastest call, in seconds
"""

import sys
import time

import torch


def make_step(inputs, hidden, rows, pairs, dx):
    torch.manual_seed(0)
    if hidden:
        head = torch.nn.Sequential(torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))
    else:
        head = torch.nn.Linear(inputs, 1, bias=False)
    x = torch.randn(rows, inputs, requires_grad=dx)
    p = torch.arange(pairs)
    chosen, rejected = 2 * p % rows, (2 * p + 1 + 2 * p // rows) % rows
    adjacent = 2 * pairs == rows  # every row in one pair: strided views instead of a gather, the faster of the two

    def step():
        head.zero_grad(set_to_none=True)
        x.grad = None
        rewards = head(x).squeeze(-1)
        difference = rewards[0::2] - rewards[1::2] if adjacent else rewards[chosen] - rewards[rejected]
        torch.nn.functional.softplus(-difference).mean().backward()

    return step


def main():
    inputs, hidden, rows, pairs, threads, dx = (int(word) for word in sys.argv[1:7])
    budget = float(sys.argv[7])
    torch.set_num_threads(threads)
    step = make_step(inputs, hidden, rows, pairs, bool(dx))
    for _ in range(3):
        step()
    best, end = float("inf"), time.perf_counter() + budget
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    print(best)


if __name__ == "__main__":
    main()
