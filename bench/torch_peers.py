# SPDX-License-Identifier: Apache-2.0
"""rewardhead.torch beside PyTorch, eager and compiled, all in one process and in turns:

    python3 bench/torch_peers.py [--quick] [--seconds S]

The workloads, the forms of PyTorch and what is timed are those of bench/README.md (`torch_worker.py` has the peers): the
rows are pooled already, then F.linear and softplus, and a row that several pairs name is scored once. Before anything is
timed, rewards, loss, gradients and updated parameters are compared with each peer's. Prints one table and the targets,
and writes bench/results/torch_peers.json, whose rows are as those of latest.json, for compare.py.
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
from report import busy_seconds, own_seconds, print_table, processor
from results import Measurement, counted, row
from rewardhead import _core
from rewardhead.torch import _ops
from schedule import BUILD, FOLDER, SECONDS, Clock, say
from workload import Workload

RESULTS = FOLDER / "results"
FULL_SECONDS, QUICK_SECONDS = 120, 30
LARGE = 1e-3  # seconds; above, a step's ratio must be that of the C benchmark
SCORING_OVERHEAD = 10e-6  # seconds of a call of the head, above the extension's, which makes the plan

# (operation, input, hidden, rows, pairs, dtype, regime), what is small first: there the calls around the kernels show.
FULL = [
    ("forward", 384, 256, 1, 0, "f32", "shapes"),
    ("forward", 1024, 256, 4, 0, "f32", "shapes"),
    ("step", 896, 0, 2, 1, "f32", "A"),
    ("step", 896, 256, 2, 1, "f32", "A"),
    ("step", 4096, 0, 8, 4, "f32", "A"),
    ("step", 2048, 256, 8, 4, "f32", "A"),
    ("step", 384, 0, 4096, 2048, "f32", "shapes"),
    ("step", 1024, 128, 128, 64, "f32", "shapes"),
    ("step_dx", 1024, 128, 128, 64, "f32", "shapes"),
    ("step", 384, 256, 256, 128, "f32", "shapes"),
    ("step_dx", 384, 256, 256, 128, "f32", "shapes"),
    ("step", 384, 256, 1052, 11650, "f32", "shapes"),
    ("step", 384, 256, 1052, 526, "f32", "shapes"),
    ("step", 384, 256, 1052, 526, "bf16", "shapes"),
    ("step", 4096, 0, 4096, 2048, "f32", "shapes"),
    ("step", 4096, 0, 4096, 2048, "bf16", "shapes"),
    ("forward", 2048, 256, 50, 0, "f32", "H"),
    ("forward", 1024, 128, 128, 0, "bf16", "shapes"),
    ("forward", 384, 256, 1052, 0, "f32", "shapes"),
    ("forward", 4096, 0, 4096, 0, "f32", "shapes"),
    ("step", 4096, 256, 32, 16, "f32", "A"),
    ("step", 4096, 256, 512, 256, "f32", "shapes"),
    ("forward", 4096, 256, 512, 0, "f32", "shapes"),
    ("adamw", 384, 256, 0, 0, "f32", "shapes"),
    ("adamw", 3584, 3584, 0, 0, "f32", "shapes"),
]
QUICK = [
    ("forward", 384, 256, 1, 0, "f32", "shapes"),
    ("step", 896, 0, 2, 1, "f32", "A"),
    ("step", 2048, 256, 8, 4, "f32", "A"),
    ("step", 384, 256, 256, 128, "f32", "shapes"),
    ("step", 384, 256, 1052, 11650, "f32", "shapes"),
    ("step", 384, 256, 1052, 526, "bf16", "shapes"),
    ("adamw", 384, 256, 0, 0, "f32", "shapes"),
]


def workload_of(operation, input, hidden, rows, pairs, dtype):
    return Workload.parse(
        f"{operation}/input:{input}/hidden:{hidden}/members:1/rows:{rows}/pairs:{pairs}/dtype:{dtype}"
    )


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


def step_of(head, x, chosen, rejected):
    def call():
        head.zero_grad(set_to_none=True)
        x.grad = None
        loss = rht.preference_loss(head, x, chosen, rejected)
        loss.backward()
        return loss

    return call


def checked_step(workload):
    chosen = rejected = None
    if not workload.adjacent:
        chosen, rejected = torch_worker.make_pairs(workload)
        torch.manual_seed(0)  # so that the peers draw the same ones
    for variant, (loss, peer, x) in torch_worker.losses(workload).items():
        if "concatenated" in variant:
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
    return call


def checked_forward(workload):
    for variant, (peer, x) in torch_worker.scorers(workload).items():
        head = our_head(workload, peer)
        with torch.no_grad():
            agree(workload, variant, "rewards", head(x), peer(x).squeeze(-1))
    return torch.no_grad()(lambda: head(x))


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
    return ours.step


def ours_of(workload):
    """Ours as a function to be timed; what it computes has been compared with every form of the peer."""
    torch.manual_seed(0)
    return {"forward": checked_forward, "adamw": checked_adamw}.get(workload.operation, checked_step)(workload)


# ---- turns ----


class Case:
    """A workload at a number of threads: ours and the peers, the least of whose times count."""

    def __init__(self, workload, regimes, threads):
        self.measurement = Measurement(workload, threads, regimes)
        self.workload, self.threads = workload, threads
        self.candidates, self.compiled, self.seconds = {}, False, 0.0

    def add(self, name, call):
        self.candidates[name] = torch_worker.Candidate(call, self.threads)

    def prepare(self):
        torch.set_num_threads(self.threads)
        self.add("ours", ours_of(self.workload))
        self.add_peers("eager", torch_worker.make_calls(self.workload, False))

    def compile(self):
        self.compiled = True
        self.add_peers("compiled", torch_worker.make_calls(self.workload, True))

    def add_peers(self, kind, calls):
        for variant, call in calls.items():
            if "concatenated" not in variant:
                self.add(f"PyTorch {kind}" + (f", {variant}" if variant else ""), call)

    def wants_compile(self):
        return self.workload.operation != "adamw"

    def turn(self):
        start = time.perf_counter()
        for name, candidate in self.candidates.items():
            candidate.measure(SECONDS)
            self.measurement.add(name, candidate.best)
        self.seconds = time.perf_counter() - start


def run(cases, clock, left_out):
    """Everything once, with torch.compile as far as the time goes, and then further turns until it is used."""
    measured = []
    for case in cases:
        if clock.left() < 0:
            break
        case.prepare()
        case.turn()
        measured.append(case)
    if len(measured) < len(cases):
        left_out.append("for time: " + ", ".join(name_of(case) for case in cases[len(measured) :]))
    say(f"[{clock.elapsed():.0f} s] torch.compile ...")
    longest, too_late = 0.0, []
    for case in filter(Case.wants_compile, measured):
        start = clock.elapsed()
        if clock.left() < longest:
            too_late.append(name_of(case))
            continue
        case.compile()
        longest = max(longest, clock.elapsed() - start)
        case.turn()
    if too_late:
        left_out.append("torch.compile, for time (what is compiled stays in build/inductor, so that the next run gets "
                        "further): " + ", ".join(too_late))
    turns = 1
    while any(case.seconds < clock.left() for case in measured):
        turns += 1
        for case in measured:
            if case.seconds < clock.left():
                case.turn()
    return measured, turns


def name_of(case):
    return f"{case.workload.name}, {counted(case.threads, 'thread')}"


# ---- overheads ----


def least(call, count=50, repetitions=60):
    call()
    return min(torch_worker.mean_seconds(call, count) for _ in range(repetitions))


def overheads():
    """Seconds on one thread: what a call of the head takes above the extension's (which makes the plan and scores), and a
    step whose kernels have nothing to do, of ours and of eager."""
    torch.set_num_threads(1)
    found = {}
    for input, hidden, rows in ((384, 256, 1), (384, 0, 1), (64, 64, 64)):
        head, x = rht.RewardHead(input, hidden), torch.randn(rows, input)
        x, matrix = _ops._matrix(x)
        width, parameters = _ops._parameters(x, *head._tensors())
        rewards, place = torch.empty(rows), _ops.place(x)
        with torch.no_grad():
            whole = least(lambda: head(x))
            c_call = least(
                lambda: _core.head_forward(place, matrix, width, parameters, rewards.data_ptr(), (0, 0))
            )
        found[f"forward of {counted(rows, 'row')}, {input} x {hidden or 1}"] = whole - c_call
    steps = {}
    for hidden in (8, 0):
        workload = workload_of("step", 8, hidden, 2, 1, "f32")
        ours, peer = ours_of(workload), torch_worker.make_calls(workload, False)[""]
        steps[f"step of 2 rows, 8 x {hidden or 1}"] = least(ours, 20), least(peer, 20)
    return found, steps


# ---- the report ----


def l3_bytes():
    file = pathlib.Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    return 1024 * int(file.read_text().strip().removesuffix("K")) if file.exists() else 0


def row_of(case):
    result = row(case.measurement, {}, 0)
    if case.workload.operation == "adamw":  # 4 arrays read, 3 written; what targets.losses asks for
        moved = 28 * case.workload.input * case.workload.hidden
        result["bound"] = "copy" if moved > l3_bytes() else "read_l3"
    return result


def key_of(result):
    return json.dumps([result["name"], result["shape"], result["dtype"], result["threads"]])


def beside_c(rows):
    """Ratios over those of the C benchmark, of the large steps that latest.json has; to the peers that both have."""
    file = RESULTS / "latest.json"
    c_rows = {key_of(c): c for c in json.loads(file.read_text())["rows"]} if file.exists() else {}
    for result in rows:
        c = c_rows.get(key_of(result))
        if c is None or not result["name"].startswith("step") or c["seconds"] < LARGE:
            continue
        peers = [who for who in result["peers"] if who in c["peers"]]
        if peers:
            ratio, c_ratio = (min(r["peers"][who] for who in peers) / r["seconds"] for r in (result, c))
            yield result | {"beside_c": ratio / c_ratio}


def line(what, threads, shapes, wanted, found, good):
    verdict = "not measured" if found is None else "reached" if good else "NOT REACHED"
    text = "-" if found is None else f"{found:.2f}"
    return f"{what:58} {threads:7} {shapes:6} {wanted:>8} {text:>7}  {verdict}"


def target_lines(rows, scoring, steps):
    """What rewardhead.torch is meant to reach, in the columns of targets.summary."""
    lines = [f"{'Target':58} {'threads':>7} {'shapes':>6} {'wanted':>8} {'found':>7}"]
    compared = list(beside_c(rows))
    lost = targets.slower_than_a_peer(rows)
    for threads in sorted({result["threads"] for result in rows}):
        of_threads = [result for result in rows if result["threads"] == threads]
        slower = [result for result in lost if result["threads"] == threads]
        lines.append(line("shapes at which a peer is faster", threads, len(of_threads), "0", len(slower), not slower))
        ratios = [result["beside_c"] for result in compared if result["threads"] == threads]
        least = min(ratios, default=None)
        lines.append(line(f"steps over {LARGE * 1e3:.0f} ms: ratio over the C benchmark's, the least", threads,
                          len(ratios), ">= 0.90", least, ratios and least >= 0.9))
    for what, seconds in scoring.items():
        lines.append(line(f"microseconds above the extension's call, {what}", 1, 1, f"<= {SCORING_OVERHEAD * 1e6:.0f}",
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
    parser.add_argument("--quick", action="store_true", help=f"a subset, in {QUICK_SECONDS} seconds")
    parser.add_argument("--seconds", type=float, help=f"that it may take (default {FULL_SECONDS})")
    arguments = parser.parse_args()
    clock = Clock(arguments.seconds or (QUICK_SECONDS if arguments.quick else FULL_SECONDS))
    busy, own = busy_seconds(), own_seconds()
    torch._dynamo.config.recompile_limit = 256  # functions of one source line, for many shapes
    threads = sorted({1, os.cpu_count()})
    cases = [
        Case(workload_of(*shape), regimes, count)
        for *shape, regimes in (QUICK if arguments.quick else FULL)
        for count in threads
    ]
    left_out = []
    scoring, steps = overheads()  # first: nothing has been compiled in this process, which slows every call
    measured, turns = run(cases, clock, left_out)
    others = max(0, busy_seconds() - busy - (own_seconds() - own)) / (clock.elapsed() * os.cpu_count())
    rows = [row_of(case) for case in measured]
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
    print(f"Milliseconds, the least of up to {turns} turns; ratio: best peer over ours.\n")
    print_table(rows)
    print("\n".join(["", *targets.losses(rows), "", *target_lines(rows, scoring, steps)]))
    if uncompiled := [case for case in measured if case.wants_compile() and not case.compiled]:
        print(f"Without torch.compile at {len(uncompiled)} of them, see below.")
    print("\nLeft out:" + ("".join(f"\n  {sentence}" for sentence in left_out) or " nothing"))
    print(f"Written: {os.path.relpath(RESULTS / 'torch_peers.json')}, in {clock.elapsed():.0f} s")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(BUILD / "inductor"))
    sys.exit(main())
