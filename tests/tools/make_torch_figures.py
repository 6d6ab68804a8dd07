# SPDX-License-Identifier: Apache-2.0
"""Writes tests/kernels/torch_figures.h: what PyTorch computes on data that C++ can make again.

    python tests/tools/make_torch_figures.py > tests/kernels/torch_figures.h
"""
import platform

import numpy as np
import torch
from torch.nn import functional as F


class Generator:
    """Knuth's MMIX linear congruential generator; its 24 high bits as a fraction in [-1, 1)."""

    def __init__(self, seed):
        self.state = seed

    def __call__(self, *shape):
        values = np.empty(int(np.prod(shape)))
        for i in range(values.size):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
            values[i] = (self.state >> 40) / 2**23 - 1
        return torch.tensor(values.reshape(shape))  # float64, each exact in float32


def head(x, w1, b1, w2, b2):
    return F.linear(F.relu(F.linear(x, w1, b1)), w2[None], b2)[:, 0]


def loss(rewards, chosen, rejected, margin, weight, label, normalizer):
    d = rewards[chosen] - rewards[rejected] - margin
    return (weight * (label * F.softplus(-d) + (1 - label) * F.softplus(d))).sum() / normalizer


def array(name, values):
    values = ", ".join(float(v).hex() for v in values.detach().reshape(-1))
    print(f"inline constexpr double {name}[] = {{{values}}};")


def small_case():
    g = Generator(1)
    rows, inputs, hidden, pairs = 6, 5, 4, 7
    x, w1, b1, w2, b2 = (g(rows, inputs), g(hidden, inputs), g(hidden), g(hidden), g(1))
    margin, weight, label = g(pairs), g(pairs) + 1, g(pairs) / 2 + 0.5
    leaves = [t.requires_grad_() for t in (x, w1, b1, w2, b2)]
    chosen = torch.tensor([0, 1, 2, 3, 4, 5, 0])
    rejected = torch.tensor([1, 2, 0, 0, 5, 1, 4])
    rewards = head(*leaves)
    rewards.retain_grad()
    value = loss(rewards, chosen, rejected, margin, weight, label, 3.5)
    value.backward()
    print("\n// rows 6, input 5, hidden 4; X, W1, b1, w2, b2, margin, weight - 1, 2 label - 1 drawn in this order from")
    print("// seed 1; pairs (0, 1) (1, 2) (2, 0) (3, 0) (4, 5) (5, 1) (0, 4); normalizer 3.5; float64 throughout.")
    array("kRewards", rewards)
    array("kLoss", value)
    array("kRewardGradient", rewards.grad)
    for name, leaf in zip(("kDx", "kDw1", "kDb1", "kDw2", "kDb2"), leaves):
        array(name, leaf.grad)


def adamw_case():
    g = Generator(2)
    parameter, gradient, first, second = g(8), g(8), g(8) / 8, (g(8) + 1) / 64
    leaf = parameter.clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], lr=0.25, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.125)
    leaf.grad = gradient
    optimizer.state[leaf] = {"step": torch.tensor(2.0), "exp_avg": first, "exp_avg_sq": second}
    optimizer.step()
    print("\n// Step 3 of torch.optim.AdamW on 8 elements: parameter, gradient, 8 first moment, 64 second moment - 1 drawn")
    print("// in this order from seed 2; lr 0.25, betas 0.9 and 0.99, eps 1e-3, weight decay 0.125; float64 throughout.")
    array("kAdamwParameter", leaf)
    array("kAdamwFirst", first)
    array("kAdamwSecond", second)


def relative(value, exact):
    return float((value.double() - exact).norm() / exact.norm())


def error_case(seed, rows, inputs, hidden):
    g = Generator(seed)
    x, w1 = g(rows, inputs), g(max(hidden, 1), inputs)
    b1, w2, b2, dr = g(hidden), g(hidden), g(1 if hidden else 0), g(rows)
    results = []
    for dtype in (torch.float64, torch.float32):
        leaves = [t.clone().to(dtype).requires_grad_() for t in (x, w1, b1, w2, b2)]
        rewards = head(*leaves) if hidden else F.linear(leaves[0], leaves[1])[:, 0]
        rewards.backward(dr.to(dtype))
        gradients = [leaves[i].grad for i in ((1, 2, 3, 0) if hidden else (1, 0))]
        results.append([rewards.detach(), *gradients])
    errors = [f"{relative(single, double):.3e}" for double, single in zip(*results)]
    if not hidden:
        errors[2:2] = ["0", "0"]
    print(f"    {{{seed}, {rows}, {inputs}, {hidden}, {{{', '.join(errors)}}}}},")


def main():
    torch.set_num_threads(1)
    with open("/proc/cpuinfo") as cpuinfo:
        processor = next(line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name"))
    print(f"""// SPDX-License-Identifier: Apache-2.0
//
// Written by tests/tools/make_torch_figures.py with PyTorch {torch.__version__} on {platform.machine()}, {processor},
// {torch.backends.cpu.get_cpu_capability()}, one thread. The generator is Knuth's MMIX linear congruential one; a
// draw is its 24 high bits / 2^23 - 1.
// clang-format off
#pragma once

#include <cstdint>

namespace rewardhead::kernels::testing::torch_figures {{""")
    small_case()
    adamw_case()
    print("""
// What PyTorch's float32 differs from its float64 on the same data: norm of the difference / norm of the float64
// result. X, W1, b1, w2, b2 and dr drawn in this order; hidden 0 is the linear head, without b1, w2 and b2.
struct Errors {
  uint64_t seed;
  int64_t rows, input, hidden;
  struct {
    double rewards, dw1, db1, dw2, dx;
  } error;
};
inline constexpr Errors kErrors[] = {""")
    error_case(11, 1052, 384, 256)
    error_case(12, 300, 1024, 64)
    error_case(13, 64, 768, 512)
    error_case(14, 3000, 32, 16)
    error_case(15, 64, 4096, 32)
    error_case(16, 1052, 384, 0)
    error_case(17, 8000, 40, 0)
    error_case(18, 50, 4096, 0)
    print("};\n\n}  // namespace rewardhead::kernels::testing::torch_figures")


main()
