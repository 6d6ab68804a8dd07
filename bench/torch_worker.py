# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the report, in one process, so that it starts once and compiled functions stay.

A request is a line of JSON on stdin, its answer a line on stdout:

  {"workload": NAME, "threads": [1, 2], "compiled": true, "repetitions": 5, "seconds": 0.01}
  {"seconds": {"1": {"PyTorch eager": 0.0012, ...}, "2": {...}}, "failed": {"PyTorch compiled": "why"}}

Each time is the least of `repetitions` means over calls that together take `seconds`, as bench_kernels takes them, and
all variants and thread counts of a request are measured in turns. What is made before the timed call: data, parameters,
gathered rows. The forms are those that a competent user writes; where there are several, each is a variant with a name.
"""

import contextlib
import json
import math
import statistics
import sys
import time

import torch
from torch.nn.functional import linear, softplus

from workload import Workload

WARM_SECONDS = 0.002  # before each mean, as bench_kernels does


def normal(*shape):
    """Standard normal values: a block of them over and over, because 384 million draws take seconds."""
    block = torch.randn(1_048_573)
    count = math.prod(shape)
    return block.repeat(-(-count // block.numel()))[:count].view(shape)


def pair_loss(difference):
    return softplus(-difference).mean()


def adjacent_loss(rewards):
    both = rewards.view(-1, 2)
    return pair_loss(both[:, 0] - both[:, 1])


def make_head(workload, dtype=torch.float32):
    if workload.hidden == 0:
        return torch.nn.Linear(workload.input, 1, bias=False, dtype=dtype)
    head = torch.nn.Sequential(
        torch.nn.Linear(workload.input, workload.hidden, dtype=dtype),
        torch.nn.ReLU(),
        torch.nn.Linear(workload.hidden, 1, dtype=dtype),
    )
    if workload.density:  # z - b1 is normal with variance 1/3
        share_active = statistics.NormalDist().inv_cdf(workload.density / 100)
        torch.nn.init.constant_(head[0].bias, share_active / math.sqrt(3))
    return head


def make_pairs(workload):
    chosen = torch.randint(workload.rows, (workload.pairs,))
    return chosen, (chosen + torch.randint(1, workload.rows, (workload.pairs,))) % workload.rows


class Ensemble(torch.nn.Module):
    """Heads over the same X, their rewards as [members, rows]."""

    def __init__(self, workload):
        super().__init__()
        heads = [make_head(workload) for _ in range(workload.members)]

        def stacked(tensors):
            return torch.nn.Parameter(torch.stack([tensor.detach() for tensor in tensors]))

        self.w1 = stacked(head[0].weight for head in heads)  # [members, hidden, input]
        self.b1 = stacked(head[0].bias for head in heads)
        self.w2 = stacked(head[2].weight[0] for head in heads)
        self.b2 = stacked(head[2].bias for head in heads)  # [members, 1]


class BatchedEnsemble(Ensemble):
    def forward(self, x):
        batch = x.expand(self.w1.shape[0], *x.shape)
        hidden = torch.baddbmm(self.b1.unsqueeze(1), batch, self.w1.transpose(1, 2)).relu()
        return torch.bmm(hidden, self.w2.unsqueeze(2)).squeeze(2) + self.b2


class WideEnsemble(Ensemble):
    def forward(self, x):
        members, hidden, _ = self.w1.shape
        z = linear(x, self.w1.flatten(0, 1), self.b1.flatten()).relu()
        return torch.einsum("rmh,mh->mr", z.view(-1, members, hidden), self.w2) + self.b2


class Upcast(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head(x.float())


def scorers(workload):
    """{variant: (head, x)}: the ways to score these rows."""
    if workload.members > 1:
        x = normal(workload.rows, workload.input)
        return {"bmm": (BatchedEnsemble(workload), x), "one Linear": (WideEnsemble(workload), x)}
    x = normal(workload.rows, workload.input)
    if workload.dtype == "bf16":
        x = x.bfloat16()
        return {"upcast": (Upcast(make_head(workload)), x), "bf16 module": (make_head(workload, torch.bfloat16), x)}
    return {"": (make_head(workload), x)}


def losses(workload):
    """{variant: (function of x, head, x)}: the ways to a loss."""
    if workload.members > 1:  # each member's loss is the mean over pairs; their sum trains them all
        return {
            variant: (lambda x, head=head: adjacent_loss(head(x)) * workload.members, head, x)
            for variant, (head, x) in scorers(workload).items()
        }
    if workload.adjacent:
        return {
            variant: (lambda x, head=head: adjacent_loss(head(x).float()), head, x)
            for variant, (head, x) in scorers(workload).items()
        }
    chosen, rejected = make_pairs(workload)

    def indexed(x, head):
        rewards = head(x).squeeze(-1)
        return pair_loss(rewards[chosen] - rewards[rejected])

    def concatenated(x, head):
        both = head(x).view(2, -1)
        return pair_loss(both[0] - both[1])

    found = {}
    for variant, (head, x) in scorers(workload).items():
        rows = torch.cat([x[chosen], x[rejected]])
        name = f"{variant}, " if variant else ""
        found[f"{name}indexed rows"] = (lambda x, head=head: indexed(x, head), head, x)
        found[f"{name}concatenated rows"] = (lambda x, head=head: concatenated(x, head), head, rows)
    return found


def forward_calls(workload, compiled):
    def make(head, x):
        @torch.inference_mode()
        def call():
            return head(x)

        return call

    return {
        variant: make(torch.compile(head) if compiled else head, x)
        for variant, (head, x) in scorers(workload).items()
    }


def step_calls(workload, compiled):
    input_gradient = workload.operation == "step_dx"

    def make(loss, head, x):
        x.requires_grad_(input_gradient)

        def call():
            head.zero_grad(set_to_none=True)
            x.grad = None
            loss(x).backward()

        return call

    return {
        variant: make(torch.compile(loss) if compiled else loss, head, x)
        for variant, (loss, head, x) in losses(workload).items()
    }


def backward_calls(workload):
    def make(head, x):
        rewards = head(x)
        parameters, gradient = list(head.parameters()), torch.randn_like(rewards)
        return lambda: torch.autograd.grad(rewards, parameters, gradient, retain_graph=True)

    return {variant: make(head, x) for variant, (head, x) in scorers(workload).items()}


def pair_loss_calls(workload):
    rewards = torch.randn(workload.rows, requires_grad=True)
    chosen, rejected = (None, None) if workload.adjacent else make_pairs(workload)

    def call():
        rewards.grad = None
        if workload.adjacent:
            adjacent_loss(rewards).backward()
        else:
            pair_loss(rewards[chosen] - rewards[rejected]).backward()

    return {"": call}


def adamw_calls(workload):
    def make(**options):
        head = make_head(workload)
        for parameter in head.parameters():
            parameter.grad = 0.01 * torch.randn_like(parameter)
        return torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01, **options).step

    return {"fused": make(fused=True), "foreach": make(foreach=True)}


def make_calls(workload, compiled):
    """{variant: function}; compiled is for the step and the forward only."""
    torch.manual_seed(0)
    if workload.operation == "forward":
        return forward_calls(workload, compiled)
    if workload.operation in ("step", "step_dx"):
        return step_calls(workload, compiled)
    if compiled:
        return {}
    others = {"backward": backward_calls, "pair_loss": pair_loss_calls, "adamw": adamw_calls}
    return others[workload.operation](workload)


def mean_seconds(call, calls):
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


class Candidate:
    """One variant at one number of threads."""

    def __init__(self, call, threads):
        self.call, self.threads, self.calls, self.best = call, threads, 1, math.inf
        torch.set_num_threads(threads)
        call()  # compiles, if it is compiled

    def measure(self, seconds):
        torch.set_num_threads(self.threads)
        end = time.perf_counter() + WARM_SECONDS
        mean = mean_seconds(self.call, 1)
        while time.perf_counter() < end:
            mean = min(mean, mean_seconds(self.call, 1))
        self.best = min(self.best, mean_seconds(self.call, max(1, round(seconds / mean))))


class Session:
    """The candidates of the latest workload, kept for its next turn."""

    def __init__(self):
        self.key, self.candidates, self.failed = None, {}, {}

    def prepare(self, workload, threads, compiled):
        key = (workload.name, tuple(threads), compiled)
        if key == self.key:
            return
        self.key, self.candidates, self.failed = key, {}, {}
        torch.compiler.reset()  # else it gives up compiling after several functions of one source line
        for kind in ("eager", "compiled") if compiled else ("eager",):
            for variant, call in make_calls(workload, kind == "compiled").items():
                name = f"PyTorch {kind}" + (f", {variant}" if variant else "")
                for count in threads:
                    try:
                        self.candidates[name, count] = Candidate(call, count)
                    except Exception as error:  # whatever a compiler may throw: the others are still worth measuring
                        self.failed[name] = str(error).strip().split("\n")[0]

    def answer(self, request):
        self.prepare(Workload.parse(request["workload"]), request["threads"], request["compiled"])
        for candidate in self.candidates.values():
            candidate.best = math.inf
        for _ in range(request["repetitions"]):
            for candidate in self.candidates.values():
                candidate.measure(request["seconds"])
        seconds = {}
        for (name, threads), candidate in self.candidates.items():
            seconds.setdefault(str(threads), {})[name] = candidate.best
        return {"seconds": seconds, "failed": self.failed}


def main():
    session = Session()
    # Whatever libraries print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"version": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(session.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
