# SPDX-License-Identifier: Apache-2.0
"""Runs bench_kernels and PyTorch in turns, prints one table, and writes bench/results/latest.json.

python bench/report.py build/release/bench/bench_kernels [--turns 3] [--seconds 0.5]

A ratio is PyTorch's time over ours, each the fastest call of all turns. Without PyTorch our times stand alone.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def run_ours(program, name_filter, seconds):
    """{name: seconds} of every benchmark that the regular expression names, and the program's context."""
    command = [program, f"--benchmark_filter={name_filter}", f"--benchmark_min_time={seconds / 10}",
               "--benchmark_repetitions=10", "--benchmark_format=json"]
    output = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    times = {}
    for row in output["benchmarks"]:
        if row["run_type"] == "iteration":
            name = row["run_name"].removesuffix("/real_time")
            times[name] = min(times.get(name, float("inf")), row["real_time"] * 1e-3)
    return times, output["context"]


def parse(name):
    operation, *parts = name.split("/")
    return operation, {key: int(value) for key, value in (part.split(":") for part in parts)}


def run_torch(name, seconds):
    operation, shape = parse(name)
    words = [shape[key] for key in ("input", "hidden", "rows", "pairs", "threads")]
    command = [sys.executable, FOLDER / "torch_step.py", *words, int(operation == "step_dx"), seconds]
    return float(subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each side of each row and turn")
    arguments = parser.parse_args()
    try:
        import torch

        peer = f"PyTorch {torch.__version__} eager"
    except ImportError:
        peer = None

    ours, context = run_ours(arguments.program, ".*", arguments.seconds / 4)
    theirs = {}
    steps = [name for name in ours if parse(name)[0] in ("step", "step_dx")]
    for _ in range(arguments.turns if peer else 0):
        for name in steps:
            ours[name] = min(ours[name], run_ours(arguments.program, f"^{name}/real_time$", arguments.seconds)[0][name])
            theirs[name] = min(theirs.get(name, float("inf")), run_torch(name, arguments.seconds))

    rows = []
    print(f"{processor()}, {context['isa']}, milliseconds; peer: {peer or 'none'}")
    print(f"{'':12} {'input':>6} {'hidden':>6} {'rows':>6} {'pairs':>6} {'threads':>7} {'ours':>9} {'peer':>9} {'ratio':>6}")
    for name, seconds in ours.items():
        operation, shape = parse(name)
        peer_seconds = theirs.get(name)
        ratio = peer_seconds / seconds if peer_seconds else None
        threads = shape.pop("threads")
        rows.append({"name": operation, "shape": shape, "dtype": "f32", "threads": threads, "seconds": seconds,
                     "peer": peer if peer_seconds else None, "peer_seconds": peer_seconds, "ratio": ratio})
        beside = f"{peer_seconds * 1e3:9.3f} {ratio:6.2f}" if ratio else f"{'-':>9} {'-':>6}"
        print(f"{operation:12} {shape['input']:6} {shape['hidden']:6} {shape['rows']:6} {shape['pairs']:6} {threads:7} "
              f"{seconds * 1e3:9.3f} {beside}")
    if not peer:
        print("Left out: the comparison with PyTorch, which this Python does not have.")

    results = FOLDER / "results"
    results.mkdir(exist_ok=True)
    machine = {"processor": processor(), "processors": os.cpu_count(), "isa": context["isa"]}
    beside = results / "latest.json.tmp"
    beside.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    beside.rename(results / "latest.json")
    print(f"Written: {results / 'latest.json'}")


if __name__ == "__main__":
    main()
