# SPDX-License-Identifier: Apache-2.0
"""Several processes with DistributedDataParallel: an exact global loss, and one bucket for the head's gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def global_normalizer(pairs: int, group: dist.ProcessGroup | None = None) -> float:
    """What each process divides the loss of its own `pairs` by, so that the gradients that DistributedDataParallel
    averages are those of the mean loss over the pairs of all processes, however unevenly they are spread:
    the number of all pairs / the number of processes.

    A collective call. A process may have no pairs, but not all of them. The sum over processes of what
    `preference_loss(..., normalizer=global_normalizer(n))` returns, divided by their number, is the global mean loss.
    """
    if pairs < 0:
        raise ValueError(f"pairs is {pairs}; expected 0 or more")
    backend = dist.get_backend(group)
    total = torch.tensor(pairs, dtype=torch.int64, device="cuda" if backend == "nccl" else "cpu")
    dist.all_reduce(total, group=group)
    if int(total) == 0:
        raise ValueError("no process has a pair; expected at least one pair over all of them")
    return int(total) / dist.get_world_size(group)


def data_parallel(head: nn.Module, **options: Any) -> DistributedDataParallel:
    """DistributedDataParallel with one flat bucket for all gradients of `head`, which are views of it: one all-reduce a
    step. `options` are its own; give the result to `preference_loss` in place of the head.

    With gloo, let go of the result before `dist.destroy_process_group()` and import torch.distributed.nn before
    `dist.init_process_group()`, as host/python/examples/distributed.py does. Otherwise gloo's threads outlive the
    group, and one that drops the tensor of the last all-reduce while Python shuts down aborts the process (PyTorch
    2.13)."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in head.parameters())
    settings = {"gradient_as_bucket_view": True, "bucket_cap_mb": size / 2**20 + 1, **options}
    return DistributedDataParallel(head, **settings)
