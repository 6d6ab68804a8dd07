# SPDX-License-Identifier: Apache-2.0
"""Runs bench_kernels and PyTorch in turns, prints one table, and writes bench/results/latest.json and plots.

python bench/report.py build/release/bench/bench_kernels [--quick]

What is measured, how, and how to read the table: bench/README.md.
"""

import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys

import targets
from results import counted, head_text, row
from schedule import FOLDER, BenchKernels, Clock, Schedule, Torch, say
from workload import Workload

RESULTS = FOLDER / "results"
FULL_MINUTES, QUICK_MINUTES = 8, 1.5  # torch_peers.py takes what is left of 10 and 2
TABLE_SECONDS = 20  # for what comes after the measurements: limits once more, plots
EPOCHS_FAILED = "THE EPOCHS FAILED"
EPOCH_SECONDS = 100  # the end-to-end benchmark with nothing compiled before

# One shape for each line of the targets, and what else a change to a kernel would show in first.
QUICK = [
    "step/input:384/hidden:256/members:1/rows:256/pairs:128/dtype:f32",
    "step/input:384/hidden:256/members:1/rows:1052/pairs:526/dtype:f32",
    "step/input:4096/hidden:256/members:1/rows:512/pairs:256/dtype:f32",
    "step_dx/input:384/hidden:256/members:1/rows:1052/pairs:526/dtype:f32",
    "forward/input:384/hidden:256/members:1/rows:1052/pairs:0/dtype:f32",
    "forward/input:1024/hidden:256/members:1/rows:1/pairs:0/dtype:f32",
    "forward/input:4096/hidden:4096/members:1/rows:1/pairs:0/dtype:f32",
    "step/input:384/hidden:0/members:1/rows:4096/pairs:2048/dtype:f32",
    "step/input:4096/hidden:0/members:1/rows:4096/pairs:2048/dtype:f32",
    "step/input:4096/hidden:0/members:1/rows:4096/pairs:2048/dtype:bf16",
    "step/input:384/hidden:256/members:1/rows:1052/pairs:526/dtype:bf16",
    "step/input:2048/hidden:256/members:1/rows:8/pairs:4/dtype:f32",
    "step/input:384/hidden:256/members:1/rows:1052/pairs:11650/dtype:f32",
    "step/input:2048/hidden:128/members:20/rows:128/pairs:64/dtype:f32",
    "adamw/input:3584/hidden:3584/members:1/rows:0/pairs:0/dtype:f32",
    "adamw/input:384/hidden:256/members:1/rows:0/pairs:0/dtype:f32",
    "pair_loss/input:0/hidden:0/members:1/rows:1052/pairs:11650/dtype:f32",
    "backward/input:384/hidden:240/members:1/rows:480/pairs:0/dtype:f32/density:5",
    "backward/input:384/hidden:240/members:1/rows:480/pairs:0/dtype:f32/density:50",
]


def busy_seconds():
    """Of all processors together since the machine started, by whomever, and by other machines on the same hardware."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """Of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def run_epoch(kernels, left_out):
    """Rows of the end-to-end benchmark; none if its losses are not PyTorch's, which is said among what is left out."""
    program = pathlib.Path(kernels.program).parent / "bench_epoch"
    file = RESULTS / "epoch.json"
    command = [sys.executable, FOLDER / "epoch.py", program, "--threads", *map(str, kernels.threads), "--json", file]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if finished.returncode != 0:
        left_out.append(f"{EPOCHS_FAILED}: {finished.stderr.strip()}")
        return []
    say(finished.stdout.strip().splitlines()[-1])
    return json.loads(file.read_text())


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def l3_bytes(context):
    return max((cache["size"] for cache in context.get("caches", []) if cache["level"] == 3), default=0)


def milliseconds(seconds):
    if seconds is None:
        return "-"
    value = seconds * 1e3
    return f"{value:.4f}" if value < 1 else f"{value:.3f}" if value < 100 else f"{value:.0f}"


def best_of(result, start):
    return min((seconds for who, seconds in result["peers"].items() if who.startswith(start)), default=None)


def print_table(rows):
    libraries = [who for who in ("openblas", "onednn", "eigen") if any(who in result["peers"] for result in rows)]
    columns = [(who, who) for who in libraries]
    columns += [(kind, f"PyTorch {kind}") for kind in ("eager", "compiled")
                if any(best_of(result, f"PyTorch {kind}") for result in rows)]
    print(f"{'regime':9} {'operation':9} {'head':>17} {'rows':>8} {'pairs':>9} {'type':>4} {'thr':>3} {'ours':>8} "
          + " ".join(f"{title:>8}" for title, _ in columns) + f" {'ratio':>6} {'share of':>13}  best peer")
    for result in rows:
        shape = result["shape"]
        head = head_text(result) + (f" {shape['density']} %" if "density" in shape else "")
        ratio = f"{result['ratio']:6.2f}" if result["ratio"] else f"{'-':>6}"
        share = f"{result['share']:5.2f} {result['bound']:>7}" if "share" in result else f"{'-':>13}"
        print(f"{result['regimes'].split(' ')[0]:9} {result['name']:9} {head:>17} {shape['rows']:8,} "
              f"{shape['pairs']:9,} {result['dtype']:>4} {result['threads']:3} {milliseconds(result['seconds']):>8} "
              + " ".join(f"{milliseconds(best_of(result, who)):>8}" for _, who in columns)
              + f" {ratio} {share}  {result['peer'] or ''}")


