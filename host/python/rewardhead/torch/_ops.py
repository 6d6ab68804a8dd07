# SPDX-License-Identifier: Apache-2.0
"""The operators, ``torch.ops.rewardhead.*``: schema, CPU kernel, fake kernel, autograd.

Kernels get what the functions of this package have checked, and check themselves only what would touch memory that is
not theirs. Threads are PyTorch's (``torch.set_num_threads``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _core

_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_LIBRARY = torch.library.Library("rewardhead", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag,)
_HEAD = "Tensor x, Tensor w1, Tensor? b1, Tensor? w2, Tensor? b2"
_PAIRS = "Tensor? chosen, Tensor? rejected, Tensor? margin, Tensor? weight, Tensor? label, float normalizer"


def define(name: str, arguments: str, kernel, fake) -> None:
    """Registers an operator; `arguments` is its schema from behind the opening bracket."""
    _LIBRARY.define(f"{name}({arguments}", tags=_TAGS)
    _LIBRARY.impl(name, kernel, "CPU")
    torch.library.register_fake(f"rewardhead::{name}", fake, lib=_LIBRARY)


# ---- arguments of the C interface ----


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _matrix(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int, int]]:
    """`x`, or a copy if elements of a row do not lie side by side, which must outlive the address beside it."""
    dtype = _DTYPES.get(x.dtype)
    if dtype is None or x.dim() != 2 or not x.shape[1]:
        raise ValueError(
            f"x is {x.dtype} of the shape {tuple(x.shape)}; expected float32, float16 or bfloat16, [rows, input]"
        )
    rows, columns = x.shape
    stride = columns
    if not x.is_contiguous():
        if x.stride(1) == 1 and x.stride(0) >= columns:
            stride = x.stride(0)
        else:
            x = x.contiguous()
    return x, (x.data_ptr(), rows, stride, columns, dtype)


def _parameters(columns: int, w1: Tensor, b1: Tensor | None, w2: Tensor | None, b2: Tensor | None):
    """hidden, and addresses; linear head: w1 [1, input] alone, hidden 0."""
    for tensor in (w1,) if b1 is None else (w1, b1, w2, b2):
        if tensor.dtype is not torch.float32 or not tensor.is_contiguous() or not tensor.is_cpu:
            raise ValueError(
                f"a parameter is {tensor.dtype} on {tensor.device}; expected contiguous float32 on the CPU"
            )
    hidden, width = w1.shape
    if width != columns:
        raise ValueError(f"x has {columns} columns; expected {width}, the head's input")
    if b1 is None:
        if hidden != 1:
            raise ValueError(f"a linear head has a weight of the shape {tuple(w1.shape)}; expected [1, input]")
        return 0, (w1.data_ptr(), 0, 0, 0)
    if b1.numel() != hidden or w2.numel() != hidden or b2.numel() != 1:
        sizes = (b1.numel(), w2.numel(), b2.numel())
        raise ValueError(f"b1, w2 and b2 have {sizes} elements; expected {(hidden, hidden, 1)}")
    return hidden, (w1.data_ptr(), b1.data_ptr(), w2.data_ptr(), b2.data_ptr())


def _pairs(rows: int, chosen, rejected, margin, weight, label):
    """count, and the arguments; without indices pair i is (2i, 2i + 1)."""
    if chosen is None:
        _require(rejected is None, "rejected is given without chosen")
        _require(rows % 2 == 0, f"there are {rows} rows; without chosen and rejected, pair i is (2i, 2i + 1)")
        count, element = rows // 2, 0
    else:
        _require(rejected is not None, "chosen is given without rejected")
        count = chosen.numel()
        for name, index in (("chosen", chosen), ("rejected", rejected)):
            good = index.dtype in (torch.int64, torch.int32) and index.shape == (count,) and index.is_contiguous()
            if not good or index.dtype != chosen.dtype or not index.is_cpu:
                raise ValueError(
                    f"{name} is {index.dtype} of the shape {tuple(index.shape)} on {index.device}; expected int64 or "
                    f"int32 (as chosen), [{count}], on the CPU"
                )
        element = 8 if chosen.dtype == torch.int64 else 4
    for name, values in (("margin", margin), ("weight", weight), ("label", label)):
        if values is not None:
            good = values.dtype == torch.float32 and values.is_contiguous() and values.is_cpu
            if not good or values.shape != (count,):
                raise ValueError(
                    f"{name} is {values.dtype} of the shape {tuple(values.shape)} on {values.device}; expected "
                    f"float32, [{count}], on the CPU"
                )
    addresses = (_address(chosen), _address(rejected), element, count)
    return count, (*addresses, _address(margin), _address(weight), _address(label))


def _mask_shape(x: Tensor, w1: Tensor, b1: Tensor | None):
    blocks = (x.size(0) + _core.MASK_ROWS - 1) // _core.MASK_ROWS
    return (blocks, w1.size(0) if b1 is not None else 0)


# ---- score: rewards alone, nothing kept for a gradient ----


def score(x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor | None, b2: Tensor | None) -> Tensor:
    """Rewards [rows]."""
    x, matrix = _matrix(x)
    hidden, parameters = _parameters(matrix[3], w1, b1, w2, b2)
    rewards = torch.empty(matrix[1])
    if matrix[1]:
        _core.head_forward(torch.get_num_threads(), matrix, hidden, parameters, rewards.data_ptr(), 0)
    return rewards


def _score_fake(x, w1, b1, w2, b2):
    return x.new_empty(x.size(0), dtype=torch.float32)


define("score", f"{_HEAD}) -> Tensor", score, _score_fake)

# ---- head_forward: rewards and the activation mask ----


def _head_forward(x, w1, b1, w2, b2):
    x, matrix = _matrix(x)
    hidden, parameters = _parameters(matrix[3], w1, b1, w2, b2)
    rewards = torch.empty(matrix[1])
    mask = torch.empty(_mask_shape(x, w1, b1), dtype=torch.int64)
    if matrix[1]:
        _core.head_forward(torch.get_num_threads(), matrix, hidden, parameters, rewards.data_ptr(), mask.data_ptr())
    return rewards, mask


def _head_forward_fake(x, w1, b1, w2, b2):
    return x.new_empty(x.size(0), dtype=torch.float32), x.new_empty(_mask_shape(x, w1, b1), dtype=torch.int64)


define("head_forward", f"{_HEAD}) -> (Tensor rewards, Tensor mask)", _head_forward, _head_forward_fake)

# ---- head_backward: gradients of every parameter, and dX in x's type where need_x ----


def _head_backward(reward_gradient, mask, x, w1, b1, w2, b2, need_x):
    x, matrix = _matrix(x)
    hidden, parameters = _parameters(matrix[3], w1, b1, w2, b2)
    _require(reward_gradient.shape == (matrix[1],), f"reward_gradient has the shape {tuple(reward_gradient.shape)}")
    _require(mask.shape == _mask_shape(x, w1, b1) and mask.is_contiguous(), f"mask has the shape {tuple(mask.shape)}")
    reward_gradient = reward_gradient.to(torch.float32).contiguous()
    gradients = _head_backward_fake(reward_gradient, mask, x, w1, b1, w2, b2, need_x)
    if not matrix[1]:
        return tuple(gradient.zero_() for gradient in gradients)
    input_gradient = gradients[4] if x.dtype == torch.float32 or not need_x else torch.empty(x.shape)
    _core.head_backward(
        torch.get_num_threads(),
        matrix,
        hidden,
        parameters,
        mask.data_ptr(),
        reward_gradient.data_ptr(),
        tuple(gradient.data_ptr() if gradient.numel() else 0 for gradient in gradients[:4]),
        input_gradient.data_ptr() if need_x else 0,
    )
    return (*gradients[:4], input_gradient.to(x.dtype))


def _head_backward_fake(reward_gradient, mask, x, w1, b1, w2, b2, need_x):
    def like(parameter):
        return w1.new_empty(0 if parameter is None else parameter.shape)

    input_gradient = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    return like(w1), like(b1), like(w2), like(b2), input_gradient


define(
    "head_backward",
    f"Tensor reward_gradient, Tensor mask, {_HEAD}, bool need_x) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _head_backward,
    _head_backward_fake,
)

# ---- preference_loss: forward and pair loss; of a linear head also the gradient of its weight, in the same pass ----


def _preference_loss(x, w1, b1, w2, b2, chosen, rejected, margin, weight, label, normalizer):
    x, matrix = _matrix(x)
    rows = matrix[1]
    hidden, parameters = _parameters(matrix[3], w1, b1, w2, b2)
    count, pairs = _pairs(rows, chosen, rejected, margin, weight, label)
    outputs = _preference_loss_fake(x, w1, b1, w2, b2, chosen, rejected, margin, weight, label, normalizer)
    loss, reward_gradient, mask, w_gradient = outputs
    if count == 0:
        for tensor in outputs:
            tensor.zero_()
        return outputs
    threads = torch.get_num_threads()
    if hidden == 0:
        _core.linear_loss_gradients(
            threads,
            matrix,
            parameters[0],
            pairs,
            normalizer,
            loss.data_ptr(),
            reward_gradient.data_ptr(),
            w_gradient.data_ptr(),
        )
    else:
        rewards = torch.empty(rows)
        _core.head_forward(threads, matrix, hidden, parameters, rewards.data_ptr(), mask.data_ptr())
        _core.pair_loss(
            threads, rewards.data_ptr(), rows, pairs, normalizer, loss.data_ptr(), reward_gradient.data_ptr()
        )
    return outputs


def _preference_loss_fake(x, w1, b1, w2, b2, chosen, rejected, margin, weight, label, normalizer):
    return (
        w1.new_empty(()),
        w1.new_empty(x.size(0)),
        w1.new_empty(_mask_shape(x, w1, b1), dtype=torch.int64),
        w1.new_empty(w1.shape if b1 is None else 0),
    )


define(
    "preference_loss",
    f"{_HEAD}, {_PAIRS}) -> (Tensor loss, Tensor reward_gradient, Tensor mask, Tensor w_gradient)",
    _preference_loss,
    _preference_loss_fake,
)

# ---- pair_loss: of rewards from elsewhere ----


def _pair_loss(rewards, chosen, rejected, margin, weight, label, normalizer):
    good = rewards.dtype == torch.float32 and rewards.dim() == 1 and rewards.is_contiguous()
    _require(
        good, f"rewards is {rewards.dtype} of the shape {tuple(rewards.shape)}; expected contiguous float32, [rows]"
    )
    count, pairs = _pairs(len(rewards), chosen, rejected, margin, weight, label)
    loss, gradient = rewards.new_empty(()), torch.empty_like(rewards)
    if count == 0:
        return loss.zero_(), gradient.zero_()
    _core.pair_loss(
        torch.get_num_threads(),
        rewards.data_ptr(),
        len(rewards),
        pairs,
        normalizer,
        loss.data_ptr(),
        gradient.data_ptr(),
    )
    return loss, gradient


def _pair_loss_fake(rewards, chosen, rejected, margin, weight, label, normalizer):
    return rewards.new_empty(()), torch.empty_like(rewards)


define("pair_loss", f"Tensor rewards, {_PAIRS}) -> (Tensor loss, Tensor gradient)", _pair_loss, _pair_loss_fake)

# ---- adamw_: one step on each parameter as a flat array ----


def _adamw(parameters, gradients, first, second, learning_rate, beta1, beta2, epsilon, weight_decay, step):
    for group in zip(parameters, gradients, first, second, strict=True):
        for tensor in group:
            if tensor.dtype != torch.float32 or not tensor.is_contiguous() or tensor.shape != group[0].shape:
                raise ValueError(
                    f"adamw: a tensor is {tensor.dtype} of the shape {tuple(tensor.shape)}; expected contiguous "
                    f"float32 of the parameter's shape, {tuple(group[0].shape)}"
                )
    threads = torch.get_num_threads()
    for parameter, gradient, m, v in zip(parameters, gradients, first, second, strict=True):
        _core.adamw(
            threads,
            parameter.numel(),
            parameter.data_ptr(),
            gradient.data_ptr(),
            m.data_ptr(),
            v.data_ptr(),
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            step,
        )
    torch.autograd.graph.increment_version((*parameters, *first, *second))


def _adamw_fake(parameters, gradients, first, second, learning_rate, beta1, beta2, epsilon, weight_decay, step):
    return None


define(
    "adamw_",
    "Tensor(a!)[] parameters, Tensor[] gradients, Tensor(b!)[] first_moments, Tensor(c!)[] second_moments, "
    "float learning_rate, float beta1, float beta2, float epsilon, float weight_decay, int step) -> ()",
    _adamw,
    _adamw_fake,
)

# ---- autograd ----
#
# Kernels of the Autograd key rather than torch.library.register_autograd, which on every call fills in the schema's
# defaults: 50 microseconds, more than a small step computes.

_below_autograd = torch._C._AutoDispatchBelowAutograd


def differentiable(name: str):
    """Registers a torch.autograd.Function, whose forward calls `run_below(name, ...)`, as the operator's derivative."""

    def register(function):
        def kernel(*arguments):
            if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
                return function.apply(*arguments)
            return run_below(name, *arguments)

        _LIBRARY.impl(name, kernel, "Autograd")
        return function

    return register


