# SPDX-License-Identifier: Apache-2.0
"""Pooling of token states: which row of a sequence a head scores, decided by masks and lengths, never by a pad id."""

from __future__ import annotations

import torch
from torch import Tensor

from ._dispatch import assert_soon, check_tensor, define, differentiable, on_cpu, once_differentiable, run_below

_operators = torch.ops.rewardhead

# ---- last_token_rows: of a mask [batch, tokens], the row of each sequence's last token in [batch * tokens] ----


def _last_token_rows(mask):
    batch, tokens = mask.shape
    if mask.dtype.is_floating_point:
        raise ValueError(f"attention_mask is {mask.dtype}; expected integers or bool, of the values 0 and 1")
    assert_soon(
        ((mask == 0) | (mask == 1)).all(),
        f"attention_mask is {mask.dtype} with other values than 0 and 1; expected integers or bool",
    )
    marked = mask.to(torch.bool)
    empty = ~marked.any(dim=1)
    if not on_cpu(mask):
        assert_soon(~empty.any(), "a row of attention_mask marks no token; expected at least one a row")
    elif bool(empty.any()):
        raise ValueError(f"attention_mask[{int(empty.int().argmax())}] marks no token; expected at least one a row")
    last = tokens - 1 - marked.flip(1).int().argmax(dim=1)
    return last + torch.arange(batch, device=last.device) * tokens


def _last_token_rows_fake(mask):
    return mask.new_empty(mask.size(0), dtype=torch.int64)


define("last_token_rows", "Tensor mask) -> Tensor", _last_token_rows, _last_token_rows_fake)

# ---- position_rows: of a position in each sequence, the row in [batch * tokens] ----


def _position_rows(positions, batch, tokens):
    if positions.dtype != torch.int64 or positions.shape != (batch,):
        raise ValueError(
            f"positions is {positions.dtype} of the shape {tuple(positions.shape)}; expected int64, [{batch}]"
        )
    bad = (positions < 0) | (positions >= tokens)
    if not on_cpu(positions):
        assert_soon(~bad.any(), f"a position is not among 0 to {tokens - 1}")
    elif bool(bad.any()):
        at = int(bad.int().argmax())
        raise ValueError(f"positions[{at}] is {int(positions[at])}; expected 0 to {tokens - 1}")
    return positions + torch.arange(batch, device=positions.device) * tokens


def _position_rows_fake(positions, batch, tokens):
    return torch.empty_like(positions)


define("position_rows", "Tensor positions, SymInt batch, SymInt tokens) -> Tensor", _position_rows, _position_rows_fake)

# ---- segment_offsets: cu_seqlens [n + 1], checked, as int64 ----


def _segment_offsets(cu_seqlens, tokens):
    offsets = cu_seqlens.to(torch.int64, copy=True)
    if offsets.dim() != 1 or len(offsets) < 1 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"cu_seqlens is {cu_seqlens.dtype} of the shape {tuple(cu_seqlens.shape)}; expected int32 or int64, [n + 1]"
        )
    if not on_cpu(offsets):
        good = (offsets[0] == 0) & (offsets[-1] == tokens) & (offsets.diff() > 0).all()
        assert_soon(good, f"cu_seqlens does not go from 0 to {tokens}, all tokens, with at least one token a sequence")
        return offsets
    if int(offsets[0]) != 0 or int(offsets[-1]) != tokens:
        raise ValueError(
            f"cu_seqlens goes from {int(offsets[0])} to {int(offsets[-1])}; expected 0 to {tokens}, all tokens"
        )
    short = offsets.diff() < 1
    if bool(short.any()):
        at = int(short.int().argmax())
        raise ValueError(
            f"cu_seqlens[{at}] is {int(offsets[at])} and cu_seqlens[{at + 1}] is {int(offsets[at + 1])}; expected at "
            "least one token a sequence"
        )
    return offsets


def _segment_offsets_fake(cu_seqlens, tokens):
    return torch.empty_like(cu_seqlens, dtype=torch.int64)


