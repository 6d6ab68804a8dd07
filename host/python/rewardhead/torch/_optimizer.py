# SPDX-License-Identifier: Apache-2.0
"""`AdamW` in one pass over each parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from . import _ops


class AdamW(torch.optim.Optimizer):
    """torch.optim.AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2) for contiguous float32 parameters.

    The state has torch.optim.AdamW's names (``step``, ``exp_avg``, ``exp_avg_sq``), so state dicts go both ways. As in
    ``rewardhead train``, decay acts on every parameter of a group.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        _check_options(lr, betas, eps, weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _refuse_options(param_group)
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of this class or torch.optim.AdamW's; one with `maximize` or `amsgrad` is refused."""
        for group in state_dict["param_groups"]:
            _refuse_options(group)
        super().load_state_dict(state_dict)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of each parameter that has a gradient; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updates = []
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            lr, betas, eps, weight_decay = float(group["lr"]), group["betas"], group["eps"], group["weight_decay"]
            _check_options(lr, betas, eps, weight_decay)
            for parameter in parameters:
                if parameter.grad.layout is not torch.strided:
                    raise ValueError(f"a gradient is {parameter.grad.layout}; expected a dense one")
            states = [self.state[parameter] for parameter in parameters]
            for parameter, state in zip(parameters, states, strict=True):
                if not state:
                    state["step"] = torch.tensor(0.0, dtype=torch.float32, device="cpu")
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
            arrays = (
                parameters,
                [parameter.grad.contiguous() for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [state["step"] for state in states],
            )
            updates.append((arrays, (lr, *betas, eps, weight_decay)))
        if torch.compiler.is_compiling():
            for arrays, options in updates:
                torch.ops.rewardhead.adamw_(*arrays, *options)
            return loss
        for arrays, _ in updates:  # all, before anything changes
            _ops.check_adamw(*arrays)
        for arrays, options in updates:
            _ops.run_adamw(*arrays, *options)
        return loss


def _check_options(lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    good = 0 <= lr < math.inf and all(0 <= beta < 1 for beta in betas) and 1e-30 <= eps < math.inf
    if not good or not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"AdamW(lr={lr}, betas={betas}, eps={eps}, weight_decay={weight_decay}); expected finite numbers, lr >= 0, "
            "betas from 0 up to, but not including, 1, eps >= 1e-30, weight_decay >= 0"
        )


def _refuse_options(group: dict[str, Any]) -> None:
    for option in ("maximize", "amsgrad"):
        if group.get(option):
            raise ValueError(f"a group of parameters has {option}=True, which this AdamW does not do")