def write(machine, rows):
    beside = RESULTS / "latest.json.tmp"
    beside.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    beside.rename(RESULTS / "latest.json")
    written = [RESULTS / "latest.json"]
    if importlib.util.find_spec("matplotlib"):
        import plots

        written += plots.draw(rows, machine["limits"], RESULTS)
    return written


def print_report(machine, schedule, rows):
    print(f"{machine['processor']}, {counted(machine['processors'], 'processor')}. "
          + "; ".join(f"{who}: {text}" for who, text in machine["software"].items()))
    for threads, of_threads in machine["limits"].items():
        rates = [f"{what} {rate * 1e-9:.1f} GB/s" for what, rate in of_threads.items() if what != "fma"]
        print(f"Limits, {counted(int(threads), 'thread')}: {of_threads['fma'] * 1e-9:.0f} GFLOP/s, " + ", ".join(rates))
    others = machine["used_by_others"]
    print(f"Others used {others:.0%} of the processors meanwhile."
          + (" THAT IS MUCH: repeat this on an idle machine." if others > 0.05 else ""))
    unsteadiness = machine["unsteadiness"]
    if unsteadiness is not None:
        print(f"Our times differed by {unsteadiness:.0%} between turns (median)."
              + (" THE MACHINE IS NOT STEADY: small differences mean nothing." if unsteadiness > 0.1 else ""))
    turns = [schedule.turns[workload] for workload in schedule.workloads]
    print(f"\nMilliseconds, the least of {min(turns, default=0)} to {max(turns, default=0)} turns; PyTorch in the better of its forms; "
          "ratio: best peer over ours.\n")
    print_table(rows)
    print("\n".join(["", *targets.losses(rows), "", *targets.summary(rows)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_kernels")
    parser.add_argument("--quick", action="store_true", help=f"a subset, in at most {QUICK_MINUTES} minutes")
    arguments = parser.parse_args()

    RESULTS.mkdir(exist_ok=True)
    busy, own = busy_seconds(), own_seconds()
    clock = Clock(60 * (QUICK_MINUTES if arguments.quick else FULL_MINUTES) - TABLE_SECONDS)
    kernels, torch = BenchKernels(arguments.program), Torch()
    names = [name for name in kernels.workloads if name in QUICK] if arguments.quick else kernels.workloads
    has_numpy = importlib.util.find_spec("numpy")
    with_epoch = not arguments.quick and torch.version and has_numpy
    limits, epoch_rows = {}, []
    kernels.limits(limits)
    schedule = Schedule(kernels, torch, [Workload.parse(name) for name in names], clock)
    schedule.first_turn(EPOCH_SECONDS if with_epoch else 0)
    left_out = schedule.left_out
    if with_epoch:
        say(f"[{clock.elapsed():.0f} s] Epochs of 40,000 pairs ...")
        epoch_rows = run_epoch(kernels, left_out)
    schedule.compiled_turn()
    schedule.slow_workloads()
    schedule.more_turns()
    kernels.limits(limits)
    torch.close()
    others = max(0, busy_seconds() - busy - (own_seconds() - own)) / (clock.elapsed() * os.cpu_count())

    context = kernels.context
    software = {who: context[who] for who in ("ours", *context["peers"].split())}
    if torch.version:
        software["PyTorch"] = torch.version
    machine = {
        "processor": processor(),
        "processors": os.cpu_count(),
        "isa": context["isa"],
        "l3_bytes": l3_bytes(context),
        "limits": limits,
        "used_by_others": round(others, 3),
        "unsteadiness": schedule.unsteadiness(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "software": software,
    }
    rows = [row(schedule.measurements[name, threads], limits, machine["l3_bytes"])
            for name in names for threads in kernels.threads if (name, threads) in schedule.measurements] + epoch_rows
    written = write(machine, rows)
    print_report(machine, schedule, rows)

    if arguments.quick:
        missing = len(kernels.workloads) - len(names)
        left_out.append(f"by --quick: {missing} of {len(kernels.workloads)} workloads, and the epochs of 40,000 pairs; "
                        "the targets above are of what remains")
    if context.get("peers_missing"):
        left_out.append(f"peers that the build did not find: {context['peers_missing']}")
    if not torch.version:
        left_out.append("PyTorch, which this Python does not have, and with it the epochs of 40,000 pairs")
    elif not has_numpy and not arguments.quick:
        left_out.append("the epochs of 40,000 pairs: this Python has no numpy")
    if len(written) == 1:
        left_out.append("plots: this Python has no matplotlib")
    left_out += [f"{why} ({counted(len(set(failed)), 'workload')}, such as {failed[0]})"
                 for why, failed in schedule.failed.items()]
    print("\nLeft out:" + ("".join(f"\n  {sentence}" for sentence in left_out) or " nothing"))
    print("Written: " + ", ".join(os.path.relpath(path) for path in written) + f", in {clock.elapsed():.0f} s")
    return 1 if any(sentence.startswith(EPOCHS_FAILED) for sentence in left_out) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"report: {error}")
