# SPDX-License-Identifier: Apache-2.0
"""The operators against PyTorch's autograd in fp64 of the same formula, and every way in which a stack uses them."""

import copy
import itertools
import re

import pool_test
import pytest
import torch

import rewardhead
import rewardhead.torch as rht
from conftest import lets_other_threads_run
from rewardhead import _core
from rewardhead.torch import _dispatch

F = torch.nn.functional
HEADS = [0, 1, 37]


def problem(rows=23, input=19, hidden=37, pairs=40, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head = rht.RewardHead(input, hidden)
    x = torch.randn(rows, input, generator=generator).to(dtype)
    chosen = torch.randint(rows, (pairs,), generator=generator)
    rejected = (chosen + torch.randint(1, rows, (pairs,), generator=generator)) % rows
    extras = {
        "margin": torch.randn(pairs, generator=generator),
        "weight": torch.rand(pairs, generator=generator),
        "label": torch.rand(pairs, generator=generator),
    }
    return head, x, chosen, rejected, extras


def tensors64(head):
    """The parameters as fp64 leaves: w1, b1, w2, b2."""
    return [None if t is None else t.detach().double().requires_grad_() for t in head._tensors()]


def rewards64(x, tensors):
    w1, b1, w2, b2 = tensors
    return F.linear(x, w1)[:, 0] if b1 is None else F.linear(F.relu(F.linear(x, w1, b1)), w2.view(1, -1), b2)[:, 0]


def loss64(r, chosen, rejected, margin=0.0, weight=1.0, label=1.0, normalizer=None):
    d = r[chosen] - r[rejected] - margin
    losses = weight * (label * F.softplus(-d) + (1 - label) * F.softplus(d))
    return losses.sum() / (len(d) if normalizer is None else normalizer)


def close(actual, expected, rtol=2e-5):
    """To a share of the largest element, as rounding is to the sums behind it, or of 1 where they cancel (db2)."""
    expected = expected.to(torch.float64)
    scale = expected.abs().max().item() if expected.numel() else 0
    torch.testing.assert_close(actual.to(torch.float64), expected, rtol=0, atol=rtol * scale + 3e-7)


def check_head_gradients(head, x, reference, x64):
    parameters = [t for t in head._tensors() if t is not None]
    for ours, theirs in zip(parameters, [t for t in reference if t is not None], strict=True):
        close(ours.grad, theirs.grad)
    if x is not None:
        close(x.grad, x64.grad, 1e-2 if x.dtype != torch.float32 else 2e-5)


# ---- gradients ----


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hidden", HEADS)
def test_preference_loss_on_random_shapes(hidden, seed):
    draw = torch.Generator().manual_seed(100 * seed + hidden)
    rows, input, pairs = (int(torch.randint(2, 140, (), generator=draw)) for _ in range(3))
    head, x, chosen, rejected, extras = problem(rows, input, hidden, pairs, seed)
    x.requires_grad_()
    x64, reference = x.detach().double().requires_grad_(), tensors64(head)
    normalizer = None if seed % 2 else 17.5
    given = {name: value for i, (name, value) in enumerate(extras.items()) if seed >> i & 1}
    loss = rht.preference_loss(head, x, chosen, rejected, normalizer=normalizer, **given)
    expected = loss64(rewards64(x64, reference), chosen, rejected, normalizer=normalizer, **given)
    close(loss, expected, 1e-6)
    (3.5 * loss).backward()
    (3.5 * expected).backward()
    check_head_gradients(head, x, reference, x64)


@pytest.mark.parametrize("hidden", HEADS)
def test_rewards_with_any_loss(hidden):
    head, x, *_ = problem(hidden=hidden)
    x.requires_grad_()
    x64, reference = x.detach().double().requires_grad_(), tensors64(head)
    r, expected = head(x), rewards64(x64, reference)
    assert r.shape == (23,) and r.dtype == torch.float32
    close(r, expected, 1e-6)
    (r.sin() * r).sum().backward()
    (expected.sin() * expected).sum().backward()
    check_head_gradients(head, x, reference, x64)


@pytest.mark.parametrize(("rows", "pairs"), [(23, 40), (2, 1), (700, 3000)])
def test_losses_on_given_rewards(rows, pairs):
    _, x, chosen, rejected, extras = problem(rows, hidden=0, pairs=pairs, seed=rows)
    r = x[:, 0].clone().requires_grad_()
    r64 = r.detach().double().requires_grad_()
    (2 * rht.bradley_terry_loss(r, chosen, rejected, **extras)).backward()
    (2 * loss64(r64, chosen, rejected, **extras)).backward()
    close(r.grad, r64.grad)
    even = rows // 2 * 2
    adjacent = rht.bradley_terry_loss(r[:even])
    close(adjacent, loss64(r64, torch.arange(0, even, 2), torch.arange(1, even, 2)), 1e-6)
    close(rht.bradley_terry_loss(r.bfloat16(), chosen, rejected), loss64(r64, chosen, rejected), 0.02)


@pytest.mark.parametrize("pairs", [1, 31, 2000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dpo(smoothing, pairs):
    values = torch.randn(4, pairs, generator=torch.Generator().manual_seed(1)) * 10
    ours = [v.clone().requires_grad_() for v in values]
    theirs = [v.double().requires_grad_() for v in values]
    loss = rht.dpo_loss(*ours, beta=0.2, label_smoothing=smoothing)
    logits = 0.2 * ((theirs[0] - theirs[2]) - (theirs[1] - theirs[3]))
    expected = (-(1 - smoothing) * F.logsigmoid(logits) - smoothing * F.logsigmoid(-logits)).mean()
    close(loss, expected, 1e-5)
    loss.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        close(a.grad, b.grad)


def test_dpo_of_narrow_log_probabilities():
    values = (torch.randn(4, 31, generator=torch.Generator().manual_seed(2)) * 10).bfloat16()
    logits = 0.2 * ((values[0].double() - values[2]) - (values[1].double() - values[3]))
    expected = (-0.9 * F.logsigmoid(logits) - 0.1 * F.logsigmoid(-logits)).mean()
    close(rht.dpo_loss(*values, beta=0.2, label_smoothing=0.1), expected, 1e-5)


@pytest.mark.parametrize("sizes", [(0, 2), (3, -1), ("3", 2), (3.0, 2), (3, True), (torch.ones(2, 3), 2)])
def test_sizes_that_are_none(sizes):
    with pytest.raises(ValueError, match="expected integers, input >= 1 and hidden >= 0"):
        rht.RewardHead(*sizes)


@pytest.mark.parametrize("name", ["chosen", "rejected", "margin", "weight", "label"])
def test_pairs_that_are_no_tensors(name):
    head, x, chosen, rejected, _ = problem(hidden=0)
    for wrong in ([0, 1], chosen.numpy(), 0.5):
        with pytest.raises(TypeError, match=f"{name} is of the type {type(wrong).__name__}; expected a tensor"):
            rht.preference_loss(head, x, **{"chosen": chosen, "rejected": rejected, name: wrong})


def test_layers_of_different_types():
    """Each is widened; one of a type that is not is named, the types of the others have no say in it."""
    head, x, chosen, rejected, extras = problem(hidden=37)
    head.get_submodule("2").bfloat16()
    widened = copy.deepcopy(head).float()
    loss = rht.preference_loss(head, x, chosen, rejected, **extras)
    loss.backward()
    assert torch.equal(loss, rht.preference_loss(widened, x, chosen, rejected, **extras))
    assert {p.grad.dtype for p in head.parameters()} == {torch.float32, torch.bfloat16}
    with torch.no_grad():
        assert torch.equal(head(x), widened(x))
    for layer in "02":
        wrong = copy.deepcopy(head)
        wrong.get_submodule(layer).double()
        with pytest.raises(TypeError, match=rf"{layer}\.weight of the RewardHead is torch.float64; expected float32"):
            wrong(x)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("hidden", [0, 37])
def test_default_dtype_changes_nothing(default, hidden, tmp_path):
    head, x, chosen, rejected, extras = problem(hidden=hidden)
    head.save(tmp_path / "model.safetensors")

    def results():
        loaded = rht.RewardHead.load(tmp_path / "model.safetensors")
        assert all(p.dtype is torch.float32 for p in rht.RewardHead(5, hidden).parameters())
        input = x.clone().requires_grad_()
        rht.preference_loss(loaded, input, chosen, rejected, **extras).backward()
        gradients = [p.grad.clone() for p in loaded.parameters()]
        rht.AdamW(loaded.parameters(), lr=0.1).step()
        states = x.view(1, *x.shape)
        pooled = rht.pool_last_token(states, torch.ones(states.shape[:2], dtype=torch.long))
        with torch.no_grad():
            return [
                loaded(x),
                loaded(x.bfloat16()),
                pooled,
                input.grad,
                *gradients,
                *map(torch.clone, loaded.parameters()),
            ]

    expected = results()
    torch.set_default_dtype(default)
    try:
        found = results()
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype is torch.float32 and torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hidden", [0, 37])
def test_narrow_input(dtype, hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden, dtype=dtype)
    x.requires_grad_()
    x64, reference = x.detach().double().requires_grad_(), tensors64(head)
    loss = rht.preference_loss(head, x, chosen, rejected)
    loss.backward()
    loss64(rewards64(x64, reference), chosen, rejected).backward()
    assert loss.dtype == torch.float32 and x.grad.dtype == dtype
    check_head_gradients(head, x, reference, x64)


@pytest.mark.parametrize("hidden", [0, 37])
@pytest.mark.parametrize("way", ["once", "twice", "compiled"])
def test_loss_scaling_saves_small_gradients_of_float16(hidden, way):
    pairs = 20_000  # the gradients of x, about 1e-6, are subnormal numbers of float16
    head, x, _, _, _ = problem(hidden=hidden, rows=2 * pairs)
    half = x.half().requires_grad_()
    wide = half.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(rht.preference_loss(head, wide), wide)
    loss = torch.compile(rht.preference_loss, backend="aot_eager") if way == "compiled" else rht.preference_loss
    scaled = loss(head, half) * 65536
    for _ in range(2 if way == "twice" else 1):
        (gradient,) = torch.autograd.grad(scaled, half, retain_graph=way == "twice")
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient.float() / 65536, expected, rtol=1e-3, atol=1e-10)


@pytest.mark.parametrize("hidden", [0, 37])
def test_gradients_of_a_scaled_loss_that_is_no_constant(hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    parameters = list(head.parameters())
    expected = torch.autograd.grad(rht.preference_loss(head, x, chosen, rejected), parameters)
    loss = rht.preference_loss(head, x, chosen, rejected) * 2
    once = torch.autograd.grad(loss, parameters, create_graph=True, retain_graph=False)
    for a, b in zip(once, expected, strict=True):
        assert torch.equal(a, 2 * b)
    loss = rht.preference_loss(head, x, chosen, rejected)
    factors = torch.tensor([1.0, 3.0])
    for a, b in zip(torch.autograd.grad(loss, parameters, factors, is_grads_batched=True), expected, strict=True):
        assert torch.equal(a, torch.stack([b, 3 * b]))
    rewards = head(x)
    with pytest.raises(NotImplementedError, match="no vmap"):
        torch.autograd.grad(rewards, parameters, torch.ones(2, len(x)), is_grads_batched=True)


# ---- the ways of a training stack ----


def test_gradient_only_where_asked():
    for hidden in (0, 37):
        head, x, chosen, rejected, _ = problem(hidden=hidden)
        head.requires_grad_(False)
        x.requires_grad_()
        rht.preference_loss(head, x, chosen, rejected).backward()
        assert x.grad is not None and all(p.grad is None for p in head.parameters())
        head, x, chosen, rejected, _ = problem(hidden=hidden)
        (first,) = itertools.islice(head.parameters(), 1)
        for p in head.parameters():
            p.requires_grad_(p is first)
        head(x).sum().backward()
        assert first.grad is not None and all(p.grad is None for p in head.parameters() if p is not first)


@pytest.mark.parametrize("hidden", [0, 37])
def test_accumulation_retain_graph_and_global_normalizer(hidden):
    head, x, chosen, rejected, extras = problem(hidden=hidden)
    whole = copy.deepcopy(head)
    rht.preference_loss(whole, x, chosen, rejected, **extras).backward()
    for part in (slice(0, 11), slice(11, 40)):
        loss = rht.preference_loss(
            head, x, chosen[part], rejected[part], normalizer=40, **{k: v[part] for k, v in extras.items()}
        )
        loss.backward()
    for a, b in zip(head.parameters(), whole.parameters(), strict=True):
        close(a.grad, b.grad)

    head.zero_grad()
    loss = rht.preference_loss(head, x, chosen, rejected, **extras)
    for _ in range(2):
        loss.backward(retain_graph=True)
    loss.backward()
    for a, b in zip(head.parameters(), whole.parameters(), strict=True):
        close(a.grad, 3 * b.grad)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("hidden", [0, 37])
def test_strided_and_sliced_input(hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    wide = torch.zeros(23, 64)
    wide[:, 3:22] = x
    offset = torch.zeros(23 * 19 + 1)
    offset[1:] = x.flatten()
    every_other = torch.zeros(46, 19)
    every_other[::2] = x
    views = [wide[:, 3:22], x.t().contiguous().t(), offset[1:].view(23, 19), every_other[::2], x.flip(0).flip(0)]
    expected = head(x)
    reference = x.clone().requires_grad_()
    rht.preference_loss(head, reference, chosen, rejected).backward()
    for view in views:
        assert torch.equal(head(view), expected)
        with torch.no_grad():
            assert torch.equal(head(view), expected)
        leaf = view.detach().requires_grad_()
        head.zero_grad()
        rht.preference_loss(head, leaf, torch.stack([chosen, rejected], 1)[:, 0], rejected.int().long()).backward()
        assert torch.equal(leaf.grad, reference.grad)
        if hidden:
            assert all(p.grad.any() for p in itertools.islice(head.parameters(), 3))
    base = wide.clone().requires_grad_()  # the gradient goes through the slice, to where x came from
    rht.preference_loss(head, base[:, 3:22], chosen, rejected).backward()
    assert torch.equal(base.grad[:, 3:22], reference.grad)
    assert not base.grad[:, :3].any() and not base.grad[:, 22:].any()
    negated = torch.complex(x, -x).conj().imag
    assert negated.is_neg() and torch.equal(head(negated), expected)
    expanded = x[:1].expand(40, 19)  # not a few rows, which round otherwise
    assert torch.equal(head(expanded), expected[:1].expand(40))


def lazily_negated(x):
    """`x` as PyTorch makes it of the imaginary part of a conjugate: the memory holds -x."""
    negated = torch._neg_view(-x)
    assert negated.is_neg() and negated.is_contiguous() and torch.equal(negated, x)
    return negated


@pytest.mark.parametrize("hidden", [0, 37])
def test_what_is_negated_lazily_keeps_its_sign(hidden):
    one, head = torch.randn(1, 1), rht.RewardHead(1, hidden)
    for x in (torch.complex(one, -one).conj().imag, lazily_negated(one)):
        with torch.no_grad():
            assert torch.equal(head(x), head(one))
        assert torch.equal(head(x), head(one))
    head, x, chosen, rejected, extras = problem(hidden=hidden)
    found = []
    for change in (torch.Tensor.clone, lazily_negated):
        input = x.clone().requires_grad_()
        constants = {name: change(values) for name, values in extras.items()}
        loss = rht.preference_loss(head, change(input), chosen, rejected, **constants)
        rewards = head(change(input))
        parts = [
            loss,
            *torch.autograd.grad(loss, [input, *head.parameters()]),
            *torch.autograd.grad(rewards, [input, *head.parameters()], change(rewards.detach())),
            rht.bradley_terry_loss(change(rewards), chosen, rejected),
        ]
        found.append(parts)
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_empty_batch():
    for hidden in (0, 37):
        head, x, *_ = problem(hidden=hidden)
        empty, none = x[:0].clone().requires_grad_(), torch.zeros(0, dtype=torch.long)
        assert head(empty).shape == (0,)
        loss = rht.preference_loss(head, empty, none, none)
        loss.backward()
        assert loss.item() == 0 and empty.grad.shape == (0, 19)
        assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
        assert rht.preference_loss(head, x, none, none).item() == 0
        head(empty).sum().backward()


def test_without_gradients():
    head, x, chosen, rejected, _ = problem()
    graph = head(x)
    with torch.no_grad():
        assert torch.equal(head(x), graph) and not head(x).requires_grad
        loss = rht.preference_loss(head, x, chosen, rejected)
        assert loss.grad_fn is None
    with torch.inference_mode():
        assert torch.equal(head(x), graph)
    assert not head.requires_grad_(False)(x).requires_grad
    assert loss.item() == rht.preference_loss(head, x, chosen, rejected).item()


def test_double_backward_is_refused():
    for hidden in (0, 37):
        head, x, chosen, rejected, _ = problem(hidden=hidden)
        x.requires_grad_()
        losses = [
            rht.preference_loss(head, x, chosen, rejected),
            head(x).pow(2).sum(),
            rht.bradley_terry_loss(head(x), chosen, rejected),
        ]
        for loss in losses:
            gradients = torch.autograd.grad(loss, [x, *head.parameters()], create_graph=True)
            for gradient in gradients:
                with pytest.raises(NotImplementedError, match="no second derivatives"):
                    (loss + gradient.pow(2).sum()).backward(retain_graph=True)
    r = torch.randn(6, requires_grad=True)
    (gradient,) = torch.autograd.grad(rht.bradley_terry_loss(r), r, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.sum().backward()


def test_a_parameter_changed_before_backward_is_noticed():
    head, x, chosen, rejected, _ = problem()
    loss = rht.preference_loss(head, x, chosen, rejected)
    with torch.no_grad():
        next(head.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("hidden", [0, 37])
def test_autocast(hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    before = torch.nn.Linear(19, 19)
    with torch.autocast("cpu", torch.bfloat16):
        states = before(x)
        assert states.dtype == torch.bfloat16
        r = head(states)
        loss = rht.preference_loss(head, states, chosen, rejected)
    assert r.dtype == loss.dtype == torch.float32
    close(r, rewards64(states.detach().double(), tensors64(head)), 1e-6)
    loss.backward()
    assert before.weight.grad.dtype == torch.float32 and before.weight.grad.any()


@pytest.mark.parametrize("hidden", [0, 37])
def test_a_module_cast_to_bfloat16(hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    head.bfloat16()
    x = x.bfloat16()
    r = head(x)
    assert r.dtype == torch.float32
    close(r, rewards64(x.double(), tensors64(head)), 1e-6)
    rht.preference_loss(head, x, chosen, rejected).backward()
    assert all(
        p.grad.dtype == torch.bfloat16 and p.grad.any() for p in list(head.parameters())[: 1 if not hidden else 3]
    )


@pytest.mark.parametrize(
    ("rows", "input"), [(3, 64), (17, 200), (48, 288), (49, 300), (64, 384), (65, 384), (65, 390), (200, 1300)]
)
def test_few_rows_keep_what_a_backward_needs(rows, input):
    head, x, chosen, rejected, extras = problem(rows, input)
    x.requires_grad_()
    x64, reference = x.detach().double().requires_grad_(), tensors64(head)
    rht.preference_loss(head, x, chosen, rejected, **extras).backward()
    loss64(rewards64(x64, reference), chosen, rejected, **extras).backward()
    check_head_gradients(head, x, reference, x64)


@pytest.mark.parametrize(("hidden", "rows", "input"), [(0, 23, 19), (37, 23, 19), (37, 3, 64)])
def test_compiled_without_graph_break(hidden, rows, input):
    head, x, chosen, rejected, extras = problem(rows, input, hidden)
    x.requires_grad_()

    def step(head, x, chosen, rejected, extras):
        states = x * 2
        return rht.preference_loss(head, states, chosen, rejected, **extras) + head(states).mean()

    expected = step(head, x, chosen, rejected, extras)
    expected.backward()
    wanted = [x.grad.clone(), *(p.grad.clone() for p in head.parameters())]
    x.grad = None
    head.zero_grad()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    loss = compiled(head, x, chosen, rejected, extras)
    loss.backward()
    close(loss, expected, 1e-6)
    for a, b in zip([x.grad, *(p.grad for p in head.parameters())], wanted, strict=True):
        close(a, b)
    with torch.no_grad():
        assert torch.equal(torch.compile(head, fullgraph=True, backend="aot_eager")(x), head(x))


def test_other_losses_compiled_without_graph_break():
    """And with them PyTorch's operations around ours, in one graph."""
    _, x, chosen, rejected, extras = problem(hidden=0)
    r = x[:, 0].clone().requires_grad_()
    logps = (torch.randn(4, 31, generator=torch.Generator().manual_seed(1)) * 10).requires_grad_()
    cases = [
        (lambda r: rht.bradley_terry_loss(r * 2, chosen, rejected, **extras), r),
        (lambda r: rht.bradley_terry_loss(r.bfloat16()[:22], normalizer=3.0), r),
        (lambda values: rht.dpo_loss(*values, beta=0.2, label_smoothing=0.1), logps),
        (lambda values: rht.dpo_loss(*values), logps),
    ]
    for loss, leaf in cases:
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
        value = compiled(leaf)
        close(value, loss(leaf), 1e-6)
        close(torch.autograd.grad(value, leaf)[0], expected)


def test_adamw_compiled_without_graph_break():
    head, x, chosen, rejected, _ = problem()
    other = copy.deepcopy(head)
    optimizers = [rht.AdamW(h.parameters(), lr=0.01, weight_decay=0.1) for h in (head, other)]
    graphs = []
    compiled = torch.compile(optimizers[0].step, fullgraph=True, backend=lambda graph, _: graphs.append(graph) or graph)
    for _ in range(4):
        for h in (head, other):
            h.zero_grad()
            rht.preference_loss(h, x, chosen, rejected).backward()
        compiled()
        optimizers[1].step()
    for a, b in zip(head.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(state["step"] == 4 for state in optimizers[0].state.values())
    assert 1 <= len(graphs) <= 2  # at first the moments are made; the number of the step is no constant


def test_compiled_by_the_default_backend():
    head, x, chosen, rejected, _ = problem()
    loss = torch.compile(rht.preference_loss, fullgraph=True)(head, x, chosen, rejected)
    loss.backward()
    gradients = [p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    rht.preference_loss(head, x, chosen, rejected).backward()
    for a, b in zip(gradients, head.parameters(), strict=True):
        close(a, b.grad)


def samples():
    """Arguments of each operator, with gradients where it has some."""
    for hidden in (0, 37):
        head, x, chosen, rejected, extras = problem(hidden=hidden)
        x.requires_grad_()
        tensors = head._tensors()
        detached = [None if t is None else t.detach() for t in tensors]
        yield "score", (x.detach(), *detached)
        yield "head_forward", (x, *tensors)
        yield "head_forward", (x.detach().bfloat16().requires_grad_(), *tensors)
        yield "preference_loss", (x, *tensors, chosen, rejected, *extras.values(), 12.0)
        yield "preference_loss", (x[:22], *tensors, None, None, None, None, None, 0.0)
        yield "preference_loss", (x.detach().bfloat16(), *detached, chosen, rejected, *extras.values(), 12.0)
        for need_x in (True, False):
            yield "loss_gradients", (x.detach(), *detached, chosen, rejected, *extras.values(), 12.0, need_x)
        with torch.no_grad():
            rewards, mask = torch.ops.rewardhead.head_forward(x, *tensors)
        for need_x in (True, False):
            yield "head_backward", (rewards, mask, x.detach(), *detached, need_x)
    head, x, *_ = problem(3, 64)  # so few rows that activations are kept
    yield "head_forward", (x.requires_grad_(), *head._tensors())
    r = torch.randn(23, requires_grad=True)
    yield "pair_loss", (r, chosen, rejected, *extras.values(), 3.0)
    yield "pair_loss", (r[:22].contiguous(), None, None, None, None, None, 0.0)
    states = [[torch.rand(5, 3), torch.rand(7)] for _ in range(4)]
    yield "adamw_", (*states, [torch.tensor(1.0), torch.tensor(4.0)], 1e-2, 0.9, 0.99, 1e-8, 0.1)


@pytest.mark.parametrize("name, arguments", [pytest.param(n, a, id=f"{i}-{n}") for i, (n, a) in enumerate(samples())])
def test_opcheck(name, arguments):
    torch.library.opcheck(getattr(torch.ops.rewardhead, name).default, arguments)


def test_every_operator_is_checked():
    assert {name for name, _ in itertools.chain(samples(), pool_test.samples())} == set(_dispatch.KERNELS)


# ---- the optimizer ----


@pytest.mark.parametrize("hidden", [0, 37])
def test_adamw_follows_torch(hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    other = copy.deepcopy(head)
    ours = rht.AdamW(head.parameters(), lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1)
    schedulers = [torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 5) for o in (ours, theirs)]
    for _ in range(20):
        head.zero_grad()
        rht.preference_loss(head, x, chosen, rejected).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 0.5)
        for a, b in zip(head.parameters(), other.parameters(), strict=True):
            # The same: of b2's, which is 0 but for rounding, the two would make different steps.
            b.grad = a.grad.clone()
        ours.step()
        theirs.step()
        for scheduler in schedulers:
            scheduler.step()
    for a, b in zip(head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    resumed = torch.optim.AdamW(other.parameters(), lr=0.01)
    resumed.load_state_dict(ours.state_dict())
    assert resumed.state_dict()["state"][0]["step"] == 20


def test_training_gives_the_program_the_same_numbers(sample):
    """From the first weights of `RewardModel`, the same steps give the same weights, bit for bit."""
    start = rewardhead.RewardModel(sample.embeddings, 16, epochs=1, learning_rate=0.0, weight_decay=0.0)
    head = rht.RewardHead(384, 16)
    with torch.no_grad():
        first = start.fit(sample.pairs).head_
        for tensor, array in zip(head._tensors(), (first.w1, first.b1, first.w2, first.b2), strict=True):
            tensor.copy_(torch.from_numpy(array).reshape(tensor.shape))
    x, pairs = torch.from_numpy(sample.embeddings), torch.from_numpy(sample.pairs)
    optimizer = rht.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = rht.preference_loss(head, x, pairs[:, 0], pairs[:, 1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model = rewardhead.RewardModel(sample.embeddings, 16, epochs=5).fit(sample.pairs)
    assert losses == [entry["loss"] for entry in model.history_]
    assert (head._tensors()[0].detach().numpy() == model.head_.w1).all()


@pytest.mark.parametrize("ours_first", [True, False])
def test_adamw_states_go_both_ways(ours_first):
    head, x, chosen, rejected, _ = problem()
    heads = [head, copy.deepcopy(head)]
    classes = [rht.AdamW, torch.optim.AdamW]
    optimizers = [made(h.parameters(), lr=0.01) for made, h in zip(classes, heads, strict=True)]
    first, second = (0, 1) if ours_first else (1, 0)

    def step(index):
        optimizers[index].zero_grad()
        rht.preference_loss(heads[index], x, chosen, rejected).backward()
        optimizers[index].step()

    for _ in range(3):
        step(first)
    heads[second].load_state_dict(heads[first].state_dict())
    optimizers[second].load_state_dict(copy.deepcopy(optimizers[first].state_dict()))
    step(0)
    step(1)
    for ours, theirs in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_adamw_refusals():
    parameters = [torch.nn.Parameter(torch.zeros(3))]
    with pytest.raises(ValueError, match="expected finite numbers, lr >= 0"):
        rht.AdamW(parameters, lr=-1.0)
    for option in ("maximize", "amsgrad"):
        state = torch.optim.AdamW(parameters, **{option: True}).state_dict()
        with pytest.raises(ValueError, match=f"{option}=True"):
            rht.AdamW(parameters).load_state_dict(state)
        with pytest.raises(ValueError, match=f"{option}=True"):
            rht.AdamW([{"params": parameters, option: True}])


@pytest.mark.parametrize("bad", ["float64", "sparse", "strided", "lr"])
def test_adamw_changes_nothing_when_it_refuses(bad):
    """Whatever was good among the parameters of this group and of those before."""
    parameters = [torch.nn.Parameter(torch.full((3,), float(i))) for i in range(3)]
    if bad == "strided":
        parameters[2].data = torch.zeros(6)[::2]
    elif bad == "float64":
        parameters[2].data = parameters[2].data.double()
    optimizer = rht.AdamW([{"params": parameters[:2]}, {"params": parameters[2:]}])
    for parameter in parameters[:2]:
        parameter.grad = torch.ones(3)
    optimizer.step()
    before = copy.deepcopy([optimizer.state_dict()["state"], parameters])
    gradient = torch.ones_like(parameters[2])
    parameters[2].grad = gradient.to_sparse() if bad == "sparse" else gradient
    if bad == "lr":
        optimizer.param_groups[1]["lr"] = float("nan")
    with pytest.raises(ValueError, match="expected"):
        optimizer.step()
    after = optimizer.state_dict()["state"]
    for index, state in before[0].items():
        assert all(torch.equal(after[index][name], state[name]) for name in state)
    assert after.get(2, {"step": 0})["step"] == 0
    for a, b in zip(parameters, before[1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("hidden", [0, 37])
def test_traced_scoring_scores_what_it_is_given(hidden):
    head, x, *_ = problem(hidden=hidden)
    other = torch.randn(31, 19)
    with torch.no_grad():
        assert torch.equal(torch.jit.trace(head, x)(other), head(other))
    traced = torch.jit.trace(head, x)  # with gradients
    expected = head(other)
    assert torch.equal(traced(other), expected)
    gradients = torch.autograd.grad(traced(other).sin().sum(), list(head.parameters()))
    for a, b in zip(gradients, torch.autograd.grad(expected.sin().sum(), list(head.parameters())), strict=True):
        assert torch.equal(a, b)


def test_kernels_release_the_gil(monkeypatch):
    assert not lets_other_threads_run(lambda: sum(range(1000)), seconds=0.3)
    kernels = ["head_forward", "head_backward", "pair_loss", "loss_gradients", "adamw"]
    found = {}

    def watch(name, kernel):
        def watched(*arguments):
            found[name] = lets_other_threads_run(lambda: kernel(*arguments))

        monkeypatch.setattr(_core, name, watched)

    for name in kernels:
        watch(name, getattr(_core, name))
    for hidden in (0, 37):
        head, x, chosen, rejected, _ = problem(hidden=hidden)
        optimizer = rht.AdamW(head.parameters())
        rht.preference_loss(head, x, chosen, rejected).backward()
        rht.bradley_terry_loss(head(x), chosen, rejected).backward()
        optimizer.step()
    assert found == dict.fromkeys(kernels, True)


@pytest.mark.parametrize("hidden", [0, 37])
def test_transforms_are_refused(hidden):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    stacked = torch.stack([x, x])
    calls = [
        head,
        lambda x: rht.preference_loss(head, x, chosen, rejected),
        lambda x: rht.bradley_terry_loss(x[:, 0], chosen, rejected),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="no vmap"):
            torch.vmap(call)(stacked)
        with torch.no_grad(), pytest.raises(NotImplementedError, match="no vmap"):
            torch.vmap(call)(stacked)
        for transform in (torch.func.grad, torch.func.jacrev):
            with pytest.raises(NotImplementedError, match="no vmap, nor other transforms of torch.func"):
                transform(lambda x, call=call: call(x).sum())(x)


@pytest.mark.parametrize("hidden", [0, 37])
def test_what_no_gradient_needs_is_not_computed(hidden, monkeypatch):
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    calls = []
    for name, kernel in _dispatch.KERNELS.items():

        def counted(*arguments, name=name, kernel=kernel):
            calls.append(name)
            return kernel(*arguments)

        monkeypatch.setitem(_dispatch.KERNELS, name, counted)
    loss = rht.preference_loss(head, x, chosen, rejected)
    loss.backward()
    assert calls == ["loss_gradients"]
    with torch.no_grad():
        assert rht.preference_loss(head, x, chosen, rejected).item() == loss.item()
    rht.preference_loss(head.requires_grad_(False), x, chosen, rejected)
    assert "loss_gradients" not in calls[1:]


@pytest.mark.parametrize("hidden", [0, 37])
def test_gradients_of_a_backward_are_nobody_elses(hidden):
    """They are computed with the loss, and the first backward of a kept graph must not hand out what the next one
    needs; that of one that is not kept gives them away without a copy."""
    head, x, chosen, rejected, _ = problem(hidden=hidden)
    x.requires_grad_()
    leaves = [x, *head.parameters()]
    loss = rht.preference_loss(head, x, chosen, rejected)
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    expected = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.fill_(7)
    (-2 * loss).backward(retain_graph=True)
    for leaf, gradient in zip(leaves, expected, strict=True):
        assert torch.equal(leaf.grad, -2 * gradient)
        leaf.grad = None
    given = [tensor.data_ptr() for tensor in loss.grad_fn.saved_tensors[-len(leaves) :]]
    (4 * loss).backward()
    for leaf, gradient in zip(leaves, expected, strict=True):
        assert torch.equal(leaf.grad, 4 * gradient)
    assert [leaf.grad.data_ptr() for leaf in leaves[1:]] == given[:-1] and x.grad.data_ptr() == given[-1]


# ---- the module ----


def test_state_dict_and_files(tmp_path):
    for hidden, names in ((0, ["weight"]), (5, ["0.weight", "0.bias", "2.weight", "2.bias"])):
        head = rht.RewardHead(7, hidden)
        assert list(head.state_dict()) == names
        head.save(tmp_path / "model.safetensors")
        loaded = rht.RewardHead.load(tmp_path / "model.safetensors")
        assert all(torch.equal(a, b) for a, b in zip(head.parameters(), loaded.parameters(), strict=True))
        x = torch.randn(40, 7)  # not a few rows, which round otherwise
        model = rewardhead.RewardModel.load(tmp_path / "model.safetensors")
        with torch.no_grad():
            assert (head(x).numpy() == model.predict(x)).all()  # DLPack
            assert (head(x.bfloat16()).numpy() == model.predict(x.bfloat16())).all()
            by_tensor = rewardhead.RewardModel.load(tmp_path / "model.safetensors", x.bfloat16())
            expected = head(x.bfloat16())[1] - head(x.bfloat16())[0]
            assert by_tensor.decision_function([[1, 0]])[0] == expected.item()
        assert copy.deepcopy(head)(x).equal(head(x))


def test_parametrized_layers_work():
    head, x, *_ = problem()
    expected = head(x)
    torch.nn.utils.parametrizations.weight_norm(head.get_submodule("0"))
    close(head(x), expected.double(), 1e-6)


# ---- refusal ----


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(x=torch.randn(23, 18)), ValueError, "x has 18 columns; expected 19"),
        (dict(x=torch.randn(23, 19).double()), ValueError, "x is torch.float64"),
        (dict(x=torch.randn(19)), ValueError, r"x is torch.float32 of the shape \(19,\)"),
        (dict(x=torch.randn(23, 19).int()), ValueError, r"x is torch.int32 of the shape \(23, 19\); expected float32"),
        (dict(x=torch.randn(23, 19).to_sparse()), ValueError, "x is .* torch.sparse_coo; expected .* torch.strided"),
        (dict(x=[[0.0] * 19] * 23), TypeError, r"x is of the type list; expected a tensor \[rows, input\]"),
        (
            dict(chosen=torch.tensor([23]), rejected=torch.tensor([0])),
            ValueError,
            r"chosen\[0\] is 23; expected 0 to 22",
        ),
        (dict(chosen=torch.tensor([2**32]), rejected=torch.tensor([0])), ValueError, r"chosen\[0\] is 4294967296"),
        (dict(chosen=torch.tensor([-1]), rejected=torch.tensor([0])), ValueError, r"chosen\[0\] is -1"),
        (dict(chosen=torch.tensor([1]), rejected=torch.tensor([1])), ValueError, "the same row"),
        (dict(chosen=torch.tensor([1.0]), rejected=torch.tensor([0])), ValueError, "chosen is torch.float32"),
        (dict(chosen=torch.tensor([1, 2]), rejected=torch.tensor([0])), ValueError, r"rejected is .*\(1,\)"),
        (dict(chosen=torch.tensor([1]), rejected=None), ValueError, "chosen is given without rejected"),
        (dict(chosen=None, rejected=None), ValueError, "there are 23 rows"),
        (dict(margin=torch.randn(3)), ValueError, r"margin is .* of the shape \(3,\)"),
        (dict(margin=torch.randn(40, requires_grad=True)), ValueError, "margin requires a gradient"),
        (dict(margin=torch.full((40,), torch.inf)), ValueError, r"margin\[0\] is inf"),
        (dict(weight=-torch.ones(40)), ValueError, r"weight\[0\] is -1"),
        (dict(label=torch.full((40,), 1.5)), ValueError, r"label\[0\] is 1.5.*expected 0 to 1"),
        (dict(normalizer=0.0), ValueError, "normalizer is 0.0"),
        (dict(normalizer=-3), ValueError, "normalizer is -3"),
    ],
)
def test_wrong_arguments(change, error, message):
    for hidden in (0, 37):
        head, x, chosen, rejected, extras = problem(hidden=hidden)
        arguments = {"x": x, "chosen": chosen, "rejected": rejected, **change}
        with pytest.raises(error, match=message):
            rht.preference_loss(head, **arguments)


@pytest.mark.parametrize("given", [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_a_head_is_whole(given):
    head, x, *_ = problem(hidden=1, rows=22)
    w1, *others = [parameter.detach() for parameter in head._tensors()]
    tensors = (w1, *(other if is_given else None for other, is_given in zip(others, given, strict=True)))
    b1, w2, b2 = ("given" if is_given else "None" for is_given in given)
    pairs = (None,) * 5 + (0.0,)
    operators = torch.ops.rewardhead
    mask = torch.empty(0 if b1 == "None" else 1, dtype=torch.int64)
    for call in (
        lambda: operators.score(x, *tensors),
        lambda: operators.head_forward(x, *tensors),
        lambda: operators.head_backward(torch.ones(22), mask, x, *tensors, True),
        lambda: operators.preference_loss(x, *tensors, *pairs),
        lambda: operators.loss_gradients(x, *tensors, *pairs, False),
    ):
        with pytest.raises(ValueError, match=f"b1 is {b1}, w2 {w2}, b2 {b2}; expected all of them, or none"):
            call()


def test_a_gradient_of_rewards_that_are_not_those():
    head, x, *_ = problem(hidden=0)
    for gradient in (torch.ones(22), torch.ones(23, 1)):
        message = f"reward_gradient has the shape {tuple(gradient.shape)}; expected [23]"
        with pytest.raises(ValueError, match=re.escape(message)):
            torch.ops.rewardhead.head_backward(
                gradient, torch.empty(0, dtype=torch.int64), x, head.weight.detach(), None, None, None, False
            )


def test_wrong_rewards():
    with pytest.raises(TypeError, match=r"rewards is of the type list; expected a tensor \[rows\]"):
        rht.bradley_terry_loss([1.0, 0.0])
    with pytest.raises(TypeError, match="reference_chosen is of the type list; expected a tensor"):
        rht.dpo_loss(torch.zeros(1), torch.zeros(1), [0.0], torch.zeros(1))
    for beta in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"beta is {beta}; expected a finite number above 0"):
            rht.dpo_loss(*[torch.zeros(1)] * 4, beta=beta)


def test_wrong_heads():
    with pytest.raises(ValueError, match="input >= 1"):
        rht.RewardHead(0)
    with pytest.raises(TypeError, match="torch.float64"):
        rht.RewardHead(4).double()(torch.randn(2, 4))
    with pytest.raises(ValueError, match="same"):
        rht.dpo_loss(*[torch.zeros(n) for n in (3, 3, 3, 2)])
    with pytest.raises(ValueError, match="contiguous float32"):
        optimizer = rht.AdamW([torch.zeros(3, dtype=torch.float64, requires_grad=True)])
        optimizer.param_groups[0]["params"][0].grad = torch.zeros(3, dtype=torch.float64)
        optimizer.step()
