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
import subprocess
import sys
import time

import targets
from results import add_limits, add_measurements, row, shape_text
from workload import Workload, expected_seconds, split_name

FOLDER = pathlib.Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
SECONDS = 0.01  # over which calls are averaged; the least of several such means counts
FULL_MINUTES, QUICK_MINUTES = 10, 2
TABLE_SECONDS = 15  # for what comes after the measurements: limits once more, plots
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


class Clock:
    def __init__(self, seconds):
        self.start, self.seconds = time.monotonic(), seconds

    def elapsed(self):
        return time.monotonic() - self.start

    def left(self):
        return self.seconds - self.elapsed()


def say(text):
    print(text, file=sys.stderr, flush=True)


class BenchKernels:
    """Ours and the C and C++ peers: one run of the program for one workload, everyone in turns within it."""

    def __init__(self, program):
        self.program = program
        self.context = {}
        names = [line for line in self.run("--benchmark_list_tests").splitlines() if not line.startswith("machine/")]
        self.workloads = list(dict.fromkeys(split_name(name)[0] for name in names))
        self.threads = sorted({split_name(name)[1] for name in names})

    def run(self, *options):
        finished = subprocess.run([self.program, *options], capture_output=True, text=True)
        if finished.returncode != 0:
            sys.exit(f"report: {self.program} {' '.join(options)} failed:\n{finished.stderr}")
        return finished.stdout

    def benchmarks(self, name_filter, seconds, repetitions):
        output = json.loads(
            self.run(f"--benchmark_filter={name_filter}", f"--benchmark_min_time={seconds}",
                     f"--benchmark_repetitions={repetitions}", "--benchmark_enable_random_interleaving=true",
                     "--benchmark_format=json"))
        self.context = output["context"]
        return output["benchmarks"]

    def measure(self, measurements, workload, repetitions, failed, everyone=True):
        chosen = "" if everyone else "[0-9]+/by:(ours|openblas)"
        entries = self.benchmarks(f"^{workload.name}/threads:{chosen}", SECONDS, repetitions)
        add_measurements(entries, measurements, failed)

    def limits(self, limits):
        add_limits(self.benchmarks("^machine/", 0.05, 3), limits)