define("segment_offsets", "Tensor cu_seqlens, SymInt tokens) -> Tensor", _segment_offsets, _segment_offsets_fake)

# ---- pool_rows: the rows of states [rows, input]; backward writes them into one zeroed gradient ----


def _check_rows(states, rows):
    if states.dim() != 2 or rows.dim() != 1 or rows.dtype != torch.int64:
        raise ValueError(f"pool_rows has states of the shape {tuple(states.shape)} and rows of {rows.dtype}")
    bad = (rows < 0) | (rows >= len(states))
    if not on_cpu(rows):
        assert_soon(~bad.any(), f"a row to be pooled is not among 0 to {len(states) - 1}")
    elif bool(bad.any()):
        at = int(bad.int().argmax())
        raise ValueError(f"row {at} to be pooled is {int(rows[at])}; expected 0 to {len(states) - 1}")


def _pool_rows(states, rows):
    _check_rows(states, rows)
    return states.index_select(0, rows)


def _pool_rows_fake(states, rows):
    return states.new_empty(rows.size(0), states.size(1))


def _pool_rows_backward(gradient, rows, count):
    # index_add and not a copy: an explicit row may be named twice.
    return gradient.new_zeros(count, gradient.size(1)).index_add_(0, rows, gradient)


def _pool_rows_backward_fake(gradient, rows, count):
    return gradient.new_empty(count, gradient.size(1))


define("pool_rows", "Tensor states, Tensor rows) -> Tensor", _pool_rows, _pool_rows_fake)
define(
    "pool_rows_backward",
    "Tensor gradient, Tensor rows, SymInt count) -> Tensor",
    _pool_rows_backward,
    _pool_rows_backward_fake,
)


@differentiable("pool_rows")
class _PoolRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, rows):
        pooled = run_below("pool_rows", states, rows)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rows)
        ctx.count = states.size(0)
        return pooled

    @once_differentiable
    def backward(ctx, gradient):
        (rows,) = ctx.saved_tensors
        return (_operators.pool_rows_backward.default(gradient, rows, ctx.count),)


# ---- segment_mean: means [n, input] in fp32 of states [tokens, input] between offsets [n + 1] ----


def _lengths(offsets):
    return offsets.diff()


def _segment_of_each_token(offsets, tokens):
    return torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=offsets.device), _lengths(offsets), output_size=tokens
    )


def _segment_mean(states, offsets):
    means = states.new_zeros(len(offsets) - 1, states.size(1), dtype=torch.float32)
    means.index_add_(0, _segment_of_each_token(offsets, len(states)), states.to(torch.float32))
    return means / _lengths(offsets)[:, None]


def _segment_mean_fake(states, offsets):
    return states.new_empty(offsets.size(0) - 1, states.size(1), dtype=torch.float32)


def _segment_mean_backward(gradient, offsets, states):
    shares = (gradient / _lengths(offsets)[:, None]).to(states.dtype)
    return shares.index_select(0, _segment_of_each_token(offsets, len(states)))


def _segment_mean_backward_fake(gradient, offsets, states):
    return torch.empty_like(states, memory_format=torch.contiguous_format)


define("segment_mean", "Tensor states, Tensor offsets) -> Tensor", _segment_mean, _segment_mean_fake)
define(
    "segment_mean_backward",
    "Tensor gradient, Tensor offsets, Tensor states) -> Tensor",
    _segment_mean_backward,
    _segment_mean_backward_fake,
)


@differentiable("segment_mean")
class _SegmentMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, offsets):
        means = run_below("segment_mean", states, offsets)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(states, offsets)
        return means

    @once_differentiable
    def backward(ctx, gradient):
        states, offsets = ctx.saved_tensors
        return (_operators.segment_mean_backward.default(gradient, offsets, states),)


# ---- what users call ----


