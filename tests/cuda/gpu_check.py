#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What to do in the first hour with a GPU: builds for it, checks everything, measures, writes one file to send back.

usage: gpu_check.py --gpu             whether there is one; exit code 77 and one line if not
       gpu_check.py BUILD_DIR OUT.json

A step that fails is recorded, and those that do not need it still run. OUT.json is written anew after each step, so
that whatever happens there is something to send. Exit code 0: nothing failed; what was left out stands in the file.
"""

import argparse
import datetime
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = 77  # of programs that say in one line why they do not run
KEPT_OUTPUT = 30_000  # characters of a step's output, its end
TOOLKIT = (13, 0)
WORK = "build for this GPU, self-checks, hardware facts, tests, memory checks, benchmarks"


@dataclass
class Step:
    name: str
    command: list
    needs: tuple = ()  # steps without whose success it cannot run
    minutes: float = 10
    left_out: str = ""  # why it is not even tried
    results: str = ""  # a JSON file that it writes, which goes into OUT.json
    table: bool = False  # show its output


def find_gpu():
    """(name, compute capability, driver) of the first, or in words why there is none."""
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"nvidia-smi does not run ({error})"
    lines = [line.split(", ") for line in run.stdout.splitlines()]
    if run.returncode != 0 or not lines or len(lines[0]) != 3:
        said = (run.stdout + run.stderr).strip().split("\n")[0]
        return None, f"nvidia-smi finds none ({said})"
    name, capability, driver = lines[0]
    if float(capability) < 8.0:
        return None, f"{name} has compute capability {capability}, and 8.0 is the oldest that is supported"
    return (name, capability, driver), ""


def nvcc_version(nvcc):
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


def find_nvcc():
    """nvcc as CUDACXX names it, on the PATH, where NVIDIA installs it, or where pip does; None, and what was found."""
    wheels = sorted((ROOT / ".venv").glob("lib/python3*/site-packages/nvidia/cu13/bin/nvcc"))
    found = []
    for place in [os.environ.get("CUDACXX"), "nvcc", "/usr/local/cuda/bin/nvcc", *map(str, wheels)]:
        nvcc = shutil.which(place) if place else None
        if nvcc and nvcc_version(nvcc) >= TOOLKIT:
            return nvcc, ""
        if nvcc:
            found.append(f"{nvcc} is of {'.'.join(map(str, nvcc_version(nvcc)))}")
    return None, "; ".join(found) or "nvcc was not found"


def toolkit_of(nvcc):
    """The folder that nvcc calls its own, wherever a link or a script to it lies."""
    dry = subprocess.run([nvcc, "--dryrun", "-E", "-x", "cu", "/dev/null"], capture_output=True, text=True)
    found = re.search(r"^#\$ TOP=(.+)$", dry.stderr, re.MULTILINE)
    return Path(found[1]).resolve() if found else Path(nvcc).resolve().parent.parent


def steps(build, capability, nvcc, nvcc_reason):
    program, tests, bench = build / "rewardhead", build / "tests/cuda/gpu_tests", build / "bench/bench_cuda"
    measured, torch_measured = build / "bench_cuda.json", build / "torch_cuda.json"
    built = ("build",)

    no_nvcc = "" if nvcc else f"CUDA 13.0 or later is needed; {nvcc_reason}"
    yield Step("toolkit", [nvcc, "--version"], left_out=no_nvcc)
    configure = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DREWARDHEAD_CUDA=ON"]
    configure += ["-DREWARDHEAD_GPU_TESTS=ON", f"-DCMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}"]
    configure += [f"-DCUDAToolkit_ROOT={toolkit_of(nvcc)}"] if nvcc else []
    yield Step("configure", configure, ("toolkit",))
    targets = ["rewardhead_cli", "gpu_tests", "bench_cuda"]
    yield Step("build", ["cmake", "--build", build, "--target", *targets], ("configure",), minutes=60)

    yield Step("kernels", [program, "info", "--device", "cuda"], built, table=True)
    # It creates plans, before which implementations check themselves; one that fails is named as left out.
    yield Step("self-checks", [bench, "--benchmark_list_tests=true"], built)
    yield Step("hardware facts", [tests, "--gtest_filter=*Hardware*"], built, minutes=5)
    yield Step("tests", [tests, "--gtest_filter=-*Hardware*"], built, minutes=30)
    sanitizer = shutil.which("compute-sanitizer")
    no_sanitizer = "" if sanitizer else "compute-sanitizer is not installed"
    for tool, tested in (("memcheck", "*"), ("racecheck", "*Exact*:*Hardware*"), ("synccheck", "*Exact*:*Hardware*")):
        command = [sanitizer, "--tool", tool, "--error-exitcode", "1", tests, f"--gtest_filter={tested}"]
        yield Step(f"compute-sanitizer {tool}", command, built, minutes=30, left_out=no_sanitizer)

    command = [bench, f"--benchmark_out={measured}", "--benchmark_out_format=json"]
    yield Step("benchmarks", command, built, minutes=60, results=str(measured), table=True)
    compared = ("benchmarks",)
    yield Step("predictions", [sys.executable, ROOT / "bench/predict.py", measured], compared, table=True)
    no_torch = "" if importlib.util.find_spec("torch") else f"{sys.executable} has no PyTorch"
    command = [sys.executable, ROOT / "bench/torch_cuda.py", measured, torch_measured]
    yield Step("PyTorch", command, compared, minutes=60, left_out=no_torch, results=str(torch_measured), table=True)


def run_step(step):
    """What OUT.json has of it."""
    if step.results:
        Path(step.results).unlink(missing_ok=True)  # of an earlier run
    start = time.monotonic()
    command = [str(word) for word in step.command]
    record = {"step": step.name, "command": command}
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   errors="replace", start_new_session=True)
    except OSError as error:
        return record | {"state": "failed", "output": str(error)}
    try:
        output, _ = process.communicate(timeout=60 * step.minutes)
        code = process.returncode
        state = "passed" if code == 0 else "left out" if code == LEFT_OUT else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code, state = None, "failed"
        output += f"\nended after {step.minutes:g} minutes"
    record |= {"state": state, "exit_code": code, "seconds": round(time.monotonic() - start, 1)}
    record["output"] = output[-KEPT_OUTPUT:]
    if step.results:
        try:
            record["results"] = json.loads(Path(step.results).read_text())
        except (OSError, ValueError) as error:
            record["results_missing"] = str(error)
            record["state"] = "failed" if state == "passed" else state
    return record


def write(report, path):
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(beside, path)


def check(gpu, build, out):
    name, capability, driver = gpu
    print(f"{name}, compute capability {capability}, driver {driver}", flush=True)
    report = {"started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    report |= {"gpu": name, "capability": capability, "driver": driver, "steps": []}
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    report["revision"] = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts
    states = {}
    build.mkdir(parents=True, exist_ok=True)
    for step in steps(build, capability, *find_nvcc()):
        missing = [needed for needed in step.needs if states.get(needed) != "passed"]
        if missing:
            record = {"step": step.name, "state": "not done", "output": f"needs {', '.join(missing)}"}
        elif step.left_out:
            record = {"step": step.name, "state": "left out", "output": step.left_out}
        else:
            print(f"  {step.name} ...", flush=True)
            record = run_step(step)
        states[step.name] = record["state"]
        report["steps"].append(record)
        write(report, out)
        if step.table and record["state"] == "passed":
            print(record["output"], flush=True)
    for record in report["steps"]:
        lines = record["output"].strip().split("\n")
        why = "" if record["state"] == "passed" else lines[-1]
        print(f"{record['step']:28} {record['state']:9} {why}".rstrip())
    print(f"\n{out} has everything; please send it back.")
    return 1 if any(state in ("failed", "not done") for state in states.values()) else 0


def main():
    parser = argparse.ArgumentParser(usage="gpu_check.py --gpu | BUILD_DIR OUT.json")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args()
    if len(arguments.paths) != (0 if arguments.gpu else 2):
        parser.error("a build folder and a file to write are expected")
    gpu, reason = find_gpu()
    if not gpu:
        print(f"gpu-check: there is no GPU to check: {reason}. Not done: {WORK}.")
        return LEFT_OUT
    return 0 if arguments.gpu else check(gpu, *(path.absolute() for path in arguments.paths))


if __name__ == "__main__":
    sys.exit(main())
