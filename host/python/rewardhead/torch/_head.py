# SPDX-License-Identifier: Apache-2.0
"""`RewardHead` and the losses."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import _core
from . import _ops  # noqa: F401  (registers the operators)
from ._dispatch import call, check_tensor, tracer


class Preferences(NamedTuple):
    """Comparisons between scored rows, each member [pairs] or None, and what their loss is divided by (0: the number of
    pairs); see `preference_loss`."""

    chosen: Tensor | None = None
    rejected: Tensor | None = None
    margin: Tensor | None = None
    weight: Tensor | None = None
    label: Tensor | None = None
    normalizer: float = 0.0


class RewardHead(nn.Module):
    """r = w2 . relu(W1 x + b1) + b2, or with ``hidden=0`` the linear head r = w . x.

    ``head(x)`` maps x [rows, input] of float32, float16 or bfloat16 to rewards [rows] in float32. Parameters start as
    those of ``torch.nn.Linear`` and are named as in the model file: ``0.weight`` [hidden, input], ``0.bias``,
    ``2.weight`` [1, hidden], ``2.bias``; of the linear head ``weight`` [1, input]. They are computed with in float32,
    also where the module is cast to a narrower type. Of an MLP head, rewards of at most 16 rows at once may differ by
    rounding from those of the same rows among many.

    On the CPU, the memory of a gradient of ``0.weight`` of 32 MB or more is the package's own: when nobody uses it any
    more, it is kept for the next gradient of that size, which the system would else clear anew in each step. One such
    block is kept in a process, until a large gradient of another size is asked for; PyTorch's profiler does not count
    it, and such a gradient cannot be resized in place.
    """

    def __init__(self, input: int, hidden: int = 256) -> None:
        super().__init__()
        integers = all(isinstance(size, int) and not isinstance(size, bool) for size in (input, hidden))
        if not integers or input < 1 or hidden < 0:
            raise ValueError(
                f"RewardHead(input={input!r}, hidden={hidden!r}); expected integers, input >= 1 and hidden >= 0"
            )
        self.input = input
        self.hidden = hidden
        if hidden:
            self.add_module("0", nn.Linear(input, hidden, dtype=torch.float32))
            self.add_module("2", nn.Linear(hidden, 1, dtype=torch.float32))
        else:
            self.weight = nn.Linear(input, 1, bias=False, dtype=torch.float32).weight

    def forward(self, x: Tensor, preferences: Preferences | None = None) -> Tensor:
        """Rewards [rows], or with `preferences` their loss, a scalar: the way that wrappers such as
        DistributedDataParallel see. `preference_loss` is the function to call."""
        check_tensor("x", x, "[rows, input]")
        tensors = self._tensors()
        if preferences is not None:
            return call("preference_loss", x, *tensors, *preferences)
        graph = torch.is_grad_enabled()
        asked = graph and (x.requires_grad or any(t is not None and t.requires_grad for t in tensors))
        if asked or tracer() is not None:  # torch.jit.trace makes one graph for both
            return call("head_forward", x, *tensors)[0]
        return call("score", x, *tensors)

    def _tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """w1, b1, w2, b2 in float32."""
        if not self.hidden:
            weight = self.weight
            return weight if weight.dtype == torch.float32 else _widened("weight", weight), None, None, None
        w1, b1 = _weight_and_bias(self._modules["0"])
        w2, b2 = _weight_and_bias(self._modules["2"])
        if w1.dtype == b1.dtype == w2.dtype == b2.dtype == torch.float32:
            return w1, b1, w2, b2
        return _widened("0.weight", w1), _widened("0.bias", b1), _widened("2.weight", w2), _widened("2.bias", b2)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes the model file, the safetensors of ``rewardhead train``."""
        head = _core.Head(self.input, self.hidden)
        for array, tensor in zip((head.w1, head.b1, head.w2, head.b2), self._tensors(), strict=True):
            if tensor is not None:
                array.reshape(-1)[:] = tensor.detach().cpu().reshape(-1).numpy()
        head.save(os.fspath(file))

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> RewardHead:
        """The head of a model file."""
        stored = _core.Head.load(os.fspath(file))
        head = cls(stored.input, stored.hidden)
        with torch.no_grad():
            for array, tensor in zip((stored.w1, stored.b1, stored.w2, stored.b2), head._tensors(), strict=True):
                if tensor is not None:
                    tensor.copy_(torch.from_numpy(array).reshape(tensor.shape))
        return head

    def extra_repr(self) -> str:
        return f"input={self.input}, hidden={self.hidden}"


def _weight_and_bias(layer: Any) -> tuple[Any, Any]:
    if type(layer) is nn.Linear:  # past nn.Module.__getattr__, which costs a microsecond a name
        parameters = layer._parameters
        return parameters["weight"], parameters["bias"]
    return layer.weight, layer.bias


