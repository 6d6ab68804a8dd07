# SPDX-License-Identifier: Apache-2.0
"""rewardhead.torch beside PyTorch, eager and compiled, all in one process and in turns:

    python3 bench/torch_peers.py build/release/bench/bench_kernels [--quick] [--seconds S]

The workloads are those of bench_kernels but for the ensemble and the backward alone, the forms of PyTorch and what is
timed those of bench/README.md (`torch_worker.py` has the peers): the rows are pooled already, then F.linear and
softplus, and a row that several pairs name is scored once. Before anything is timed, rewards, loss, gradients and
updated parameters are compared with each peer's. Prints one table and the targets, and writes
bench/results/torch_peers.json, whose rows are as those of latest.json, for compare.py; `c_seconds` is the C interface's
call on the same data, called from Python.
"""

import argparse
import copy
import datetime
import json
import os
import pathlib
import sys
import time

import torch

import rewardhead
import rewardhead.torch as rht
import targets
import torch_worker
from report import QUICK, busy_seconds, own_seconds, print_table, processor
from results import Measurement, counted, row
from rewardhead import _core
from rewardhead.torch import _ops
from schedule import BUILD, FOLDER, SECONDS, BenchKernels, Clock, say
from workload import Workload, expected_seconds

RESULTS = FOLDER / "results"
FULL_SECONDS, QUICK_SECONDS = 120, 30
LARGE = 1e-3  # seconds; above, the C interface's call must be 0.9 of a step, below, scoring is compared with it
SCORING_OVERHEAD = 10e-6  # seconds of a call of the head, above the extension's, which makes the plan
SPINNING = 0.02  # seconds after which PyTorch's threads sleep (8 ms, of libgomp); until then they take a processor
HOPELESS = 3  # a form that takes so many times the best peer's time has one turn
OPERATIONS = ("forward", "step", "step_dx", "pair_loss", "adamw")

# ---- ours, and whether it computes what a peer does ----


def our_head(workload, peer):
    """A RewardHead with the parameters of a peer's head."""
    head = rht.RewardHead(workload.input, workload.hidden)
    with torch.no_grad():
        for ours, theirs in zip(head.parameters(), peer.parameters(), strict=True):
            ours.copy_(theirs)
    return head


def agree(workload, variant, what, ours, theirs, floor=0.0):
    """To rounding, of a bf16 module that of bf16; relative to the largest element or to `floor`, if that is more."""
    ours, theirs = ours.detach().double(), theirs.detach().double().view(ours.shape)
    tolerance = 0.1 if "bf16 module" in variant else 1e-4
    scale = max(theirs.abs().max().item(), floor)
    difference = (ours - theirs).abs().max().item()
    if not difference <= tolerance * scale + 1e-7:
        raise RuntimeError(
            f"{workload.name}: {what} differs from PyTorch's ({variant or 'eager'}) by {difference:.3g}, of {scale:.3g}"
        )


def is_measured(variant):
    """Concatenated rows, a multiple of ours, are left to bench_kernels."""
    return "concatenated" not in variant


def pairs_in_c(workload, chosen, rejected):
    """What the extension takes, and the arrays that must outlive it."""
    if chosen is None:
        return (0, 0, 0, workload.pairs, 0, 0, 0), ()
    narrow = chosen.int(), rejected.int()
    return (narrow[0].data_ptr(), narrow[1].data_ptr(), 4, workload.pairs, 0, 0, 0), narrow


def checked_step(workload):
    chosen = rejected = None
    if not workload.adjacent:
        chosen, rejected = torch_worker.make_pairs(workload)
        torch.manual_seed(0)  # so that the peers draw the same ones
    for variant, (loss, peer, x) in torch_worker.losses(workload).items():
        if not is_measured(variant):
            continue
        x = x.detach().requires_grad_(workload.operation == "step_dx")
        head, ours_x = our_head(workload, peer), x.detach().clone().requires_grad_(x.requires_grad)
        call, theirs = step_of(head, ours_x, chosen, rejected), loss(x)
        agree(workload, variant, "loss", call(), theirs)
        theirs.backward()
        pairs = list(zip(head.parameters(), peer.parameters(), strict=True))
        if x.requires_grad:
            agree(workload, variant, "dX", ours_x.grad, x.grad)
        floor = 0.01 * max(theirs.grad.abs().max().item() for _, theirs in pairs)  # db2 is 0 but for rounding
        for ours, theirs in pairs:
            agree(workload, variant, "a gradient", ours.grad, theirs.grad, floor)
    return call, step_in_c(workload, head, ours_x, chosen, rejected)


