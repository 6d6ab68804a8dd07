# SPDX-License-Identifier: Apache-2.0
"""The operators of the head and the optimizer, ``torch.ops.rewardhead.*``: schema, kernel for the CPU and for GPUs,
fake kernel, autograd.

Kernels get what the functions of this package have checked, and check themselves only what would touch memory that is
not theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _core
from ._dispatch import (
    assert_soon,
    call,
    define,
    differentiable,
    on_cpu,
    once_differentiable,
    place,
    run_below,
    times,
)

_F32 = torch.float32
_HEAD = "Tensor x, Tensor w1, Tensor? b1, Tensor? w2, Tensor? b2"
_PAIRS = "Tensor? chosen, Tensor? rejected, Tensor? margin, Tensor? weight, Tensor? label, float normalizer"


# ---- arguments of the C interface ----


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _rows(x: Tensor) -> Tensor:
    """`x`, or a copy if elements of a row do not lie side by side or are negated lazily (the imaginary part of a
    conjugate). Of what type it is, the extension looks."""
    if x.dim() != 2 or x.layout is not torch.strided:
        raise ValueError(
            f"x is {x.dtype} of the shape {tuple(x.shape)}, {x.layout}; expected float32, float16 or bfloat16, "
            "[rows, input], torch.strided"
        )
    if x.is_neg():
        x = x.resolve_neg()
    if x.is_contiguous():
        return x
    return x if x.stride(1) == 1 and x.stride(0) >= x.shape[1] else x.contiguous()


def _pairs(like: Tensor, rows: int, chosen, rejected, margin, weight, label):
    """count, arguments, and what must outlive them; without indices pair i is (2i, 2i + 1)."""
    if chosen is None:
        _require(rejected is None, "rejected is given without chosen")
        _require(rows % 2 == 0, f"there are {rows} rows; without chosen and rejected, pair i is (2i, 2i + 1)")
        count = rows // 2
        if margin is weight is label is None:
            return count, (0, 0, 0, count, 0, 0, 0), None
        element = 0
    else:
        _require(rejected is not None, "chosen is given without rejected")
        count = chosen.numel()
        for name, index in (("chosen", chosen), ("rejected", rejected)):
            good = index.dtype in (torch.int64, torch.int32) and index.shape == (count,) and index.is_contiguous()
            if not good or index.dtype != chosen.dtype or index.device != like.device:
                raise ValueError(
                    f"{name} is {index.dtype} of the shape {tuple(index.shape)} on {index.device}; expected int64 or "
                    f"int32 (as chosen), [{count}], on {like.device}"
                )
        if not on_cpu(like):
            chosen, rejected = _checked_on_gpu(rows, chosen, rejected)
        element = 8 if chosen.dtype == torch.int64 else 4
    for name, values in (("margin", margin), ("weight", weight), ("label", label)):
        if values is not None:
            good = values.dtype == torch.float32 and values.is_contiguous() and values.device == like.device
            if not good or values.shape != (count,):
                raise ValueError(
                    f"{name} is {values.dtype} of the shape {tuple(values.shape)} on {values.device}; expected "
                    f"float32, [{count}], on {like.device}"
                )
    addresses = (_address(chosen), _address(rejected), element, count)
    return count, (*addresses, _address(margin), _address(weight), _address(label)), (chosen, rejected)


def _checked_on_gpu(rows, chosen, rejected):
    """As int32. What the C interface checks on the CPU is asserted here; margins, weights and labels are not."""
    for name, index in (("chosen", chosen), ("rejected", rejected)):
        assert_soon(((index >= 0) & (index < rows)).all(), f"{name} names a row that is not among 0 to {rows - 1}")
    assert_soon((chosen != rejected).all(), "a pair names the same row as chosen and as rejected")
    return chosen.to(torch.int32), rejected.to(torch.int32)


def _mask_words(x: Tensor, w1: Tensor, b1: Tensor | None):
    """Of what a backward needs of the activations, 64 bits each, as rh_plan_mask_bytes says: on a GPU its bound."""
    if b1 is None:
        return 0
    rows, hidden = x.size(0), w1.size(0)
    if on_cpu(x):
        # A bit for each and few rows' values: arithmetic alone, so that compiled code serves any number of rows.
        sizes_are_known = type(rows) is int and type(x.size(1)) is int
        least, greatest = (min, max) if sizes_are_known else (torch.sym_min, torch.sym_max)
        kept = least(1, x.size(1) // greatest(6 * rows, 1))
        return (rows + 63) // 64 * hidden * (1 + kept * least(32, (rows + 15) // 16 * 8))
    return (rows + 255) // 256 * 256 * ((hidden + 255) // 256 * 128)


def _gradient_of(w1: Tensor) -> Tensor:
    """torch.empty_like, but a large one's memory serves again (see `RewardHead`)."""
    is_large = on_cpu(w1) and w1.nbytes >= _core.LARGE
    return _core.large_like(w1) if is_large else torch.empty_like(w1)


