# SPDX-License-Identifier: Apache-2.0
"""rewardhead.torch beside PyTorch, eager and compiled, all in one process and in turns:

    python3 bench/torch_peers.py [--quick]

The peer pools first, as we do: pooled rows, F.linear, logsigmoid; rows that several pairs name are scored once. A time
is the least of several means. Prints a table and writes bench/results/torch_peers.json, rows as those of latest.json.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import torch
from torch.nn.functional import linear, logsigmoid

import rewardhead
import rewardhead.torch as rht

# name: work, rows, input, hidden, pairs (0: adjacent rows), dtype of x
FULL = {
    "score, small": ("score", 8, 384, 256, 0, torch.float32),
    "score, linear": ("score", 64, 4096, 0, 0, torch.float32),
    "score": ("score", 512, 1024, 256, 0, torch.float32),
    "score, bf16": ("score", 512, 1024, 256, 0, torch.bfloat16),
    "step, 4 rows": ("step", 4, 384, 256, 0, torch.float32),
    "step, 32 rows": ("step", 32, 1024, 256, 0, torch.float32),
    "step": ("step", 512, 1024, 256, 0, torch.float32),
    "step, wide": ("step", 256, 4096, 1024, 0, torch.float32),
    "step with dX": ("step+dx", 256, 1024, 256, 0, torch.float32),
    "step, bf16": ("step", 512, 1024, 256, 0, torch.bfloat16),
    "step, linear": ("step", 1024, 4096, 0, 0, torch.float32),
    "step, linear, bf16": ("step", 1024, 4096, 0, 0, torch.bfloat16),
    "step, rows named often": ("step", 1052, 384, 256, 11650, torch.float32),
    "adamw": ("adamw", 1, 4096, 1024, 0, torch.float32),
    "adamw, small": ("adamw", 1, 384, 256, 0, torch.float32),
}
QUICK = ["score, small", "score", "step, 4 rows", "step", "step, linear", "step, rows named often", "adamw, small"]


class PeerHead(torch.nn.Module):
    """What one would write: the same parameters, F.linear and relu. bf16 input is widened, as we compute in fp32."""

    def __init__(self, head):
        super().__init__()
        self.tensors = torch.nn.ParameterList(
            [torch.nn.Parameter(t.detach().clone()) for t in head._tensors() if t is not None]
        )

    def forward(self, x):
        x = x.float()
        if len(self.tensors) == 1:
            return linear(x, self.tensors[0])[:, 0]
        w1, b1, w2, b2 = self.tensors
        return linear(linear(x, w1, b1).relu(), w2, b2)[:, 0]


def peer_loss(head, x, chosen, rejected):
    r = head(x)
    if chosen is None:
        r = r.view(-1, 2)
        return -logsigmoid(r[:, 0] - r[:, 1]).mean()
    return -logsigmoid(r[chosen] - r[rejected]).mean()


def variants(work, rows, input, hidden, pairs, dtype):
    """{who: a function to be timed}. All of them compute the same on the same data, which is checked."""
    torch.manual_seed(0)
    head = rht.RewardHead(input, hidden)
    peer = PeerHead(head)
    x = torch.randn(rows, input).to(dtype)
    chosen = rejected = None
    if pairs:
        chosen = torch.randint(rows, (pairs,))
        rejected = (chosen + torch.randint(1, rows, (pairs,))) % rows
    if work == "score":
        compiled = torch.compile(peer)
        calls = {"rewardhead": lambda: head(x), "eager": lambda: peer(x), "compiled": lambda: compiled(x)}
        check(calls)
        return calls
    if work == "adamw":
        for module in (head, peer):
            for parameter in module.parameters():
                parameter.grad = torch.randn_like(parameter)
        ours = rht.AdamW(head.parameters())
        fused = torch.optim.AdamW(peer.parameters(), fused=True)
        other = torch.optim.AdamW(PeerHead(head).parameters())
        for parameter in other.param_groups[0]["params"]:
            parameter.grad = torch.randn_like(parameter)
        return {"rewardhead": ours.step, "fused": fused.step, "eager": other.step}

    x.requires_grad_(work == "step+dx")
    compiled = torch.compile(peer_loss)

    def step(module, loss):
        def call():
            for tensor in (x, *module.parameters()):
                tensor.grad = None
            value = loss(module, x, chosen, rejected)
            value.backward()
            return value

        return call

    calls = {
        "rewardhead": step(head, rht.preference_loss),
        "eager": step(peer, peer_loss),
        "compiled": step(peer, compiled),
    }
    check(calls)
    return calls


def check(calls):
    results = [call().detach() for call in calls.values()]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-3, atol=1e-4)


def measure(calls, seconds, turns):
    """{who: the least mean time}, each mean over calls that together take about `seconds`."""
    best = dict.fromkeys(calls, float("inf"))
    counts = {}
    for who, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        counts[who] = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    for _ in range(turns):
        for who, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(counts[who]):
                call()
            best[who] = min(best[who], (time.perf_counter() - start) / counts[who])
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a subset")
    quick = parser.parse_args().quick
    torch._dynamo.config.recompile_limit = 64  # one function, many shapes
    results = []
    print(f"{'':24} threads  ours, us   best peer, us   ratio")
    for name in QUICK if quick else FULL:
        work, rows, input, hidden, pairs, dtype = FULL[name]
        for threads in sorted({1, os.cpu_count()}):
            torch.set_num_threads(threads)
            torch.compiler.reset()
            with torch.set_grad_enabled(work != "score"):
                times = measure(variants(*FULL[name]), 0.02, 5 if quick else 9)
            ours = times.pop("rewardhead")
            peer = min(times, key=times.get)
            ratio = times[peer] / ours
            print(f"{name:24} {threads:7} {ours * 1e6:9.1f} {times[peer] * 1e6:9.1f} {peer:8} {ratio:4.2f}", flush=True)
            results.append(
                {
                    "name": name,
                    "shape": {"rows": rows, "input": input, "hidden": hidden, "pairs": pairs or rows // 2},
                    "dtype": "bf16" if dtype == torch.bfloat16 else "f32",
                    "threads": threads,
                    "seconds": ours,
                    "peer": f"PyTorch {peer}",
                    "peer_seconds": times[peer],
                    "ratio": ratio,
                }
            )
    slower = [r for r in results if r["ratio"] < 1]
    print(f"\nSlower than a peer: {len(slower)} of {len(results)}")
    folder = pathlib.Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    machine = {"software": {"rewardhead": rewardhead.__version__, "PyTorch": torch.__version__}}
    (folder / "torch_peers.json").write_text(json.dumps({"machine": machine, "rows": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
