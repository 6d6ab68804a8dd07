#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the CUDA compiler says of the kernels, held against gate.txt: the gate that needs no GPU.

usage: gate.py --source kernels/cuda --golden gate.txt --scratch DIR [--update] [--nvcc NVCC]

Compiles every kernel for every architecture. Spills, local memory and the C75xx notes by which ptxas says that it
serialises wgmma are errors. Registers, static shared memory and barriers of each kernel must be those of gate.txt,
which --update writes anew for review; with another nvcc than wrote it they are not compared, and that is said.
Dynamic shared memory is a constant in the sources, and the launchers' business.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ARCHITECTURES = ["80", "86", "89", "90", "100", "120"]
WGMMA_ARCHITECTURES = ["90a"]  # of what lies in sm90/
FLAGS = ["-std=c++20", "-fmad=false", "--expt-relaxed-constexpr", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage,-Werror"]
SKIPPED = 77


def compile_one(nvcc, root, source, architectures, scratch):
    """[(architecture, kernel, registers, shared, barriers)], or what went wrong."""
    made = scratch / f"{source.parent.name}_{source.stem}.o"
    targets = [word for a in architectures for word in ("-gencode", f"arch=compute_{a},code=sm_{a}")]
    run = subprocess.run([nvcc, *FLAGS, f"-I{root}", *targets, "-c", "-o", str(made), str(source)], capture_output=True,
                         text=True)
    made.unlink(missing_ok=True)
    text = subprocess.run(["c++filt"], input=run.stdout + run.stderr, capture_output=True, text=True, check=True).stdout
    if run.returncode:
        return [], f"{source} does not compile:\n{text}"
    if re.search(r"\bC75\d\d\b|serializ", text):
        return [], f"{source}: ptxas serialises wgmma:\n{text}"
    rows, kernel, architecture = [], None, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(.*)' for 'sm_(\w+)'", line):
            # The name and its template arguments, without return type, namespaces and parameters.
            name = re.sub(r"^void ", "", re.sub(r"\(anonymous namespace\)::", "", found[1]))
            kernel = re.sub(r"\((?:\w|::)+\)(?=\d)", "", name.rsplit("(", 1)[0]).replace("rewardhead::kernels::", "")
            kernel, architecture = kernel.replace("cuda::", ""), found[2]
        if found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if any(int(n) for n in found.groups()):
                return [], f"{source} for sm_{architecture}: {kernel} uses local memory: {line.strip()}"
        if found := re.search(r"Used (\d+) registers(.*)", line):
            shared = re.search(r"(\d+) bytes smem", found[2])
            barriers = re.search(r"used (\d+) barriers", found[2])
            rows.append((architecture, kernel, int(found[1]), int(shared[1]) if shared else 0,
                         int(barriers[1]) if barriers else 0))
    missing = set(architectures) - {row[0] for row in rows}
    if missing:
        return [], f"{source}: no kernel for sm_{', sm_'.join(sorted(missing))} in the compiler's output:\n{text}"
    return rows, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--nvcc", default=os.environ.get("CUDACXX", "nvcc"))
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    nvcc = shutil.which(arguments.nvcc)
    if not nvcc:
        print(f"gate.py: Skipped\nCUDA kernels were not compiled for GPUs: {arguments.nvcc} is not installed")
        return SKIPPED
    version = re.search(r"V([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    root = arguments.source.parent.parent
    folder = arguments.source
    jobs = [(source, ARCHITECTURES) for source in sorted([*folder.glob("*.cu"), *folder.glob("sm80/*.cu")])]
    jobs += [(source, WGMMA_ARCHITECTURES) for source in sorted(folder.glob("sm90/*.cu"))]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(lambda job: compile_one(nvcc, root, *job, arguments.scratch), jobs))
    errors = [error for _, error in results if error]
    table = [f"nvcc {version}; architecture, file, registers, bytes of static shared memory, barriers, kernel"]
    for (source, _), (rows, _) in zip(jobs, results):
        table += sorted(f"sm_{architecture:4} {source.relative_to(folder)!s:16} {registers:4} {shared:4} {barriers:3}  {kernel}"
                        for architecture, kernel, registers, shared, barriers in rows)
    print(f"{len(table) - 1} kernels compiled, of {len(jobs)} files")
    if errors:
        print("\n".join(errors))
        return 1
    if arguments.update:
        arguments.golden.write_text("\n".join(table) + "\n")
        print(f"{arguments.golden} written")
        return 0
    golden = arguments.golden.read_text().splitlines()
    if golden[0] != table[0]:
        print(f"registers not compared: {arguments.golden.name} is of {golden[0].split(';')[0]}, this is nvcc {version}")
        return 0
    changed = [f"- {line}" for line in golden if line not in table] + [f"+ {line}" for line in table if line not in golden]
    if changed:
        print("\n".join(changed))
        print(f"{arguments.golden.name} says otherwise. If the change is meant, review it and run gate.py --update.")
        return 1
    print(f"as {arguments.golden.name} has them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