# ---- score: rewards alone, nothing kept for a gradient ----


def _score(x, w1, b1, w2, b2):
    x = _rows(x)
    rewards = w1.new_empty(x.size(0))
    _core.head_forward(place(x), x, (w1, b1, w2, b2), rewards, None)
    return rewards


def _score_fake(x, w1, b1, w2, b2):
    return x.new_empty(x.size(0), dtype=torch.float32)


define("score", f"{_HEAD}) -> Tensor", _score, _score_fake)

# ---- head_forward: rewards and the activation mask ----


def _head_forward(x, w1, b1, w2, b2):
    x = _rows(x)
    rewards, mask = _head_forward_fake(x, w1, b1, w2, b2)
    _core.head_forward(place(x), x, (w1, b1, w2, b2), rewards, mask)
    return rewards, mask


def _head_forward_fake(x, w1, b1, w2, b2):
    return x.new_empty(x.size(0), dtype=torch.float32), x.new_empty(_mask_words(x, w1, b1), dtype=torch.int64)


define("head_forward", f"{_HEAD}) -> (Tensor rewards, Tensor mask)", _head_forward, _head_forward_fake)

# ---- head_backward: gradients of every parameter, and dX in x's type where need_x ----


def _head_backward(reward_gradient, mask, x, w1, b1, w2, b2, need_x):
    x = _rows(x)
    rows = x.size(0)
    shape = tuple(reward_gradient.shape)
    _require(shape == (rows,), f"reward_gradient has the shape {shape}; expected [{rows}], the rows of x")
    words = _mask_words(x, w1, b1)
    if mask.shape != (words,) or mask.dtype != torch.int64 or mask.device != x.device:
        raise ValueError(
            f"mask is {mask.dtype} of the shape {tuple(mask.shape)}; expected that of the forward, int64, [{words}]"
        )
    reward_gradient = reward_gradient.to(torch.float32).resolve_neg().contiguous()
    *gradients, dx = _head_backward_fake(reward_gradient, mask, x, w1, b1, w2, b2, need_x, _gradient_of)
    wide = dx if x.dtype is _F32 else dx.new_empty(dx.shape, dtype=_F32)
    written = gradients[: 1 if b1 is None else 4]
    _core.head_backward(place(x), x, (w1, b1, w2, b2), mask, reward_gradient, written, wide if need_x else None)
    if rows == 0:
        for gradient in written:
            gradient.zero_()
    if wide is not dx:
        dx.copy_(wide)
    return (*gradients, dx)


def _head_backward_fake(reward_gradient, mask, x, w1, b1, w2, b2, need_x, gradient_of_w1=torch.empty_like):
    def like(parameter):
        return w1.new_empty(0) if parameter is None else torch.empty_like(parameter)

    input_gradient = torch.empty_like(x, memory_format=torch.contiguous_format) if need_x else x.new_empty(0)
    return gradient_of_w1(w1), like(b1), like(w2), like(b2), input_gradient