def pool_last_token(
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> Tensor:
    """The state of each sequence's last token, [batch, input], in the type of `hidden_states`; differentiable.

    Exactly one of the three says where the sequences end:

    attention_mask : [batch, tokens] of 0 and 1, padded left, right or both; the last 1 of a row counts. hidden_states
        is then [batch, tokens, input].
    positions : [batch] int64, 0 to tokens - 1; hidden_states is [batch, tokens, input].
    cu_seqlens : [batch + 1] int32 or int64, from 0 to tokens: sequence i of a packed batch has the tokens from
        cu_seqlens[i] up to, but not including, cu_seqlens[i + 1]. hidden_states is [tokens, input], or with a 1 before.

    A sequence without a token, or a position out of range, raises ValueError, on a GPU a device-side assertion.
    """
    _exactly_one(attention_mask=attention_mask, positions=positions, cu_seqlens=cu_seqlens)
    if cu_seqlens is not None:
        states = _packed(hidden_states)
        return _operators.pool_rows(states, _operators.segment_offsets(cu_seqlens, states.size(0))[1:] - 1)
    states, batch, tokens = _padded(hidden_states)
    if attention_mask is not None:
        _check_mask(attention_mask, batch, tokens)
        return _operators.pool_rows(states, _operators.last_token_rows(attention_mask))
    return _operators.pool_rows(states, _operators.position_rows(positions, batch, tokens))


def pool_mean(
    hidden_states: Tensor, attention_mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None
) -> Tensor:
    """The mean of each sequence's token states, [batch, input], in float32; differentiable.

    Exactly one of attention_mask and cu_seqlens, as in `pool_last_token`. A sequence without a token raises
    ValueError, on a GPU a device-side assertion.
    """
    _exactly_one(attention_mask=attention_mask, cu_seqlens=cu_seqlens)
    if attention_mask is None:
        states = _packed(hidden_states)
        return _operators.segment_mean(states, _operators.segment_offsets(cu_seqlens, states.size(0)))
    _, batch, tokens = _padded(hidden_states)
    _check_mask(attention_mask, batch, tokens)
    _operators.last_token_rows(attention_mask)  # refuses empty rows
    marked = attention_mask.to(torch.bool)[:, :, None]
    # where and not a product: what lies in the padding does not count even if it is NaN.
    total = torch.where(marked, hidden_states, 0).sum(dim=1, dtype=torch.float32)
    return total / marked.sum(dim=1)


def _exactly_one(**given: Tensor | None) -> None:
    found = [name for name, value in given.items() if value is not None]
    if len(found) != 1:
        raise ValueError(f"{' and '.join(found) or 'nothing'} given; expected exactly one of {', '.join(given)}")
    (name,) = found
    shapes = {"attention_mask": "[batch, tokens]", "positions": "[batch]", "cu_seqlens": "[batch + 1]"}
    check_tensor(name, given[name], shapes[name])


def _padded(hidden_states: Tensor) -> tuple[Tensor, int, int]:
    check_tensor("hidden_states", hidden_states, "[batch, tokens, input]")
    if hidden_states.dim() != 3:
        raise ValueError(f"hidden_states has the shape {tuple(hidden_states.shape)}; expected [batch, tokens, input]")
    batch, tokens, _ = hidden_states.shape
    return hidden_states.flatten(0, 1), batch, tokens


def _packed(hidden_states: Tensor) -> Tensor:
    check_tensor("hidden_states", hidden_states, "[tokens, input]")
    if hidden_states.dim() == 3 and hidden_states.size(0) == 1:
        return hidden_states[0]
    if hidden_states.dim() != 2:
        raise ValueError(
            f"hidden_states has the shape {tuple(hidden_states.shape)}; expected, with cu_seqlens, [tokens, input] or "
            "[1, tokens, input]"
        )
    return hidden_states


def _check_mask(attention_mask: Tensor, batch: int, tokens: int) -> None:
    if attention_mask.shape != (batch, tokens):
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}; expected {(batch, tokens)}, as hidden_states"
        )
