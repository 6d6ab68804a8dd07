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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit import ROOT, find_nvcc, toolkit_of

LEFT_OUT = 77  # of programs that say in one line why they do not run
KEPT_OUTPUT = 30_000  # characters of a step's output, its end
WORK = "build for this GPU, self-checks, hardware facts, tests, memory checks, training, benchmarks"
# Of held-out losses of one training on the GPU and on the CPU. On the software device they differ by 1.1e-5 of it after
# these 20 epochs.
LOSS_BOUND = 1e-3


@dataclass
class Step:
    name: str
    command: list
    needs: tuple = ()  # steps without whose success it cannot run
    minutes: float = 10
    left_out: str = ""  # why it is not even tried
    results: str = ""  # a JSON file that it writes, which goes into OUT.json
    table: bool = False  # show its output
    fault: Callable = lambda output, results: ""  # what is wrong with them although the exit code is 0


def find_gpu():
    """(name, compute capability, driver) of the one that CUDA calls its first, or in words why there is none."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,compute_cap,driver_version,name", "--format=csv,noheader"]
    try:
        run = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return None, "nvidia-smi, which comes with NVIDIA's driver, was not found"
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"nvidia-smi does not run ({error})"
    gpus = [line.split(", ", 4) for line in run.stdout.splitlines()]
    if run.returncode != 0 or not gpus or len(gpus[0]) != 5:
        said = (run.stdout + run.stderr).strip().split("\n")[0]
        return None, f"nvidia-smi finds none ({said})"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", gpus[0][0])
    first = visible.split(",")[0].strip()
    gpu = next((gpu for gpu in gpus if first == gpu[0] or first.startswith("GPU-") and gpu[1].startswith(first)), None)
    if not gpu:
        return None, f"CUDA_VISIBLE_DEVICES is '{visible}'; the first is none of nvidia-smi's GPUs"
    _, _, capability, driver, name = gpu
    if float(capability) < 8.0:
        return None, f"{name} has compute capability {capability}, and 8.0 is the oldest that is supported"
    return (name, capability, driver), ""


def kernels_fault(output, _):
    """Each implementation agrees with the CPU, unless the GPU or the machine lacks what it needs."""
    wrong = {}
    for kernel in json.loads(output)["kernels"]:
        reason = kernel["reason"]
        if not re.search(r"agrees with the CPU$|^the GPU lacks |was not found by the dynamic linker", reason):
            wrong[kernel["implementation"]] = reason
    return "; ".join(f"{name}: {reason}" for name, reason in wrong.items())


def benchmarks_fault(_, results):
    failed = [entry for entry in results["benchmarks"] if entry.get("error_occurred")]
    return f"{len(failed)} failed; {failed[0]['name']}: {failed[0].get('error_message')}" if failed else ""


def training_fault(cpu_report):
    def fault(_, results):
        cpu = json.loads(cpu_report.read_text())["held_out"]["nll"]
        gpu = results["held_out"]["nll"]
        wrong = not abs(gpu - cpu) <= LOSS_BOUND * cpu  # NaN is
        return f"held-out loss is {gpu}; the CPU has {cpu}, and {LOSS_BOUND:g} of it is the bound" if wrong else ""

    return fault


def steps(build, capability, nvcc, nvcc_reason):
    program, tests, bench = build / "rewardhead", build / "tests/cuda/gpu_tests", build / "bench/bench_cuda"
    interface_tests = build / "tests/host/cuda/gpu_runtime_tests"
    measured, torch_measured = build / "bench_cuda.json", build / "torch_cuda.json"
    built = ("build",)

    no_nvcc = "" if nvcc else f"CUDA 13.0 or later is needed; {nvcc_reason}"
    yield Step("toolkit", [nvcc, "--version"], left_out=no_nvcc)
    configure = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DREWARDHEAD_CUDA=ON"]
    configure += ["-DREWARDHEAD_GPU_TESTS=ON", f"-DCMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}"]
    configure += [f"-DCUDAToolkit_ROOT={toolkit_of(nvcc)}"] if nvcc else []
    yield Step("configure", configure, ("toolkit",))
    targets = ["rewardhead_cli", "gpu_tests", "gpu_runtime_tests", "bench_cuda"]
    yield Step("build", ["cmake", "--build", build, "--target", *targets], ("configure",), minutes=60)

    # It has every implementation check itself.
    yield Step("kernels", [program, "info", "--device", "cuda", "--json"], built, fault=kernels_fault)
    yield Step("hardware facts", [tests, "--gtest_filter=*Hardware*"], built, minutes=5)
    yield Step("tests", [tests, "--gtest_filter=-*Hardware*"], built, minutes=30)
    yield Step("tests of the C interface", [interface_tests], built)
    sanitizer = shutil.which("compute-sanitizer")
    no_sanitizer = "" if sanitizer else "compute-sanitizer is not installed"
    for tool, tested in (("memcheck", "*"), ("racecheck", "*Exact*:*Hardware*"), ("synccheck", "*Exact*:*Hardware*")):
        command = [sanitizer, "--tool", tool, "--error-exitcode", "1", tests, f"--gtest_filter={tested}"]
        yield Step(f"compute-sanitizer {tool}", command, built, minutes=30, left_out=no_sanitizer)
    command = [sanitizer, "--tool", "memcheck", "--error-exitcode", "1", interface_tests]
    yield Step("compute-sanitizer memcheck, C interface", command, built, minutes=30, left_out=no_sanitizer)

    data, runs = ROOT / "host/sample_data", build / "training"
    command = [program, "train", "--embeddings", data / "embeddings.npy", "--pairs", data / "pairs.csv"]
    command += ["--items", data / "items.csv", "--group-column", "debate", "--folds", "4", "--fold", "0"]
    command += ["--hidden", "256", "--epochs", "20", "--standardize", "--log-every", "0"]
    cpu, gpu = ([*command, "--device", device, "--out", runs / device] for device in ("cpu", "cuda"))
    yield Step("training on the CPU", cpu, built, results=str(runs / "cpu/report.json"))
    yield Step("training", gpu, ("training on the CPU",), results=str(runs / "cuda/report.json"),
               fault=training_fault(runs / "cpu/report.json"))

    command = [bench, f"--benchmark_out={measured}", "--benchmark_out_format=json"]
    yield Step("benchmarks", command, built, minutes=60, results=str(measured), table=True,
               fault=benchmarks_fault)
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
    if record["state"] == "passed":
        try:
            fault = step.fault(output, record.get("results"))
        except (KeyError, ValueError) as error:
            fault = f"not what was expected of it: {error!r}"
        if fault:
            record |= {"state": "failed", "output": f"{record['output']}\n{fault}"}
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
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
    states, done = {}, set()
    build.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(build / "training", ignore_errors=True)  # of an earlier run
    for step in steps(build, capability, *find_nvcc()):
        missing = [needed for needed in step.needs if needed not in done]
        if missing:
            record = {"step": step.name, "state": "not done", "output": f"needs {', '.join(missing)}"}
        elif step.left_out:
            record = {"step": step.name, "state": "left out", "output": step.left_out}
        else:
            print(f"  {step.name} ...", flush=True)
            record = run_step(step)
        states[step.name] = record["state"]
        if record.get("exit_code") == 0 and "results_missing" not in record:  # whatever is wrong with what it made
            done.add(step.name)
        report["steps"].append(record)
        write(report, out)
        if step.table and record["state"] == "passed":
            print(record["output"], flush=True)
    for record in report["steps"]:
        lines = record["output"].strip().split("\n")
        why = "" if record["state"] == "passed" else lines[-1]
        print(f"{record['step']:38} {record['state']:9} {why}".rstrip())
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