def step_of(head, x, chosen, rejected):
    def call():
        head.zero_grad(set_to_none=True)
        x.grad = None
        loss = rht.preference_loss(head, x, chosen, rejected)
        loss.backward()
        return loss

    return call


def step_in_c(workload, head, x, chosen, rejected):
    x, tensors = x.detach(), head._tensors()
    gradients = [torch.empty_like(parameter) for parameter in head.parameters()]
    dx = torch.empty(x.shape) if workload.operation == "step_dx" else None
    loss, (pairs, narrow) = torch.empty(()), pairs_in_c(workload, chosen, rejected)

    def call(kept=narrow):
        _core.loss_gradients(_ops.place(x), x, tensors, pairs, 0.0, loss, gradients, dx)
        return loss

    return call


def checked_forward(workload):
    for variant, (peer, x) in torch_worker.scorers(workload).items():
        head = our_head(workload, peer)
        with torch.no_grad():
            agree(workload, variant, "rewards", head(x), peer(x).squeeze(-1))
    return torch.no_grad()(lambda: head(x)), forward_in_c(head, x)


def forward_in_c(head, x):
    tensors, rewards = head._tensors(), torch.empty(len(x))

    def call():
        _core.head_forward(_ops.place(x), x, tensors, rewards, None)
        return rewards

    return call


def checked_pair_loss(workload):
    rewards = torch.randn(workload.rows, requires_grad=True)
    chosen = rejected = None
    if workload.adjacent:
        expected = torch_worker.adjacent_loss(rewards)
    else:
        chosen, rejected = torch_worker.make_pairs(workload)
        expected = torch_worker.pair_loss(rewards[chosen] - rewards[rejected])
    (expected_gradient,) = torch.autograd.grad(expected, rewards)

    def call():
        rewards.grad = None
        loss = rht.bradley_terry_loss(rewards, chosen, rejected)
        loss.backward()
        return loss

    agree(workload, "", "loss", call(), expected)
    agree(workload, "", "a gradient", rewards.grad, expected_gradient)
    r, loss, gradient = rewards.detach(), torch.empty(()), torch.empty(workload.rows)
    pairs, narrow = pairs_in_c(workload, chosen, rejected)

    def in_c(kept=narrow):
        _core.pair_loss(_ops.place(r), r.data_ptr(), len(r), pairs, 0.0, loss.data_ptr(), gradient.data_ptr())
        return loss

    return call, in_c


def checked_adamw(workload):
    peer = torch_worker.make_head(workload)
    for parameter in peer.parameters():
        parameter.grad = 0.01 * torch.randn_like(parameter)
    head = copy.deepcopy(peer)
    for parameter, other in zip(head.parameters(), peer.parameters(), strict=True):
        parameter.grad = other.grad.clone()
    options = {"lr": 1e-3, "weight_decay": 0.01}
    ours, theirs = rht.AdamW(head.parameters(), **options), torch.optim.AdamW(peer.parameters(), fused=True, **options)
    for _ in range(2):
        ours.step()
        theirs.step()
    for parameter, other in zip(head.parameters(), peer.parameters(), strict=True):
        agree(workload, "fused", "a parameter", parameter, other)
    return ours.step, adamw_in_c(ours)


def adamw_in_c(optimizer):
    updates = [
        (
            parameter.numel(),
            tuple(t.data_ptr() for t in (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])),
            state["step"].data_ptr(),
        )
        for parameter, state in optimizer.state.items()
    ]

    def call(kept=optimizer):
        _core.adamw(_ops.place(torch.empty(0)), updates, 1e-3, 0.9, 0.999, 1e-8, 0.01)

    return call


def ours_of(workload):
    """Ours as a function to be timed, and the C interface's call on the same data; what it computes has been compared
    with every form of the peer."""
    torch.manual_seed(0)
    others = {"forward": checked_forward, "adamw": checked_adamw, "pair_loss": checked_pair_loss}
    return others.get(workload.operation, checked_step)(workload)


# ---- turns ----


