#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the CUDA compiler says of the kernels, held against gate.txt: the gate that needs no GPU.

usage: gate.py --source kernels/cuda --golden gate.txt --scratch DIR [--update]

Compiles every kernel for every architecture. Spills, local memory and the C75xx notes by which ptxas says that it
serialises wgmma are errors. Registers, static shared memory and barriers of each kernel must be those of gate.txt,
which --update writes anew for review; with another nvcc than wrote it they are not compared, and that is said.
Dynamic shared memory is a constant in the sources, and the launchers' business. What calls CUDA from the host, and is
compiled with the software device's headers by the tests, is compiled with those of the toolkit.

Where nvdisasm is installed (PyPI: nvidia-cuda-nvdisasm), the main loops of the matrix products are held against
gate_loops.txt likewise (sass.py): how many instructions they have, and of the kinds that matter. A memory fence in one
is an error.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import sass
from toolkit import find_nvcc

ARCHITECTURES = ["80", "86", "89", "90", "100", "120"]
WGMMA_ARCHITECTURES = ["90a"]  # of what lies in sm90/
FLAGS = ["-std=c++20", "-fmad=false", "--expt-relaxed-constexpr", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage,-Werror"]
PRODUCTS = ["sm80", "sm90"]  # folders of what has main loops to look at
SKIPPED = 77


def short_name(demangled):
    """With template arguments, without return type, namespaces and parameters."""
    name = re.sub(r"^void ", "", re.sub(r"\(anonymous namespace\)::", "", demangled))
    name = re.sub(r"\((?:\w|::)+\)(?=\d)", "", name.rsplit("(", 1)[0]).replace("rewardhead::kernels::", "")
    return name.replace("cuda::", "")


def by_architecture(line):
    return int(re.match(r"sm_(\d+)", line)[1]), line


def loops_of(folder, nvdisasm):
    """Lines of gate_loops.txt about the machine code in a folder, and what is wrong."""
    lines, errors = [], []
    for cubin in sorted(folder.glob("*.cubin")):
        rows, wrong = sass.describe(cubin, nvdisasm)
        errors += wrong
        for architecture, mangled, loops in rows:
            demangled = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
            lines += [f"sm_{architecture:4} {short_name(demangled)}: {loop}" for loop in loops]
    return sorted(lines, key=by_architecture), errors


def compile_one(nvcc, nvdisasm, root, source, architectures, scratch):
    """[(architecture, kernel, registers, shared, barriers)], [lines of gate_loops.txt], or what went wrong."""
    made = scratch / f"{source.parent.name}_{source.stem}.o"
    kept = scratch / source.parent.name
    looks = nvdisasm and source.parent.name in PRODUCTS
    if looks:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
    targets = [word for a in architectures for word in ("-gencode", f"arch=compute_{a},code=sm_{a}")]
    keep = ["--keep", "--keep-dir", str(kept)] if looks else []
    command = [nvcc, *FLAGS, f"-I{root}", *targets, *keep, "-c", "-o", str(made), str(source)]
    run = subprocess.run(command, capture_output=True, text=True)
    made.unlink(missing_ok=True)
    text = subprocess.run(["c++filt"], input=run.stdout + run.stderr, capture_output=True, text=True, check=True).stdout
    if run.returncode:
        return [], [], f"{source} does not compile:\n{text}"
    if re.search(r"\bC75\d\d\b|serializ", text):
        return [], [], f"{source}: ptxas serialises wgmma:\n{text}"
    rows, kernel, architecture = [], None, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(.*)' for 'sm_(\w+)'", line):
            kernel, architecture = short_name(found[1]), found[2]
        if found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if any(int(n) for n in found.groups()):
                return [], [], f"{source} for sm_{architecture}: {kernel} uses local memory: {line.strip()}"
        if found := re.search(r"Used (\d+) registers(.*)", line):
            shared = re.search(r"(\d+) bytes smem", found[2])
            barriers = re.search(r"used (\d+) barriers", found[2])
            rows.append((architecture, kernel, int(found[1]), int(shared[1]) if shared else 0,
                         int(barriers[1]) if barriers else 0))
    missing = set(architectures) - {row[0] for row in rows}
    if missing:
        return [], [], f"{source}: no kernel for sm_{', sm_'.join(sorted(missing))} in the compiler's output:\n{text}"
    loops, wrong = loops_of(kept, nvdisasm) if looks else ([], [])
    return rows, loops, "\n".join(wrong)


def check_host(nvcc, root, source):
    """What the C++ compiler behind nvcc says of a source with CUDA's own headers; nothing is made."""
    command = [nvcc, "-std=c++20", "-Xcompiler", "-fsyntax-only,-Wall,-Wextra,-Werror", f"-I{root}",
               f"-I{root}/host/include", "-DREWARDHEAD_HAS_CUDA=1", "-c", "-o", os.devnull, str(source)]
    run = subprocess.run(command, capture_output=True, text=True)
    return f"{source} does not compile with the toolkit's headers:\n{run.stderr}" if run.returncode else ""


def compare(golden_file, found, update, what):
    """Whether a table is that of the committed file, which begins with the compiler's version."""
    if update:
        golden_file.write_text("\n".join(found) + "\n")
        print(f"{golden_file} written")
        return True
    golden = golden_file.read_text().splitlines()
    if golden[0] != found[0]:
        versions = [table[0].split(";")[0] for table in (golden, found)]
        # Printed as GoogleTest does, for ./run test to list.
        why = f"{golden_file.name} is of {versions[0]}, this is {versions[1]}"
        print(f"gate.py: Skipped\n{what} of the CUDA kernels were not compared: {why}")
        return True
    lost, new = Counter(golden) - Counter(found), Counter(found) - Counter(golden)
    changed = [f"- {line}" for line in lost.elements()] + [f"+ {line}" for line in new.elements()]
    if changed:
        print("\n".join(changed))
        print(f"{golden_file.name} says otherwise. If the change is meant, review it and run gate.py --update.")
        return False
    print(f"{what} as {golden_file.name} has them")
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    nvcc, reason = find_nvcc()
    if not nvcc:
        print(f"gate.py: Skipped\nCUDA kernels were not compiled for GPUs: CUDA 13.0 or later is needed; {reason}")
        return SKIPPED
    version = re.search(r"V([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    root = arguments.source.parent.parent
    folder = arguments.source
    jobs = [(source, ARCHITECTURES) for source in sorted([*folder.glob("*.cu"), *folder.glob("sm80/*.cu")])]
    jobs.append((root / "host/training/gather_rows.cu", ARCHITECTURES))  # the program's own
    jobs += [(source, WGMMA_ARCHITECTURES) for source in sorted(folder.glob("sm90/*.cu"))]
    # What ./run gpu-check asks of a GPU first.
    tests = root / "tests/cuda"
    jobs += [(tests / "hardware_sm80.cu", ARCHITECTURES), (tests / "hardware_sm90.cu", WGMMA_ARCHITECTURES)]
    nvdisasm = sass.find_nvdisasm(root)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(lambda job: compile_one(nvcc, nvdisasm, root, *job, arguments.scratch), jobs))
        host = sorted(root.glob("host/*/cu*.cpp"))
        host += [root / "host/python/bindings/machine.cpp", root / "bench/peers/cuda.cpp"]
        refused = list(pool.map(lambda source: check_host(nvcc, root, source), host))
    errors = [error for error in [*(error for _, _, error in results), *refused] if error]
    table = [f"nvcc {version}; architecture, file, registers, bytes of static shared memory, barriers, kernel"]
    for (source, _), (rows, _, _) in zip(jobs, results):
        file = str(source.relative_to(folder)) if folder in source.parents else source.name
        table += sorted((f"sm_{architecture:4} {file:16} {registers:4} {shared:4} {barriers:3}  {kernel}"
                         for architecture, kernel, registers, shared, barriers in rows), key=by_architecture)
    print(f"{len(table) - 1} kernels compiled, of {len(jobs)} files, and {len(host)} files of the host")
    if errors:
        print("\n".join(errors))
        return 1
    same = compare(arguments.golden, table, arguments.update, "registers")
    if not nvdisasm:  # printed as GoogleTest does, for ./run test to list
        print("gate.py: Skipped\nmain loops of the CUDA kernels were not counted: nvdisasm is not installed")
        return 0 if same else 1
    loops = [f"nvcc {version}; architecture, kernel, main loops: of each all instructions, and those of some kinds"]
    for _, lines, _ in results:
        loops += lines
    loops_file = arguments.golden.with_name(f"{arguments.golden.stem}_loops.txt")
    return 0 if compare(loops_file, loops, arguments.update, "main loops") and same else 1


if __name__ == "__main__":
    sys.exit(main())
