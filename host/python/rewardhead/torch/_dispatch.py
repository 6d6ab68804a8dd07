# SPDX-License-Identifier: Apache-2.0
"""How the operators meet PyTorch: registration, calls past the dispatcher, derivatives, and where tensors are.

On the CPU, threads are PyTorch's (``torch.set_num_threads``). On a GPU, which none has run yet, kernels are enqueued on
the stream that is current for the tensors' device, their memory comes from PyTorch's allocator, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _core

_LIBRARY = torch.library.Library("rewardhead", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag,)

# By operator: the function behind the dispatcher, the same for the CPU and GPUs.
KERNELS: dict[str, Callable[..., Any]] = {}
_WITH_AUTOGRAD: dict[str, Callable[..., Any]] = {}  # by operator: what the dispatcher calls first


def define(name: str, arguments: str, kernel, fake) -> None:
    """Registers an operator; `arguments` is its schema from behind the opening bracket."""
    _LIBRARY.define(f"{name}({arguments}", tags=_TAGS)
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, kernel, device)
    torch.library.register_fake(f"rewardhead::{name}", fake, lib=_LIBRARY)
    torch.library.register_vmap(f"rewardhead::{name}", _refuse_transforms, lib=_LIBRARY)
    _LIBRARY.impl(name, _refuse_transforms, "Batched")  # is_grads_batched=True
    KERNELS[name] = _WITH_AUTOGRAD[name] = kernel


def _refuse_transforms(*_):
    raise NotImplementedError(
        "rewardhead's operators have no vmap, nor other transforms of torch.func (grad, vjp, jacrev, ...): score all "
        "rows in one call, several heads by a call each, and get gradients by backward()"
    )


# ---- calls ----

is_compiling = torch.compiler.is_compiling
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transform = torch._C._functorch.peek_interpreter_stack
tracer = torch._C._get_tracing_state
_is_batched = torch._C._functorch.is_legacy_batchedtensor  # which the stack of transforms does not show
_PLAIN = frozenset({Tensor, torch.nn.Parameter, type(None), float, bool})


def call(name: str, *arguments):
    """The operator, past the dispatcher where nobody listens there: it costs as much as all else around a small step.

    The first argument is the tensor that says where.
    """
    if is_compiling() or not _nobody_listens(arguments):
        return getattr(torch.ops.rewardhead, name).default(*arguments)
    return _WITH_AUTOGRAD[name](*arguments)


def _nobody_listens(arguments) -> bool:
    x = arguments[0]
    return (
        _PLAIN.issuperset(map(type, arguments))
        and (x.is_cpu or x.is_cuda)
        and not _dispatch_modes()
        and _transform() is None
        and not _is_batched(x)
        and tracer() is None
    )


def check_tensor(name: str, value: Any, shape: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is of the type {type(value).__name__}; expected a tensor {shape}")


# ---- places ----


_threads = torch.get_num_threads


def on_cpu(x: Tensor) -> bool:
    return x.is_cpu


def current_stream(x: Tensor) -> tuple[int, int]:
    """The number of x's GPU, and the address of the stream that is current there."""
    stream = torch.cuda.current_stream(x.device)
    return stream.device_index, stream.cuda_stream


def place(x: Tensor):
    """Where `x` is, for the C interface: the CPU and its threads; or a GPU, its current stream, and memory there."""
    if on_cpu(x):
        return -1, _threads(), None
    if not _core.HAS_CUDA:
        raise RuntimeError(
            f"a tensor is on {x.device}, and this build of rewardhead has no CUDA kernels; move it to the CPU, or "
            "install rewardhead with pip's --config-settings=cmake.define.REWARDHEAD_CUDA=ON (needs the CUDA toolkit)"
        )
    kept = []  # until the operator returns; later work on the stream may have the memory

    def memory(size: int) -> int:
        kept.append(x.new_empty(size, dtype=torch.uint8))
        return kept[-1].data_ptr()

    return *current_stream(x), memory


def assert_soon(condition: Tensor, message: str) -> None:
    """Raises ValueError unless `condition` holds; on a GPU, where nothing waits, and in compiled code it is PyTorch's
    assertion."""
    if not on_cpu(condition) or is_compiling():
        torch._assert_async(condition, message)
    elif not condition:
        raise ValueError(message)


# ---- autograd ----
#
# Kernels of the Autograd key rather than torch.library.register_autograd, which on every call fills in the schema's
# defaults: 50 microseconds, more than a small step computes.

_below_autograd = torch._C._AutoDispatchBelowAutograd


def differentiable(name: str):
    """Registers a torch.autograd.Function, whose forward calls `run_below(name, ...)`, as the operator's derivative."""

    def register(function):
        # Past Function.apply, whose checks for transforms are ours, and half of its time.
        apply = super(torch.autograd.Function, function).apply

        def kernel(*arguments):
            if torch.is_grad_enabled():
                for argument in arguments:
                    if isinstance(argument, Tensor) and argument.requires_grad:
                        if _transform() is not None:
                            _refuse_transforms()
                        return apply(*arguments)
            return run_below(name, *arguments)

        _LIBRARY.impl(name, kernel, "Autograd")
        _WITH_AUTOGRAD[name] = kernel
        return function

    return register


def run_below(name: str, *arguments):
    """The operator without its derivative."""
    if _nobody_listens(arguments):
        return KERNELS[name](*arguments)
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
        if not torch.is_grad_enabled():
            gradients = backward(ctx, output_gradient)
        else:
            # Before the backward, which may scale what is saved in place.
            inputs = [tensor for tensor in ctx.saved_tensors if tensor is not None and tensor.requires_grad]
            with torch.no_grad():
                gradients = backward(ctx, output_gradient)
            present = [gradient for gradient in gradients if gradient is not None]
            refusing = iter(_NoSecondDerivative.apply(len(present), *present, output_gradient, *inputs))
            gradients = [None if gradient is None else next(refusing) for gradient in gradients]
        return (*gradients, *(None,) * (len(ctx.needs_input_grad) - len(gradients)))

    return staticmethod(wrapped)


_graph_is_kept = torch._C._autograd._get_current_graph_task_keep_graph


def times(factor: Tensor, gradients: list[Tensor]) -> list[Tensor]:
    """Within a backward: saved gradients times a scalar, in place if no other backward will find them."""
    if is_compiling() or not _nobody_listens((factor,)) or _graph_is_kept():
        return [factor * gradient for gradient in gradients]
    if not factor.is_cpu:
        torch._foreach_mul_(gradients, factor)
    elif (number := factor.item()) != 1:
        torch._foreach_mul_(gradients, number)
    return gradients