def _widened(name: str, parameter: Tensor) -> Tensor:
    if parameter.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"{name} of the RewardHead is {parameter.dtype}; expected float32, bfloat16 or float16")
    return parameter.float()


def preference_loss(
    head: nn.Module,
    x: Tensor,
    chosen: Tensor | None = None,
    rejected: Tensor | None = None,
    margin: Tensor | None = None,
    weight: Tensor | None = None,
    label: Tensor | None = None,
    normalizer: float | None = None,
) -> Tensor:
    """The Bradley-Terry loss of a head's rewards, forward and loss in one operator; differentiable in head and x.

        d = r[chosen] - r[rejected] - margin
        loss = sum(weight * (label softplus(-d) + (1 - label) softplus(d))) / normalizer

    head : RewardHead, or a module that wraps one and hands its arguments on (DistributedDataParallel, torch.compile)
    x : [rows, input]; each row is scored once however many pairs name it
    chosen, rejected : [pairs] int64 or int32 rows of x, that differ; both None: pair i is the rows (2i, 2i + 1)
    margin, weight, label : [pairs] or None (0, 1, 1); constants. weight >= 0; label is the probability that chosen wins
    normalizer : > 0; None: the number of pairs. Under gradient accumulation give the number over all parts, and with
        several processes what `global_normalizer` returns.

    On the CPU, and for a linear head, the loss brings its gradients along, of all parameters, and holds them until its
    backward: evaluate under `torch.no_grad()`, and call backward for each loss rather than for a sum of many.

    Without pairs the loss is 0. Wrong pairs raise ValueError; on a GPU, where nothing is read back, they are a
    device-side assertion, and margins, weights and labels are used as they are.
    """
    return head(x, Preferences(*_checked_pairs(chosen, rejected, margin, weight, label, normalizer)))


def bradley_terry_loss(
    rewards: Tensor,
    chosen: Tensor | None = None,
    rejected: Tensor | None = None,
    margin: Tensor | None = None,
    weight: Tensor | None = None,
    label: Tensor | None = None,
    normalizer: float | None = None,
) -> Tensor:
    """The loss of `preference_loss` on rewards [rows] from elsewhere, float32 (float16 and bfloat16 are widened)."""
    check_tensor("rewards", rewards, "[rows]")
    if rewards.dtype in (torch.bfloat16, torch.float16):
        rewards = rewards.float()
    pairs = _checked_pairs(chosen, rejected, margin, weight, label, normalizer)
    return call("pair_loss", rewards.resolve_neg().contiguous(), *pairs)[0]


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    normalizer: float | None = None,
) -> Tensor:
    """Direct preference optimisation (Rafailov et al., NeurIPS 2023, equation 7) on log-probabilities [pairs] of whole
    responses: the Bradley-Terry loss of the rewards beta (log pi - log pi_reference), with label 1 - label_smoothing.
    """
    for name, values in (
        ("policy_chosen", policy_chosen),
        ("policy_rejected", policy_rejected),
        ("reference_chosen", reference_chosen),
        ("reference_rejected", reference_rejected),
    ):
        check_tensor(name, values, "[pairs]")
    shapes = {tuple(t.shape) for t in (policy_chosen, policy_rejected, reference_chosen, reference_rejected)}
    if len(shapes) != 1 or policy_chosen.dim() != 1:
        raise ValueError(f"the log-probabilities have the shapes {sorted(shapes)}; expected [pairs], all the same")
    if not 0 < beta < math.inf:
        raise ValueError(f"beta is {beta}; expected a finite number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected 0 up to, but not including, 0.5")
    policy = torch.cat([policy_chosen, policy_rejected]).float()
    rewards = beta * (policy - torch.cat([reference_chosen, reference_rejected]).float())
    count = policy_chosen.size(0)
    rows = torch.arange(2 * count, device=rewards.device)
    label = rewards.new_full((count,), 1 - label_smoothing) if label_smoothing else None
    return bradley_terry_loss(rewards, rows[:count], rows[count:], label=label, normalizer=normalizer)


def _checked_pairs(chosen, rejected, margin, weight, label, normalizer):
    if normalizer is None:
        normalizer = 0.0
    elif not normalizer > 0:
        raise ValueError(f"normalizer is {normalizer}; expected a number above 0, or None for the number of pairs")
    if chosen is not None:
        check_tensor("chosen", chosen, "[pairs]")
        chosen = chosen.contiguous()
    if rejected is not None:
        check_tensor("rejected", rejected, "[pairs]")
        rejected = rejected.contiguous()
    constants = _constant("margin", margin), _constant("weight", weight), _constant("label", label)
    return chosen, rejected, *constants, float(normalizer)


def _constant(name: str, values: Tensor | None) -> Tensor | None:
    if values is None:
        return None
    check_tensor(name, values, "[pairs]")
    if values.requires_grad:
        raise ValueError(f"{name} requires a gradient, and the loss has none for it; detach it")
    return values.to(torch.float32).resolve_neg().contiguous()
