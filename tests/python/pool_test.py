# SPDX-License-Identifier: Apache-2.0
"""Pooling: the right token whatever the padding, real states, gradients, and errors where there is no right token."""

import numpy as np
import pytest
import torch

import rewardhead.torch as rht
from conftest import ROOT


def padded(seed=0, batch=5, tokens=9, input=4, side="right"):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, tokens, input, generator=generator)
    lengths = torch.randint(1, tokens + 1, (batch,), generator=generator)
    at = torch.arange(tokens)[None]
    mask = at < lengths[:, None] if side == "right" else at >= tokens - lengths[:, None]
    return states, mask.long(), lengths


@pytest.fixture(scope="module")
def real():
    with np.load(ROOT / "tests" / "data" / "python" / "token_states.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def test_means_of_real_states_are_the_shipped_embeddings(real, sample):
    expected = torch.from_numpy(sample.embeddings)[real["row"]]
    hidden, mask = real["hidden"].float(), real["attention_mask"]
    packed = hidden[mask.bool()]
    cu_seqlens = torch.cat([torch.zeros(1, dtype=torch.long), mask.sum(1).cumsum(0)])
    for mean in (rht.pool_mean(hidden, mask), rht.pool_mean(packed, cu_seqlens=cu_seqlens)):
        embeddings = torch.nn.functional.normalize(mean)
        assert (embeddings - expected).abs().max() < 5e-5  # the states are rounded to fp16


def test_last_tokens_of_real_states_by_every_road(real):
    hidden, mask = real["hidden"], real["attention_mask"]
    lengths = mask.sum(1)
    expected = torch.stack([states[n - 1] for states, n in zip(hidden, lengths, strict=True)])
    left = torch.stack([states.roll(hidden.size(1) - int(n), 0) for states, n in zip(hidden, lengths, strict=True)])
    cu_seqlens = torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0).int()])
    packed = hidden[mask.bool()]
    for pooled in (
        rht.pool_last_token(hidden, mask),
        rht.pool_last_token(hidden, mask.bool()),
        rht.pool_last_token(left, mask.flip(1)),
        rht.pool_last_token(hidden, positions=lengths - 1),
        rht.pool_last_token(packed, cu_seqlens=cu_seqlens),
        rht.pool_last_token(packed[None], cu_seqlens=cu_seqlens),
    ):
        assert pooled.dtype == torch.float16 and torch.equal(pooled, expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(4))
def test_gradients(side, seed):
    states, mask, lengths = padded(seed, side=side)
    last = lengths - 1 if side == "right" else torch.full_like(lengths, states.size(1) - 1)
    ours, theirs = states.clone().requires_grad_(), states.double().requires_grad_()
    weights = torch.randn(5, 4)
    (rht.pool_last_token(ours, mask).sin() * weights).sum().backward()
    (theirs[torch.arange(5), last].sin() * weights).sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-6, atol=1e-7)

    for pooled, x in ((rht.pool_mean(ours, mask), ours), (None, ours)):
        if pooled is None:
            cu_seqlens = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
            pooled = rht.pool_mean(x[mask.bool()], cu_seqlens=cu_seqlens)
        expected = (theirs * mask[:, :, None]).sum(1) / lengths[:, None]
        torch.testing.assert_close(pooled.double(), expected, rtol=1e-6, atol=1e-6)
        x.grad = theirs.grad = None
        (pooled.sin() * weights).sum().backward()
        (expected.sin() * weights).sum().backward()
        torch.testing.assert_close(x.grad.double(), theirs.grad, rtol=1e-5, atol=1e-6)


def test_a_row_named_twice_gets_both_gradients():
    states = torch.randn(7, 3, requires_grad=True)
    torch.ops.rewardhead.pool_rows(states, torch.tensor([2, 2, 6])).sum().backward()
    assert states.grad[:, 0].tolist() == [0, 0, 2, 0, 0, 0, 1]


def test_the_padding_does_not_count():
    states, mask, _ = padded()
    spoilt = states.masked_fill(~mask.bool()[:, :, None], torch.nan)
    assert torch.equal(rht.pool_mean(spoilt, mask), rht.pool_mean(states, mask))
    assert torch.equal(rht.pool_last_token(spoilt, mask), rht.pool_last_token(states, mask))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_states(dtype):
    states, mask, lengths = padded()
    states = states.to(dtype).requires_grad_()
    assert rht.pool_last_token(states, mask).dtype == dtype and rht.pool_mean(states, mask).dtype == torch.float32
    packed = states[mask.bool()]
    rht.pool_mean(packed, cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])).sum().backward()
    assert states.grad.dtype == dtype