class Case:
    """A workload: ours, the C interface and the peers, of each the least time at each number of threads."""

    def __init__(self, workload, threads):
        self.workload = workload
        self.measurements = {count: Measurement(workload, count) for count in threads}
        self.c_seconds = {}
        self.seconds = 0.0  # that the latest turn took, or one is expected to take
        self.is_compiled = False

    def ratio(self):
        return min(row(measurement, {}, 0)["ratio"] for measurement in self.measurements.values())

    def wants_compile(self):
        return not self.is_compiled and self.workload.operation in ("forward", "step", "step_dx")

    def turn(self, rounds, compiled):
        """Everything is made anew, since data of all workloads would take gigabytes, measured, and forgotten."""
        start = time.perf_counter()
        ours, in_c = ours_of(self.workload)
        calls = {"C": in_c, "ours": ours}
        for kind in ("eager", "compiled") if compiled else ("eager",):
            torch.compiler.reset()  # else it gives up compiling after several functions of one source line
            for variant, call in torch_worker.make_calls(self.workload, kind == "compiled").items():
                name = f"PyTorch {kind}" + (f", {variant}" if variant else "")
                if is_measured(variant) and not self.is_hopeless(name):
                    calls[name] = call
        candidates = {
            (count, name): torch_worker.Candidate(call, count)
            for count in self.measurements
            for name, call in calls.items()
        }
        for _ in range(rounds):
            for (count, name), candidate in candidates.items():
                if name == "C":  # after a peer
                    time.sleep(SPINNING)
                candidate.measure(SECONDS)
                self.add(count, name, candidate.best)
        self.is_compiled |= compiled
        self.seconds = time.perf_counter() - start

    def add(self, threads, name, seconds):
        if name == "C":
            self.c_seconds[threads] = min(seconds, self.c_seconds.get(threads, seconds))
        else:
            self.measurements[threads].add(name, seconds)

    def is_hopeless(self, name):
        def is_slow(measured):
            peers = [seconds for who, seconds in measured.items() if who != "ours"]
            return name in measured and measured[name] > HOPELESS * min(peers)

        return all(is_slow(measurement.seconds) for measurement in self.measurements.values())


def run(workloads, threads, clock, left_out):
    """Everything once, what is small first; then again with torch.compile, where we lead by least first."""
    cases, measured = [Case(workload, threads) for workload in sorted(workloads, key=expected_seconds)], []
    for case in cases:
        if clock.left() < 12 * len(threads) * expected_seconds(case.workload):
            break
        case.turn(2, compiled=False)
        measured.append(case)
    if len(measured) < len(cases):
        left_out.append("for time: " + ", ".join(case.workload.name for case in cases[len(measured) :]))
    say(f"[{clock.elapsed():.0f} s] torch.compile ...")
    torch.compile(torch.neg)(torch.zeros(2))  # what takes seconds once
    compiling, too_late = 0.0, []
    for case in sorted(filter(Case.wants_compile, measured), key=Case.ratio):
        if clock.left() < compiling + case.seconds:
            too_late.append(case.workload.name)
            continue
        start, before = clock.elapsed(), case.seconds
        case.turn(1, compiled=True)
        compiling = max(0.0, clock.elapsed() - start - before)
    if too_late:
        left_out.append(f"torch.compile at {len(too_late)} workloads, such as {too_late[0]}, for time (what is "
                        "compiled stays in build/inductor, so that the next run gets further)")
    for case in sorted(measured, key=Case.ratio):
        if case.seconds < clock.left():
            case.turn(2, compiled=False)
    return measured


# ---- overheads ----


def least(call, count=50, repetitions=60):
    call()
    return min(torch_worker.mean_seconds(call, count) for _ in range(repetitions))


def overheads():
    """Seconds on one thread: what a call of the head takes above the extension's (which makes the plan and scores), and
    a step whose kernels have nothing to do, of ours and of eager."""
    torch.set_num_threads(1)
    found = {}
    for input, hidden, rows in ((384, 256, 1), (384, 0, 1), (64, 64, 64)):
        head, x = rht.RewardHead(input, hidden), torch.randn(rows, input)
        with torch.no_grad():
            whole, in_c = least(lambda: head(x)), least(forward_in_c(head, x))
        found[f"forward of {counted(rows, 'row')}, {input} x {hidden or 1}"] = whole - in_c
    steps = {}
    for hidden in (8, 0):
        workload = Workload.parse(f"step/input:8/hidden:{hidden}/members:1/rows:2/pairs:1/dtype:f32")
        (ours, _), peer = ours_of(workload), torch_worker.make_calls(workload, False)[""]
        steps[f"step of 2 rows, 8 x {hidden or 1}"] = least(ours, 20), least(peer, 20)
    return found, steps


# ---- the report ----


def l3_bytes():
    file = pathlib.Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    return 1024 * int(file.read_text().strip().removesuffix("K")) if file.exists() else 0


def rows_of(case):
    for threads, measurement in case.measurements.items():
        result = row(measurement, {}, 0) | {"c_seconds": case.c_seconds[threads]}
        if case.workload.operation == "adamw":  # 4 arrays read, 3 written; what targets.losses asks for
            moved = 28 * case.workload.input * case.workload.hidden
            result["bound"] = "copy" if moved > l3_bytes() else "read_l3"
        yield result


