# SPDX-License-Identifier: Apache-2.0
"""What the operators do on a GPU, on the software device (tests/simt): no GPU has run them, and this PyTorch may have
no CUDA. The device's memory is a protected part of the host's, so that tensors "there" are PyTorch's CPU tensors over
memory from its cudaMalloc; `on_cpu` and `current_stream` say that they are not the CPU's, and the extension is the one
built for the device. From there on everything is what CUDA tensors meet."""

import contextlib
import copy
import ctypes

import pytest
import simt_core
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import rewardhead.torch as rht
from rewardhead.torch import _dispatch, _ops, _pool

HEADS = [0, 37]


def on_device(tensor):
    """A copy in memory of the device, unless it is there."""
    if tensor.numel() == 0 or tensor.untyped_storage().data_ptr() in OnDevice.memory:
        return tensor
    size = tensor.numel() * tensor.element_size()
    address = simt_core.allocate(size)
    OnDevice.memory.add(address)
    copied = torch.frombuffer((ctypes.c_byte * size).from_address(address), dtype=tensor.dtype).view(tensor.shape)
    with torch.no_grad(), torch.utils._python_dispatch._disable_current_modes(), there():
        return copied.copy_(tensor)


@contextlib.contextmanager
def there():
    """What kernels have done is done, and the host may access the device's memory."""
    before = simt_core.waits()
    simt_core.wait()
    OnDevice.waits += simt_core.waits() - before
    simt_core.open()
    try:
        yield
    finally:
        simt_core.close()


class OnDevice(TorchDispatchMode):
    """What PyTorch makes lies on the device, except numbers, and what PyTorch does there waits for the kernels before,
    which run late. `waits` counts that; beside that, nothing may wait."""

    memory = set()
    waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "rewardhead":
            with self:
                return _dispatch.KERNELS[function._schema.name.split("::")[1]](*args, **(kwargs or {}))
        with there():
            made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.lift_fresh.default:
            return made  # a number given to torch.tensor
        return tree_map_only(torch.Tensor, on_device, made)


@pytest.fixture
def device(monkeypatch):
    stream = simt_core.make_stream()
    for module in (_dispatch, _ops):
        monkeypatch.setattr(module, "_core", simt_core)
    for module in (_dispatch, _ops, _pool):
        monkeypatch.setattr(module, "on_cpu", lambda _: False)
    monkeypatch.setattr(_dispatch, "current_stream", lambda _: (0, stream))
    OnDevice.waits = simt_core.waits()
    with OnDevice() as mode:
        yield mode


def problem(hidden, dtype=torch.float32, rows=23, input=64, pairs=40):
    torch.manual_seed(hidden)
    head, x = rht.RewardHead(input, hidden), torch.randn(rows, input).to(dtype)
    chosen = torch.randint(rows, (pairs,))
    rejected = (chosen + torch.randint(1, rows, (pairs,))) % rows
    return head, x, chosen, rejected, {"margin": torch.randn(pairs), "weight": torch.rand(pairs)}


def moved(head):
    other = copy.deepcopy(head)
    for parameter in other.parameters():
        parameter.data = on_device(parameter.data)
        parameter.grad = None
    return other


def host(tensor):
    with there():
        values = tensor.detach().tolist()
    return torch.tensor(values, dtype=torch.float64)


def close(actual, expected, rtol=2e-4):
    expected = expected.detach().double()
    torch.testing.assert_close(host(actual), expected, rtol=0, atol=rtol * expected.abs().max().item() + 1e-6)


def results(head, x, chosen, rejected, extras, adjacent):
    """Rewards, loss, rewards' loss, and gradients of everything."""
    x.requires_grad_()
    r = head(x)
    if adjacent:
        loss = rht.preference_loss(head, x[:22], normalizer=3.0)
    else:
        loss = rht.preference_loss(head, x, chosen, rejected, **extras)
    other = rht.bradley_terry_loss(r, chosen, rejected, **extras)
    (2 * loss + other).backward()
    return [r, loss, other, x.grad, *(parameter.grad for parameter in head.parameters())]