def test_compiled():
    states, mask, lengths = padded()
    head = rht.RewardHead(4, 3)
    states.requires_grad_()
    positions = lengths - 1
    cu_seqlens = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    total = int(cu_seqlens[-1])

    def by_mask(states):
        pooled = rht.pool_last_token(states, mask)
        return rht.preference_loss(head, pooled[:4]) + rht.pool_mean(states, mask).sum()

    def by_positions(states):
        return rht.preference_loss(head, rht.pool_last_token(states * 2, positions=positions)[:4])

    def packed(states):
        tokens = (states * 2).flatten(0, 1)[:total]
        last, mean = rht.pool_last_token(tokens, cu_seqlens=cu_seqlens), rht.pool_mean(tokens, cu_seqlens=cu_seqlens)
        return rht.preference_loss(head, last[:4]) + mean.sin().sum()

    for loss in (by_mask, by_positions, packed):
        expected = torch.autograd.grad(loss(states), states)[0]
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
        torch.testing.assert_close(torch.autograd.grad(compiled(states), states)[0], expected)


def samples():
    states, mask, lengths = padded()
    flat = states.flatten(0, 1).requires_grad_()
    rows, offsets = torch.tensor([3, 44, 3]), torch.tensor([0, 4, 5, 45])
    yield "last_token_rows", (mask,)
    yield "position_rows", (lengths - 1, 5, 9)
    yield "segment_offsets", (offsets.int(), 45)
    yield "pool_rows", (flat, rows)
    yield "pool_rows_backward", (torch.randn(3, 4), rows, 45)
    yield "segment_mean", (flat, offsets)
    yield "segment_mean_backward", (torch.randn(3, 4), offsets, flat.detach())


@pytest.mark.parametrize("name, arguments", [pytest.param(n, a, id=n) for n, a in samples()])
def test_opcheck(name, arguments):
    torch.library.opcheck(getattr(torch.ops.rewardhead, name).default, arguments)


def tensor(*values):
    return torch.tensor(values)


@pytest.mark.parametrize(
    "shape, arguments, message",
    [
        ((2, 3, 4), dict(attention_mask=tensor([1, 1, 0], [0, 0, 0])), r"attention_mask\[1\] marks no token"),
        (
            (2, 3, 4),
            dict(
                attention_mask=tensor(
                    [1, 1, 0],
                )
            ),
            r"shape \(1, 3\); expected \(2, 3\)",
        ),
        ((2, 3, 4), dict(attention_mask=tensor([1, 2, 0], [1, 0, 0])), "other values than 0 and 1"),
        ((2, 3, 4), dict(attention_mask=torch.ones(2, 3)), "torch.float32"),
        ((6, 4), dict(attention_mask=tensor([1, 1, 0], [1, 0, 0])), r"\(6, 4\); expected \[batch, tokens, input\]"),
        ((2, 3, 4), dict(positions=tensor(0, 3)), r"positions\[1\] is 3; expected 0 to 2"),
        ((2, 3, 4), dict(positions=tensor(-1, 0)), r"positions\[0\] is -1"),
        ((2, 3, 4), dict(positions=tensor(0)), r"shape \(1,\); expected int64, \[2\]"),
        ((2, 3, 4), dict(positions=tensor(0.0, 1.0)), "positions is torch.float32"),
        ((6, 4), dict(cu_seqlens=tensor(0, 3, 3, 6)), r"cu_seqlens\[1\] is 3 and cu_seqlens\[2\] is 3"),
        ((6, 4), dict(cu_seqlens=tensor(0, 4, 3, 6)), "at least one token"),
        ((6, 4), dict(cu_seqlens=tensor(0, 3, 7)), "from 0 to 7; expected 0 to 6, all tokens"),
        ((6, 4), dict(cu_seqlens=tensor(1, 6)), "from 1 to 6"),
        ((6, 4), dict(cu_seqlens=tensor(0.0, 6.0)), "cu_seqlens is torch.float32"),
        ((2, 3, 4), dict(cu_seqlens=tensor(0, 6)), r"\(2, 3, 4\); expected, with cu_seqlens"),
        ((2, 3, 4), dict(), "nothing given; expected exactly one"),
        ((6, 4), dict(positions=tensor(0), cu_seqlens=tensor(0, 6)), "positions and cu_seqlens given"),
    ],
)
def test_errors(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        rht.pool_last_token(torch.zeros(shape), **arguments)
    if "positions" not in arguments and arguments:
        with pytest.raises(ValueError, match=message):
            rht.pool_mean(torch.zeros(shape), **arguments)


@pytest.mark.parametrize(
    "shape, arguments",
    [
        ((2, 3, 4), dict(attention_mask=[[1, 1, 0], [1, 0, 0]])),
        ((2, 3, 4), dict(positions=[0, 1])),
        ((6, 4), dict(cu_seqlens=[0, 3, 6])),
    ],
)
def test_what_is_no_tensor(shape, arguments):
    ((name, values),) = arguments.items()
    with pytest.raises(TypeError, match=f"{name} is of the type list; expected a tensor"):
        rht.pool_last_token(torch.zeros(shape), **arguments)
    with pytest.raises(TypeError, match="hidden_states is of the type ndarray; expected a tensor"):
        rht.pool_last_token(torch.zeros(shape).numpy(), **{name: torch.tensor(values)})