def line(what, threads, shapes, wanted, found, good):
    verdict = "not measured" if found is None else "reached" if good else "NOT REACHED"
    text = "-" if found is None else f"{found:.2f}"
    return f"{what:66} {threads:7} {shapes:6} {wanted:>8} {text:>7}  {verdict}"


def target_lines(rows, scoring, steps):
    """What rewardhead.torch is meant to reach, in the columns of targets.summary."""
    lines = [f"{'Target':66} {'threads':>7} {'shapes':>6} {'wanted':>8} {'found':>7}"]
    lost = targets.slower_than_a_peer(rows)
    for threads in sorted({result["threads"] for result in rows}):
        of_threads = [result for result in rows if result["threads"] == threads]
        slower = [result for result in lost if result["threads"] == threads]
        lines.append(line("shapes at which a peer is faster", threads, len(of_threads), "0", len(slower), not slower))
        large = [result["c_seconds"] / result["seconds"] for result in of_threads
                 if result["name"].startswith("step") and result["c_seconds"] > LARGE]
        least_share = min(large, default=None)
        lines.append(line(f"steps over {LARGE * 1e3:.0f} ms: the C interface's time over ours, the least", threads,
                          len(large), ">= 0.90", least_share, large and least_share >= 0.9))
        small = [result["seconds"] - result["c_seconds"] for result in of_threads
                 if result["name"] == "forward" and result["c_seconds"] < LARGE]
        most = max(small, default=None)
        lines.append(line(f"scoring under {LARGE * 1e3:.0f} ms: microseconds above the C interface, the most", threads,
                          len(small), f"<= {SCORING_OVERHEAD * 1e6:.0f}", most and most * 1e6,
                          small and most <= SCORING_OVERHEAD))
    for what, seconds in scoring.items():
        lines.append(line(f"microseconds above the C interface, {what}", 1, 1, f"<= {SCORING_OVERHEAD * 1e6:.0f}",
                          seconds * 1e6, seconds <= SCORING_OVERHEAD))
    for what, (ours, eager) in steps.items():
        lines.append(line(f"microseconds around the kernels, {what}", 1, 1, f"<= {eager * 1e6:.0f}", ours * 1e6,
                          ours <= eager))
    return lines


def write(machine, rows):
    RESULTS.mkdir(exist_ok=True)
    beside = RESULTS / "torch_peers.json.tmp"
    beside.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    beside.rename(RESULTS / "torch_peers.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_kernels, which has the list of workloads")
    parser.add_argument("--quick", action="store_true", help=f"a subset, in {QUICK_SECONDS} seconds")
    parser.add_argument("--seconds", type=float, help=f"that it may take (default {FULL_SECONDS})")
    arguments = parser.parse_args()
    clock = Clock(arguments.seconds or (QUICK_SECONDS if arguments.quick else FULL_SECONDS))
    busy, own = busy_seconds(), own_seconds()
    suite = BenchKernels(arguments.program)
    names = [name for name in suite.workloads if name in QUICK] if arguments.quick else suite.workloads
    workloads = [workload for workload in map(Workload.parse, names)
                 if workload.operation in OPERATIONS and workload.members == 1]
    left_out = []
    slow = [workload for workload in workloads if expected_seconds(workload) > 1]
    if slow:
        left_out.append("because a call takes seconds: " + ", ".join(workload.name for workload in slow))
    scoring, steps = overheads()  # first: nothing has been compiled in this process, which slows every call
    measured = run([workload for workload in workloads if workload not in slow], suite.threads, clock, left_out)
    others = max(0, busy_seconds() - busy - (own_seconds() - own)) / (clock.elapsed() * os.cpu_count())
    rows = [result for case in sorted(measured, key=lambda case: names.index(case.workload.name))
            for result in rows_of(case)]
    machine = {
        "processor": processor(),
        "processors": os.cpu_count(),
        "used_by_others": round(others, 3),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": {"ours": rewardhead.__version__, "PyTorch": torch.__version__},
        "scoring_overhead": scoring,
        "step_overhead": steps,
    }
    write(machine, rows)
    print(f"{machine['processor']}, PyTorch {torch.__version__}. Others used {others:.0%} of the processors meanwhile."
          + (" THAT IS MUCH: repeat this on an idle machine." if others > 0.05 else ""))
    print("Milliseconds, the least; ratio: best peer over ours.\n")
    print_table(rows)
    print("\n".join(["", *targets.losses(rows), "", *target_lines(rows, scoring, steps)]))
    print("\nLeft out:" + ("".join(f"\n  {sentence}" for sentence in left_out) or " nothing"))
    print(f"Written: {os.path.relpath(RESULTS / 'torch_peers.json')}, in {clock.elapsed():.0f} s")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(BUILD / "inductor"))
    sys.exit(main())