def run_below(name: str, *arguments):
    with _below_autograd():
        return getattr(torch.ops.rewardhead, name).default(*arguments)


class _NoSecondDerivative(torch.autograd.Function):
    """The first `count` of the tensors, as gradients that depend on all of them, in a way that has no derivative."""

    @staticmethod
    def forward(ctx, count, *tensors):
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(
            "rewardhead has no second derivatives (double backward): the graph of a gradient, as create_graph=True "
            "makes it, cannot be differentiated again"
        )


def once_differentiable(backward):
    """torch.autograd.function.once_differentiable, but also where the gradient that comes in is a constant, so that a
    penalty on gradients is refused rather than ignored."""

    def wrapped(ctx, output_gradient, *_):
        if output_gradient is None:
            return (None,) * len(ctx.needs_input_grad)
        with torch.no_grad():
            gradients = backward(ctx, output_gradient)
        if torch.is_grad_enabled():
            present = [gradient for gradient in gradients if gradient is not None]
            inputs = [tensor for tensor in ctx.saved_tensors if tensor is not None and tensor.requires_grad]
            refusing = iter(_NoSecondDerivative.apply(len(present), *present, output_gradient, *inputs))
            gradients = [None if gradient is None else next(refusing) for gradient in gradients]
        return (*gradients, *(None,) * (len(ctx.needs_input_grad) - len(gradients)))

    return staticmethod(wrapped)