class Torch:
    """The process that torch_worker.py runs in. Without torch there is none, and nothing is measured."""

    def __init__(self):
        self.version = None
        if not importlib.util.find_spec("torch"):
            return
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(FOLDER.parent / "build/inductor")} | os.environ
        self.process = subprocess.Popen([sys.executable, FOLDER / "torch_worker.py"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.version = self.answer()["version"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"report: bench/torch_worker.py ended:\n{self.process.communicate()[1]}")
        return json.loads(line)

    def measure(self, measurements, workload, repetitions, failed, threads, compiled=False):
        if not self.version:
            return
        request = {"workload": workload.name, "threads": threads, "compiled": compiled, "repetitions": repetitions,
                   "seconds": SECONDS}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.answer()
        for count, seconds in answer["seconds"].items():
            for who, value in seconds.items():
                if (workload.name, int(count)) in measurements:
                    measurements[workload.name, int(count)].add(who, value)
        for who, why in answer["failed"].items():
            failed.setdefault(f"{who}: {why}", []).append(workload.name)


def repetitions(workload):
    expected = expected_seconds(workload)
    return 3 if expected < 0.02 else 2 if expected < 0.08 else 1


def measure(kernels, torch, workloads, clock, with_epoch, failed):
    """(measurements, rows of the epoch, what was left out as sentences)."""
    measurements, left_out = {}, []
    slow = [workload for workload in workloads if expected_seconds(workload) > 1]
    first = [workload for workload in workloads if workload not in slow]
    reserved = EPOCH_SECONDS if with_epoch else 0

    say(f"Turn 1: {len(first)} workloads, at {' and '.join(map(str, kernels.threads))} threads ...")
    for number, workload in enumerate(first):
        if clock.left() < reserved:
            left_out.append(f"for time: {', '.join(workload.name for workload in first[number:])}")
            first = first[:number]
            break
        kernels.measure(measurements, workload, repetitions(workload), failed)
        torch.measure(measurements, workload, repetitions(workload), failed, kernels.threads)

    epoch_rows = []
    if with_epoch and torch.version:
        say(f"[{clock.elapsed():.0f} s] Epochs of 40,000 pairs ...")
        epoch_rows = run_epoch(kernels, left_out)

    def wanted(workload):
        return any(targets.wants_compiled(row(measurements[workload.name, threads], {}, 0)) for threads in kernels.threads)

    say(f"[{clock.elapsed():.0f} s] Turn 2, with torch.compile where a target asks for it ...")
    second = sorted(first, key=lambda workload: not wanted(workload))
    slowest = 0  # of the workloads of this turn so far: the next may take as long
    for number, workload in enumerate(second):
        if clock.left() < slowest:
            compiled = [workload.name for workload in second[number:] if wanted(workload)]
            if torch.version and compiled:
                left_out.append(f"torch.compile, for time (what is compiled stays in build/inductor; the next run gets "
                                f"further): {', '.join(compiled)}")
            left_out.append(f"the second turn of {len(second) - number} workloads, for time")
            break
        start = clock.elapsed()
        torch.measure(measurements, workload, repetitions(workload), failed, kernels.threads, wanted(workload))
        kernels.measure(measurements, workload, repetitions(workload), failed)
        torch.measure(measurements, workload, repetitions(workload), failed, kernels.threads, wanted(workload))
        slowest = max(slowest, clock.elapsed() - start)

    for number, workload in enumerate(slow):
        if clock.left() < 25 * expected_seconds(workload):
            left_out.append(f"for time: {workload.name}")
            continue
        kernels.measure(measurements, workload, 1, failed, everyone=False)
        torch.measure(measurements, workload, 1, failed, kernels.threads)
    return measurements, epoch_rows, left_out


def run_epoch(kernels, left_out):
    """Rows of the end-to-end benchmark; none where its losses are not PyTorch's, which is said among what is left out."""
    program = pathlib.Path(kernels.program).parent / "bench_epoch"
    file = RESULTS / "epoch.json"
    command = [sys.executable, FOLDER / "epoch.py", program, "--threads", *map(str, kernels.threads), "--json", file]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if finished.returncode != 0:
        left_out.append(f"THE EPOCHS FAILED: {finished.stderr.strip()}")
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
    print(f"{'regime':9} {'operation':9} {'head':>15} {'rows':>8} {'pairs':>9} {'type':>4} {'thr':>3} {'ours':>8} "
          + " ".join(f"{title:>8}" for title, _ in columns) + f" {'ratio':>6} {'share of':>11}  best peer")
    for result in rows:
        shape = result["shape"]
        ratio = f"{result['ratio']:6.2f}" if result["ratio"] else f"{'-':>6}"
        share = f"{result['share']:5.2f} {result['bound']:>5}" if "share" in result else f"{'-':>11}"
        density = f" ({shape['density']} % active)" if "density" in shape else ""
        print(f"{result['regimes'].split(' ')[0]:9} {result['name']:9} {shape_text(result):>15} {shape['rows']:8,} "
              f"{shape['pairs']:9,} {result['dtype']:>4} {result['threads']:3} {milliseconds(result['seconds']):>8} "
              + " ".join(f"{milliseconds(best_of(result, who)):>8}" for _, who in columns)
              + f" {ratio} {share}  {result['peer'] or ''}{density}")


def write(machine, rows):
    beside = RESULTS / "latest.json.tmp"
    beside.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    beside.rename(RESULTS / "latest.json")
    written = [RESULTS / "latest.json"]
    if importlib.util.find_spec("matplotlib"):
        import plots

        written += plots.draw(rows, machine["limits"], RESULTS)
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_kernels")
    parser.add_argument("--quick", action="store_true", help=f"a subset, in at most {QUICK_MINUTES} minutes")
    arguments = parser.parse_args()

    RESULTS.mkdir(exist_ok=True)
    clock = Clock(60 * (QUICK_MINUTES if arguments.quick else FULL_MINUTES) - TABLE_SECONDS)
    kernels, torch = BenchKernels(arguments.program), Torch()
    names = [name for name in kernels.workloads if name in QUICK] if arguments.quick else kernels.workloads
    limits, failed = {}, {}
    kernels.limits(limits)
    measurements, epoch_rows, left_out = measure(kernels, torch, [Workload.parse(name) for name in names], clock,
                                                 not arguments.quick, failed)
    kernels.limits(limits)

    context = kernels.context
    machine = {"processor": processor(), "processors": os.cpu_count(), "isa": context["isa"], "l3_bytes": l3_bytes(context),
               "limits": limits, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
               "software": {who: context[who] for who in ("ours", *context["peers"].split())}}
    if torch.version:
        machine["software"]["PyTorch"] = torch.version
    rows = [row(measurements[name, threads], limits, machine["l3_bytes"])
            for name in names for threads in kernels.threads if (name, threads) in measurements]
    rows += epoch_rows
    written = write(machine, rows)

    print(f"{machine['processor']}, {machine['processors']} processors. " + "; ".join(
        f"{who}: {text}" for who, text in machine["software"].items()))
    for threads, of_threads in limits.items():
        print(f"Limits, {threads} thread{'s' if threads != '1' else ''}: {of_threads['fma'] * 1e-9:.0f} GFLOP/s, " + ", ".join(
            f"{what} {rate * 1e-9:.1f} GB/s" for what, rate in of_threads.items() if what != "fma"))
    print("\nMilliseconds, the least of all turns; PyTorch in the better of its forms; ratio: best peer over ours.\n")
    print_table(rows)
    print()
    print("\n".join(targets.losses(rows)))
    print()
    print("\n".join(targets.summary(rows)))
    if arguments.quick:
        left_out.append(f"by --quick: {len(kernels.workloads) - len(names)} of {len(kernels.workloads)} workloads, and the "
                        "epochs of 40,000 pairs; the targets above are of what remains")
    if context.get("peers_missing"):
        left_out.append(f"peers that the build did not find: {context['peers_missing']}")
    if not torch.version:
        left_out.append("PyTorch, which this Python does not have, and with it the epochs of 40,000 pairs")
    left_out += [f"{why} ({len(set(names))} workloads, such as {names[0]})" for why, names in failed.items()]
    print("\nLeft out:" + ("".join(f"\n  {sentence}" for sentence in left_out) or " nothing"))
    print("Written: " + ", ".join(os.path.relpath(path) for path in written) + f", in {clock.elapsed():.0f} s")


if __name__ == "__main__":
    main()
