# SPDX-License-Identifier: Apache-2.0
"""The kernels as differentiable operators of PyTorch, and what a training stack needs around them.

`RewardHead` and `preference_loss` (fused forward and loss), `bradley_terry_loss` and `dpo_loss` on rewards from
elsewhere, `AdamW`; `pool_last_token` and `pool_mean` of token states.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("rewardhead.torch needs PyTorch: pip install rewardhead[torch]") from error

from ._head import Preferences, RewardHead, bradley_terry_loss, dpo_loss, preference_loss
from ._optimizer import AdamW
from ._pool import pool_last_token, pool_mean

__all__ = [
    "AdamW",
    "Preferences",
    "RewardHead",
    "bradley_terry_loss",
    "dpo_loss",
    "pool_last_token",
    "pool_mean",
    "preference_loss",
]