@pytest.mark.parametrize("adjacent", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden", HEADS)
def test_everything_is_as_on_the_cpu(hidden, dtype, adjacent, request):
    head, x, chosen, rejected, extras = problem(hidden, dtype)
    other = copy.deepcopy(head)
    expected = results(head, x.clone(), chosen, rejected, extras, adjacent)
    request.getfixturevalue("device")
    extras = {name: on_device(values) for name, values in extras.items()}
    found = results(moved(other), *map(on_device, (x, chosen, rejected)), extras, adjacent)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, 2e-4 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("hidden", HEADS)
def test_training_steps_do_not_wait(hidden, request):
    head, x, chosen, rejected, _ = problem(hidden)
    other = copy.deepcopy(head)

    def train(head, x, chosen, rejected):
        optimizer = rht.AdamW(head.parameters(), lr=0.01, eps=1e-2)  # b2's gradient is 0 but for rounding
        for _ in range(3):
            optimizer.zero_grad()
            rht.preference_loss(head, x).backward()  # one pass over x for the linear head
            optimizer.step()
            optimizer.zero_grad()
            rht.preference_loss(head, x, chosen.int(), rejected.int()).backward()
            optimizer.step()
        with torch.no_grad():
            return head(x)

    expected = train(head, x[:22].clone(), chosen % 22, (chosen + 1) % 22)
    request.getfixturevalue("device")
    moved_data = [on_device(values) for values in (x[:22].contiguous(), chosen % 22, (chosen + 1) % 22)]
    train(moved(copy.deepcopy(other)), *moved_data)  # the first plans wait: kernels prove themselves
    waits, copies = simt_core.waits() - OnDevice.waits, simt_core.copies_to_host()
    launches = simt_core.launches()
    found = train(moved(other), *moved_data)
    assert simt_core.waits() - OnDevice.waits == waits and simt_core.copies_to_host() == copies
    assert simt_core.launches() > launches + 20
    close(found, expected)


def test_the_current_stream_counts(device, monkeypatch):
    """Kernels of one stream run in order, those of several in any: results are right if all took the same."""
    head, x, *_ = problem(37)
    head, x = moved(head), on_device(x)
    for _ in range(3):
        stream = simt_core.make_stream()
        monkeypatch.setattr(_dispatch, "current_stream", lambda _, stream=stream: (0, stream))
        rewards = head(x)
        close(rewards, host(head(x)))


def test_pooling(device):
    states = on_device(torch.randn(5, 9, 4)).requires_grad_()
    lengths = torch.tensor([3, 9, 1, 4, 9])
    mask = on_device((torch.arange(9) < lengths[:, None]).long())
    expected = host(states)[torch.arange(5), lengths - 1]
    close(rht.pool_last_token(states, mask), expected)
    close(rht.pool_last_token(states, positions=on_device(lengths - 1)), expected)
    offsets = on_device(torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]))
    packed = states[mask.bool()]
    close(rht.pool_last_token(packed, cu_seqlens=offsets), expected)
    assert rht.pool_mean(packed, cu_seqlens=offsets).shape == (5, 4)
    for wrong in ({"attention_mask": mask * 0}, {"attention_mask": mask * 2}, {"positions": on_device(lengths)}):
        with pytest.raises(RuntimeError, match="attention_mask|position"):
            rht.pool_last_token(states, **wrong)
    with pytest.raises(RuntimeError, match="cu_seqlens"):
        rht.pool_last_token(packed, cu_seqlens=offsets[:-1])


@pytest.mark.parametrize(
    "chosen, rejected, message",
    [
        ([23], [0], "chosen names a row"),
        ([0], [-1], "rejected names a row"),
        ([2**32], [1], "chosen"),
        ([3], [3], "same"),
    ],
)
def test_wrong_pairs_are_asserted_on_the_device(device, chosen, rejected, message):
    head, x, *_ = problem(37)
    with pytest.raises(RuntimeError, match=message):
        rht.preference_loss(
            moved(head), on_device(x), on_device(torch.tensor(chosen)), on_device(torch.tensor(rejected))
        )


def test_memory_of_the_host_is_refused(device):
    with torch.utils._python_dispatch._disable_current_modes():
        head, x, *_ = problem(37)
    with pytest.raises(ValueError, match="host memory"):
        head(x)


def test_a_build_without_cuda_says_so(monkeypatch):
    assert not _dispatch._core.HAS_CUDA
    monkeypatch.setattr(_dispatch, "on_cpu", lambda _: False)
    head, x, *_ = problem(37)
    with pytest.raises(RuntimeError, match="no CUDA kernels.*REWARDHEAD_CUDA=ON"):
        head(x)
