# SPDX-License-Identifier: Apache-2.0
"""Reward heads trained on pairs of which people preferred one.

`RewardModel` trains and scores on NumPy arrays in scikit-learn's manners; ``rewardhead.torch`` has the same kernels as
differentiable operators of PyTorch; ``python -m rewardhead`` is the command line.
"""

from ._core import Head, __version__
from ._model import RewardModel

__all__ = ["Head", "RewardModel", "__version__"]