define(
    "head_backward",
    f"Tensor reward_gradient, Tensor mask, {_HEAD}, bool need_x) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _head_backward,
    _head_backward_fake,
)

# ---- pair_loss: of rewards from elsewhere ----


def _pair_loss(rewards, chosen, rejected, margin, weight, label, normalizer):
    good = rewards.dtype == torch.float32 and rewards.dim() == 1 and rewards.is_contiguous()
    _require(
        good, f"rewards is {rewards.dtype} of the shape {tuple(rewards.shape)}; expected contiguous float32, [rows]"
    )
    rows = len(rewards)
    count, pairs, _kept = _pairs(rewards, rows, chosen, rejected, margin, weight, label)
    loss, gradient = _pair_loss_fake(rewards, chosen, rejected, margin, weight, label, normalizer)
    if count == 0:
        return loss.zero_(), gradient.zero_()
    _core.pair_loss(
        place(rewards), rewards.data_ptr(), rows, pairs, normalizer, loss.data_ptr(), gradient.data_ptr()
    )
    return loss, gradient


def _pair_loss_fake(rewards, chosen, rejected, margin, weight, label, normalizer):
    return rewards.new_empty(()), torch.empty_like(rewards)


define("pair_loss", f"Tensor rewards, {_PAIRS}) -> (Tensor loss, Tensor gradient)", _pair_loss, _pair_loss_fake)

# ---- loss_gradients: preference_loss, the gradients of every parameter, and where need_x that of x in float32 ----
#
# A backward multiplies by the gradient of the loss, 65,536 under loss scaling, and only then rounds to the type of x.


def _loss_gradients(x, w1, b1, w2, b2, chosen, rejected, margin, weight, label, normalizer, need_x):
    x = _rows(x)
    count, pairs, _kept = _pairs(x, x.size(0), chosen, rejected, margin, weight, label)
    outputs = _loss_gradients_fake(x, w1, b1, w2, b2, *(None,) * 5, normalizer, need_x, _gradient_of)
    loss, *gradients = outputs
    dx = gradients.pop() if need_x else None
    _core.loss_gradients(place(x), x, (w1, b1, w2, b2), pairs, normalizer, loss, gradients, dx)
    return [tensor.zero_() for tensor in outputs] if count == 0 else outputs


def _loss_gradients_fake(
    x, w1, b1, w2, b2, chosen, rejected, margin, weight, label, normalizer, need_x, gradient_of_w1=torch.empty_like
):
    outputs = [w1.new_empty(()), gradient_of_w1(w1)]
    outputs += [torch.empty_like(parameter) for parameter in (b1, w2, b2) if parameter is not None]
    if need_x:
        outputs.append(x.new_empty(x.shape, dtype=_F32))
    return outputs


define("loss_gradients", f"{_HEAD}, {_PAIRS}, bool need_x) -> Tensor[]", _loss_gradients, _loss_gradients_fake)

# ---- preference_loss ----


def _preference_loss(x, w1, b1, w2, b2, *pairs):
    return _pair_loss(_score(x, w1, b1, w2, b2), *pairs)[0]


def _preference_loss_fake(x, w1, *_):
    return w1.new_empty(())


define("preference_loss", f"{_HEAD}, {_PAIRS}) -> Tensor", _preference_loss, _preference_loss_fake)

# ---- adamw_: one step on each parameter as a flat array ----
#
# steps: the number of steps done, float32 scalars on the CPU as torch.optim.AdamW has them; they advance.


