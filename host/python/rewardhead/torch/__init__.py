# SPDX-License-Identifier: Apache-2.0
"""The kernels as differentiable operators of PyTorch, and what a training stack needs around them.

`RewardHead` and `preference_loss` (fused forward and loss), `bradley_terry_loss` and `dpo_loss` on rewards from
elsewhere, `AdamW`; `pool_last_token` and `pool_mean` of token states;
`attach` for models of Hugging Face; `data_parallel` and `global_normalizer` for several processes.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("rewardhead.torch needs PyTorch: pip install rewardhead[torch]") from error

from ._attach import attach, from_pretrained
from ._distributed import data_parallel, global_normalizer
from ._head import Preferences, RewardHead, bradley_terry_loss, dpo_loss, preference_loss
from ._optimizer import AdamW
from ._pool import pool_last_token, pool_mean

__all__ = [
    "AdamW",
    "Preferences",
    "RewardHead",
    "attach",
    "bradley_terry_loss",
    "data_parallel",
    "dpo_loss",
    "from_pretrained",
    "global_normalizer",
    "pool_last_token",
    "pool_mean",
    "preference_loss",
]
