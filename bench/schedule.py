# SPDX-License-Identifier: Apache-2.0
"""Who is run, in which order, and for how long: bench_kernels and PyTorch in turns, until the time is used."""

import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import targets
from results import add_limits, add_measurements, row
from workload import expected_seconds, split_name

FOLDER = pathlib.Path(__file__).resolve().parent
BUILD = FOLDER.parent / "build"
SECONDS = 0.01  # over which calls are averaged; the least of several such means counts


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
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(BUILD / "inductor")} | os.environ
        # A file takes whatever a compiler says; a pipe that nobody reads meanwhile would fill up and stop the process.
        self.log = BUILD / "torch_worker.log"
        BUILD.mkdir(exist_ok=True)
        with self.log.open("w") as log:
            self.process = subprocess.Popen([sys.executable, FOLDER / "torch_worker.py"], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        self.version = self.answer()["version"]

    def close(self):
        if self.version:
            self.process.communicate()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            last_lines = self.log.read_text(errors="replace").splitlines()[-20:]
            sys.exit("\n".join([f"report: bench/torch_worker.py ended; the end of {self.log}:", *last_lines]))
        return json.loads(line)

    def measure(self, measurements, workload, repetitions, failed, threads, compiled=False):
        if not self.version:
            return
        request = {"workload": workload.name, "threads": threads, "compiled": compiled, "repetitions": repetitions,
                   "seconds": SECONDS}
        with contextlib.suppress(BrokenPipeError):  # it has ended: there is no answer, and that is reported
            print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.answer()
        for count, seconds in answer["seconds"].items():
            for who, value in seconds.items():
                if (workload.name, int(count)) in measurements:
                    measurements[workload.name, int(count)].add(who, value)
        for who, why in answer["failed"].items():
            failed.setdefault(f"{who}: {why}", []).append(workload.name)


def repetitions(workload):
    return 2 if expected_seconds(workload) < 0.04 else 1


class Schedule:
    """Turns of ours and PyTorch over the workloads, for as long as the clock allows."""

    def __init__(self, kernels, torch, workloads, clock):
        self.kernels, self.torch, self.clock = kernels, torch, clock
        self.slow = [workload for workload in workloads if expected_seconds(workload) > 1]
        self.workloads = [workload for workload in workloads if workload not in self.slow]
        self.measurements, self.failed = {}, {}
        self.turns = dict.fromkeys(self.workloads, 0)
        self.seconds = dict.fromkeys(self.workloads, 0)  # that the latest turn took
        self.ours_by_turn = {}
        self.compiled = set()  # workloads that torch.compile is measured at
        self.left_out = []

    def unsteadiness(self):
        """By how much our slowest turn is slower than our fastest, the median over workloads; None after one turn."""
        spreads = [max(times) / min(times) - 1 for times in self.ours_by_turn.values() if len(times) > 1]
        return statistics.median(spreads) if spreads else None

    def wants_compiled(self, workload):
        rows = [row(self.measurements[workload.name, threads], {}, 0) for threads in self.kernels.threads]
        return any(map(targets.wants_compiled, rows))

    def take(self, workload, compiled, torch_first):
        """One turn of one workload."""
        start = self.clock.elapsed()
        times = repetitions(workload)

        def ours():
            of_turn = {}
            self.kernels.measure(of_turn, workload, times, self.failed)
            for key, measurement in of_turn.items():
                self.ours_by_turn.setdefault(key, []).append(measurement.seconds["ours"])
                for who, seconds in measurement.seconds.items():
                    self.measurements.setdefault(key, measurement).add(who, seconds)

        def theirs():
            self.torch.measure(self.measurements, workload, times, self.failed, self.kernels.threads, compiled)

        for side in (theirs, ours) if torch_first else (ours, theirs):
            side()
        self.turns[workload] += 1
        self.seconds[workload] = self.clock.elapsed() - start

    def first_turn(self, reserved):
        """Everything once, PyTorch eager alone, until no more than `reserved` seconds are left."""
        say(f"Turn 1: {len(self.workloads)} workloads, at {' and '.join(map(str, self.kernels.threads))} threads ...")
        for number, workload in enumerate(self.workloads):
            if self.clock.left() < reserved:
                self.left_out.append("for time: " + ", ".join(left.name for left in self.workloads[number:]))
                self.workloads = self.workloads[:number]
                return
            self.take(workload, compiled=False, torch_first=False)

    def compiled_turn(self):
        """Everything again, what torch.compile is wanted for first: a function takes some seconds when it is new."""
        with_compile = ", with torch.compile where a target asks for it" if self.torch.version else ""
        say(f"[{self.clock.elapsed():.0f} s] Turn 2{with_compile} ...")
        order = sorted(self.workloads, key=lambda workload: not self.wants_compiled(workload))
        compile_seconds, too_late = 0, []
        for workload in order:
            compiled, before = self.torch.version and self.wants_compiled(workload), self.seconds[workload]
            if self.clock.left() < before + (compile_seconds if compiled else 0):
                too_late += [workload.name] if compiled else []
                continue
            self.take(workload, compiled, torch_first=True)
            if compiled:
                self.compiled.add(workload)
                compile_seconds = max(compile_seconds, self.seconds[workload] - before)
        if too_late:
            self.left_out.append("torch.compile, for time (what is compiled stays in build/inductor, so that the next "
                                 "run gets further): " + ", ".join(too_late))

    def slow_workloads(self):
        """Once, beside OpenBLAS and PyTorch alone: a call takes seconds."""
        for workload in self.slow:
            if self.clock.left() < 25 * expected_seconds(workload):
                self.left_out.append(f"for time: {workload.name}")
                continue
            self.kernels.measure(self.measurements, workload, 1, self.failed, everyone=False)
            self.torch.measure(self.measurements, workload, 1, self.failed, self.kernels.threads)

    def more_turns(self):
        """Until the time is used: the least of times that are minutes apart is what an idle machine takes."""
        turn, order = 3, sorted(self.workloads, key=lambda workload: not self.wants_compiled(workload))
        while any(self.seconds[workload] < self.clock.left() for workload in order):
            say(f"[{self.clock.elapsed():.0f} s] Turn {turn} ...")
            for workload in order:
                if self.seconds[workload] < self.clock.left():
                    self.take(workload, workload in self.compiled, turn % 2 == 0)
            turn += 1