def _gradients(needs, reward_gradient, mask, x, head):
    """Gradients of x, w1, b1, w2, b2, for those that need one."""
    gradients = torch.ops.rewardhead.head_backward.default(reward_gradient, mask, x, *head, needs[0])
    order = (gradients[4], *gradients[:4])
    return tuple(gradient if need else None for gradient, need in zip(order, needs, strict=True))


@differentiable("head_forward")
class _HeadForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        rewards, mask = run_below("head_forward", *arguments)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mask)
        ctx.save_for_backward(*arguments, mask)
        return rewards, mask

    @once_differentiable
    def backward(ctx, reward_gradient):
        x, *head, mask = ctx.saved_tensors
        return _gradients(ctx.needs_input_grad, reward_gradient, mask, x, head)


@differentiable("preference_loss")
class _PreferenceLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        loss, *others = run_below("preference_loss", *arguments)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*others)
        ctx.save_for_backward(*arguments[:5], *others)
        return loss, *others

    @once_differentiable
    def backward(ctx, loss_gradient):
        x, *head, reward_gradient, mask, w_gradient = ctx.saved_tensors
        needs = ctx.needs_input_grad[:5]
        if head[1] is not None or needs[0]:
            return _gradients(needs, loss_gradient * reward_gradient, mask, x, head)
        return None, loss_gradient * w_gradient


@differentiable("pair_loss")
class _PairLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        loss, gradient = run_below("pair_loss", *arguments)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(gradient)
        ctx.save_for_backward(arguments[0], gradient)
        return loss, gradient

    @once_differentiable
    def backward(ctx, loss_gradient):
        _, gradient = ctx.saved_tensors
        return (loss_gradient * gradient,)
