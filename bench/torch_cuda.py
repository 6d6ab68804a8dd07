#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of bench_cuda, on a GPU: eager, compiled, and each of them captured in a CUDA graph.

usage: torch_cuda.py BENCH_CUDA.json OUT.json

Measures the workloads of BENCH_CUDA.json (what `bench_cuda --benchmark_out=` wrote) in the forms of torch_worker.py,
prints a table beside its best times, and writes OUT.json in the same format, with names
WORKLOAD/by:torch eager|torch compiled[, VARIANT]/data:cold|warm/launch:stream|graph. Cold: eager calls in turn on
copies of all data that together are four times the L2 cache. Without a GPU that PyTorch can use: one line and exit
code 77.
"""

import itertools
import json
import math
import sys

from results import SECONDS_OF_UNIT
from workload import Workload

CALLS = 16  # at least, between two events
MEANS = 5  # of which the least counts
MOST_COPIES = 32
LEFT_OUT = 77


def leave_out(reason):
    print(f"torch_cuda.py: left out: {reason}", file=sys.stderr)
    sys.exit(LEFT_OUT)


def training_calls(torch, torch_worker, workload, compiled):
    """The whole step: torch_worker's, and AdamW on its gradients."""

    def make(loss, head, x):
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01, fused=True, capturable=True)
        step = torch.compile(loss) if compiled else loss

        def call():
            optimizer.zero_grad(set_to_none=True)
            step(x).backward()
            optimizer.step()

        return call

    return {variant: make(*form) for variant, form in torch_worker.losses(workload).items()}


def backward_dx_calls(torch, torch_worker, workload):
    def make(head, x):
        x.requires_grad_()
        rewards = head(x)
        wanted, gradient = [*head.parameters(), x], torch.randn_like(rewards)
        return lambda: torch.autograd.grad(rewards, wanted, gradient, retain_graph=True)

    return {variant: make(head, x) for variant, (head, x) in torch_worker.scorers(workload).items()}


def make_calls(torch, torch_worker, workload, compiled):
    """{variant: function}, as torch_worker.make_calls, with the operations that only bench_cuda has."""
    torch.manual_seed(0)
    if workload.operation == "train":
        return training_calls(torch, torch_worker, workload, compiled)
    if workload.operation in ("backward_dx", "adamw") and not compiled:
        make = backward_dx_calls if workload.operation == "backward_dx" else adamw_calls
        return make(torch, torch_worker, workload)
    if workload.operation == "backward_dx":
        return {}
    return torch_worker.make_calls(workload, compiled)


def adamw_calls(torch, torch_worker, workload):
    head = torch_worker.make_head(workload)
    for parameter in head.parameters():
        parameter.grad = 0.01 * torch.randn_like(parameter)
    return {"fused": torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01, fused=True, capturable=True).step}


def in_turn(calls):
    def run():
        for call in calls:
            call()

    return run


def captured(torch, calls):
    """A function that replays these calls."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            in_turn(calls)()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        in_turn(calls)()
    return graph.replay


def seconds_of(torch, run, calls):
    """The least of several means."""
    best = math.inf
    run()
    for _ in range(MEANS):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        best = min(best, 1e-3 * start.elapsed_time(stop) / calls)
    return best


def measure(torch, torch_worker, workload):
    """Yields (who, data, launch, seconds or None, why not)."""
    torch.compiler.reset()
    cold_bytes = 4 * torch.cuda.get_device_properties(0).L2_cache_size
    for kind in ("eager", "compiled"):
        before = torch.cuda.memory_allocated()
        try:
            forms = make_calls(torch, torch_worker, workload, kind == "compiled")
        except Exception as error:  # as in torch_worker: the others are still worth measuring
            yield f"torch {kind}", "warm", "stream", None, str(error).strip().split("\n")[0]
            continue
        size = max(1, torch.cuda.memory_allocated() - before)
        fit = torch.cuda.mem_get_info()[0] // 4 // size
        copies = min(cold_bytes // size + 2, max(1, fit), MOST_COPIES) if kind == "eager" else 1
        others = [make_calls(torch, torch_worker, workload, False) for _ in range(copies - 1)]
        for variant, call in forms.items():
            who = f"torch {kind}" + (f", {variant}" if variant else "")
            data = {"warm": [call]}
            if kind == "eager":
                data["cold"] = [call] + [other[variant] for other in others]
            for temperature, distinct in data.items():
                turn = list(itertools.islice(itertools.cycle(distinct), -(-CALLS // len(distinct)) * len(distinct)))
                for launch in ("stream", "graph"):
                    try:
                        run = captured(torch, turn) if launch == "graph" else in_turn(turn)
                        yield who, temperature, launch, seconds_of(torch, run, len(turn)), None
                    except Exception as error:
                        torch.cuda.synchronize()
                        yield who, temperature, launch, None, str(error).strip().split("\n")[0]


def best_of_ours(benchmarks):
    """{(workload, data, launch): seconds} of the faster of our kernels, and the workloads in their order."""
    best, names = {}, []
    for entry in benchmarks:
        name, _, rest = entry["name"].partition("/by:")
        who, *conditions = rest.split("/")
        if entry.get("error_occurred") or entry.get("run_type") != "iteration":
            continue
        names += [name] if name not in names else []
        data, launch = (condition.partition(":")[2] for condition in conditions[:2])
        if who != "cublaslt":
            seconds = entry["real_time"] * SECONDS_OF_UNIT[entry["time_unit"]]
            best[name, data, launch] = min(seconds, best.get((name, data, launch), math.inf))
    return best, names


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: torch_cuda.py BENCH_CUDA.json OUT.json")
    try:
        import torch
    except ImportError:
        leave_out("PyTorch is not installed")
    if not torch.cuda.is_available():
        leave_out(f"PyTorch {torch.__version__} finds no GPU that it can use")
    import torch_worker

    torch.set_default_device("cuda")
    with open(sys.argv[1]) as file:
        ours, names = best_of_ours(json.load(file)["benchmarks"])
    entries = []
    print(f"{'us':>84}{'PyTorch':>10}{'ours':>10}{'ratio':>7}")
    for name in names:
        for who, data, launch, seconds, why_not in measure(torch, torch_worker, Workload.parse(name)):
            entry = {"name": f"{name}/by:{who}/data:{data}/launch:{launch}", "run_type": "iteration"}
            if why_not is not None:
                entries.append(entry | {"error_occurred": True, "error_message": why_not})
                print(f"{name}\n  {who}, {data}, {launch}: {why_not}")
                continue
            entries.append(entry | {"real_time": 1e6 * seconds, "time_unit": "us"})
            best = ours.get((name, data, launch))
            beside = f"{1e6 * best:10.1f}{seconds / best:7.2f}" if best else ""
            print(f"{name}\n{f'  {who}, {data}, {launch}':84}{1e6 * seconds:10.1f}{beside}", flush=True)
        torch.cuda.empty_cache()
    context = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    with open(sys.argv[2], "w") as file:
        json.dump({"context": context, "benchmarks": entries}, file, indent=1)


if __name__ == "__main__":
    main()
