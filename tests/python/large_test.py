# SPDX-License-Identifier: Apache-2.0
"""The memory of a large gradient, which serves again: never while anything uses it, and one block at most is kept."""

import copy
import io
import os
import threading

import pytest
import torch
import torch_test

import rewardhead.torch as rht
from rewardhead import _core

MEGABYTE = 1 << 20
W1, X = "0.weight", torch.randn(4, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def every_size(monkeypatch):
    """Gradients of any size are large ones."""
    monkeypatch.setattr(_core, "LARGE", 0)


def head_of(hidden, input=64):
    torch.manual_seed(hidden)
    return rht.RewardHead(input, hidden)


def gradient_of(head, x=X):
    """A step's gradient of W1."""
    head.zero_grad()
    rht.preference_loss(head, x).backward()
    return head.get_parameter(W1).grad


def resident():
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_of_a_gradient_serves_again_and_nothing_else_is_kept():
    x = torch.randn(4, 4096)
    sizes = [2048, 2560, 3072, 2048]  # of 32 MB, which is large, to 48
    heads = [head_of(hidden, 4096) for hidden in sizes]
    before = resident()
    for head in heads:
        addresses = set()
        for _ in range(3):
            gradient = gradient_of(head, x)
            assert gradient.nbytes >= _core.LARGE and gradient.data_ptr() % 64 == 0
            addresses.add(gradient.data_ptr())
            del gradient
        assert len(addresses) == 1
        head.zero_grad()
        assert resident() - before < 70 * MEGABYTE  # of the latest alone, and what steps need beside it
    assert resident() - before > 24 * MEGABYTE


def test_a_gradient_below_is_pytorchs_own():
    gradient = gradient_of(head_of(2047, 4096), torch.randn(4, 4096))
    assert gradient.nbytes < _core.LARGE and gradient.untyped_storage().resizable()


def test_the_gradients_are_the_same(monkeypatch):
    torch.manual_seed(0)
    head, x = head_of(2048, 4096), torch.randn(20, 4096)
    found = []
    for large in (_core.LARGE, 1 << 60):
        monkeypatch.setattr(_core, "LARGE", large)
        found.append([gradient_of(head, x).clone(), *torch.autograd.grad(head(x).sum(), list(head.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("user", [torch.Tensor.detach, torch.t, torch.Tensor.numpy, torch.Tensor.untyped_storage])
def test_memory_in_use_serves_nobody_else(user):
    head, other = head_of(37), head_of(37)
    gradient = gradient_of(head)
    expected, address, used = gradient.clone(), gradient.data_ptr(), user(gradient)
    del gradient
    head.zero_grad()
    for _ in range(3):
        assert gradient_of(other).fill_(7).data_ptr() != address
    if isinstance(used, torch.UntypedStorage):
        used = torch.empty(0).set_(used, 0, expected.shape)
    assert torch.equal(torch.as_tensor(used), user(expected) if user is torch.t else expected)


@pytest.mark.usefixtures("every_size")
def test_memory_in_a_graph_serves_nobody_else():
    head, other = head_of(37), head_of(37)
    loss = rht.preference_loss(head, X)
    (expected,) = torch.autograd.grad(loss, head.get_parameter(W1), retain_graph=True)
    for _ in range(3):
        gradient_of(other).fill_(7)
    assert torch.equal(torch.autograd.grad(loss, head.get_parameter(W1))[0], expected)


@pytest.mark.usefixtures("every_size")
def test_it_is_a_tensor_as_all_others():
    head = head_of(37)
    gradient = gradient_of(head)
    expected, address = gradient.clone(), gradient.data_ptr()
    file = io.BytesIO()
    torch.save(gradient, file)
    file.seek(0)
    assert torch.equal(torch.load(file), expected) and torch.equal(copy.deepcopy(gradient), expected)
    torch.nn.utils.clip_grad_norm_(head.parameters(), 1e-3)
    assert gradient.data_ptr() == address and 0 < gradient.norm() <= 1e-3
    head.zero_grad(set_to_none=False)
    rht.preference_loss(head, X).backward()
    rht.preference_loss(head, X).backward()
    assert gradient.data_ptr() == address
    torch_test.close(gradient, 2 * expected)
    gradient.share_memory_()
    assert gradient.is_shared() and gradient.data_ptr() != address
    torch_test.close(gradient, 2 * expected)
    assert torch.equal(gradient_of(head), expected)
    with pytest.raises(RuntimeError, match="not resizable"):
        gradient_of(head).resize_(1000, 1000)


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("name", ["loss_gradients", "head_backward"])
def test_opcheck(name):
    for sample, arguments in torch_test.samples():
        if sample == name:
            torch.library.opcheck(getattr(torch.ops.rewardhead, name).default, arguments)


@pytest.mark.usefixtures("every_size")
def test_every_way_of_a_training_stack():
    torch_test.test_compiled_without_graph_break(37, 23, 19)
    torch_test.test_accumulation_retain_graph_and_global_normalizer(37)
    torch_test.test_gradients_of_a_backward_are_nobody_elses(37)
    torch_test.test_double_backward_is_refused()
    torch_test.test_empty_batch()
    torch_test.test_a_module_cast_to_bfloat16(37)
    torch_test.test_wrong_heads()


@pytest.mark.usefixtures("every_size")
def test_threads():
    heads = [head_of(hidden) for hidden in (37, 37, 38)]
    expected = [gradient_of(head).clone() for head in heads]
    right = []

    def train(head, gradient):
        right.append(all(torch.equal(gradient_of(head), gradient) for _ in range(200)))

    threads = [threading.Thread(target=train, args=pair) for pair in zip(heads, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * len(heads)


@pytest.mark.usefixtures("every_size")
def test_a_fork():
    head = head_of(37)
    gradient_of(head_of(37))  # is kept when the child begins
    gradient = gradient_of(head)
    expected = gradient.clone()
    child = os.fork()
    if child == 0:
        gradient.fill_(7)
        os._exit(0 if torch.equal(gradient_of(head), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0 and torch.equal(gradient, expected)