def check_adamw(parameters, gradients, first, second, steps):
    for parameter, *others, step in zip(parameters, gradients, first, second, steps, strict=True):
        count, device = parameter.numel(), parameter.get_device()
        for tensor in (parameter, *others):
            good = tensor.dtype is torch.float32 and tensor.numel() == count and tensor.get_device() == device
            if not good or not tensor.is_contiguous():
                raise ValueError(
                    f"adamw: a tensor is {tensor.dtype} of the shape {tuple(tensor.shape)} on {tensor.device}; "
                    f"expected contiguous float32 of the parameter's shape, {tuple(parameter.shape)}, on "
                    f"{parameter.device}"
                )
        if step.dtype is not torch.float32 or step.numel() != 1 or not step.is_cpu:
            raise ValueError(
                f"adamw: a step is {step.dtype} of the shape {tuple(step.shape)} on {step.device}; expected a float32 "
                "scalar on the CPU"
            )


def run_adamw(parameters, gradients, first, second, steps, learning_rate, beta1, beta2, epsilon, weight_decay):
    """What `check_adamw` has found good."""
    by_device = {}
    for parameter, gradient, m, v, step in zip(parameters, gradients, first, second, steps, strict=True):
        arrays = (parameter.data_ptr(), gradient.data_ptr(), m.data_ptr(), v.data_ptr())
        by_device.setdefault(parameter.get_device(), []).append((parameter.numel(), arrays, step.data_ptr()))
    for parameter in parameters:
        updates = by_device.pop(parameter.get_device(), None)
        if updates:
            _core.adamw(place(parameter), updates, learning_rate, beta1, beta2, epsilon, weight_decay)
    torch.autograd.graph.increment_version((*parameters, *first, *second, *steps))


def _adamw(parameters, gradients, first, second, steps, *options):
    check_adamw(parameters, gradients, first, second, steps)
    run_adamw(parameters, gradients, first, second, steps, *options)


def _adamw_fake(parameters, gradients, first, second, steps, learning_rate, beta1, beta2, epsilon, weight_decay):
    return None


define(
    "adamw_",
    "Tensor(a!)[] parameters, Tensor[] gradients, Tensor(b!)[] first_moments, Tensor(c!)[] second_moments, "
    "Tensor(d!)[] steps, float learning_rate, float beta1, float beta2, float epsilon, float weight_decay) -> ()",
    _adamw,
    _adamw_fake,
)

# ---- derivatives ----


def _gradients(needs, reward_gradient, mask, x, head):
    """Gradients of x, w1, b1, w2, b2, for those that need one."""
    gradients = call("head_backward", reward_gradient, mask, x, *head, needs[0])
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
    """On the CPU, and for the linear head, all gradients come from the call that computes the loss, which reads x once
    for them, and a backward multiplies them by that of the loss, most often 1. On a GPU, where they cannot know that it
    is 1, the pass over those of an MLP head would cost as much as they did, so its backward computes them."""

    @staticmethod
    def forward(ctx, *arguments):
        ctx.set_materialize_grads(False)
        head = arguments[:5]
        if _at_once(*head[:3]):
            loss, *kept = run_below("loss_gradients", *arguments, ctx.needs_input_grad[0])
        else:
            rewards, mask = run_below("head_forward", *head)
            loss, reward_gradient = run_below("pair_loss", rewards, *arguments[5:])
            kept = reward_gradient, mask
        ctx.save_for_backward(*head, *kept)
        return loss

    @once_differentiable
    def backward(ctx, loss_gradient):
        x, w1, b1, w2, b2, *kept = ctx.saved_tensors
        needs = ctx.needs_input_grad[:5]
        if not _at_once(x, w1, b1):
            reward_gradient, mask = kept
            return _gradients(needs, loss_gradient * reward_gradient, mask, x, (w1, b1, w2, b2))
        gradients = times(loss_gradient, kept)
        order = (gradients.pop().to(x.dtype) if needs[0] else None, *gradients)
        return tuple(gradient if need else None for gradient, need in zip(order, needs, strict=False))


def _at_once(x, w1, b1):
    return on_cpu(x) or b1 is None


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
