# SPDX-License-Identifier: Apache-2.0
"""What gpu_check.py does around its steps, with programs that only look like those it runs."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
from pathlib import Path

import gpu_check

PROGRAM = Path(__file__).with_name("gpu_check.py")
FORWARD = "forward/input:3584/hidden:3584/members:1/rows:1024/pairs:0/dtype:bf16/by:sm80/data:cold/launch:graph"
KERNELS = [("sm90a", "the GPU lacks wgmma"), ("sm80", "the best that this GPU runs, agrees with the CPU"),
           ("cublaslt", "cuBLASLt: libcublasLt.so.13 was not found by the dynamic linker")]  # fmt: skip
MEASURED = {
    "context": {"gpu": "card", "capability": "8.6", "multiprocessors": "84", "copy_bytes_per_second": "1e12"},
    "benchmarks": [{"name": FORWARD, "run_type": "iteration", "real_time": 100.0, "time_unit": "us"}],
}


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.programs, self.build, self.out = self.folder / "bin", self.folder / "build", self.folder / "out.json"
        self.fake("nvidia-smi", "echo '0, GPU-aa-1, 8.6, 580.1, Some Card'; echo '1, GPU-bb-2, 9.0, 580.1, Other'")
        self.fake("nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'")
        self.fake("compute-sanitizer", "shift 4; exec \"$@\"")
        (self.folder / "measured.json").write_text(json.dumps(MEASURED))
        self.program(KERNELS, "0.5001")
        self.after_build("tests/cuda/gpu_tests", "echo tested $*")
        self.after_build("tests/host/cuda/gpu_runtime_tests", "echo tested $*")
        copy = f'case $1 in --benchmark_out=*) cp {self.folder}/measured.json "${{1#--benchmark_out=}}";; esac'
        self.after_build("bench/bench_cuda", copy)
        # Configures nothing; builds by putting the programs where they are looked for.
        self.fake("cmake", f'[ "$1" != --build ] || cp -r {self.folder}/built/. "$2"')

    def program(self, kernels, gpu_loss):
        """`info` tells of kernels; `train` ends with a loss, 0.5 on the CPU."""
        told = [{"operation": "forward", "implementation": name, "reason": reason} for name, reason in kernels]
        self.after_build("rewardhead", f"""[ $1 = train ] || {{ echo '{json.dumps({"kernels": told})}'; exit; }}
loss=0.5 out=
while [ $# -gt 0 ]; do
  [ "$1" != --out ] || out=$2
  [ "$1" != cuda ] || loss={gpu_loss}
  shift
done
mkdir -p "$out"
echo "{{\\"held_out\\": {{\\"nll\\": $loss}}}}" >"$out/report.json" """)

    def fake(self, name, script):
        self.write(self.programs / name, script)

    def after_build(self, name, script):
        self.write(self.folder / "built" / name, script)

    @staticmethod
    def write(path, script):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run_program(self, *arguments):
        environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, PROGRAM, *(arguments or (self.build, self.out))]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def states(self, exit_code):
        result = self.run_program()
        self.assertEqual(result.returncode, exit_code, result.stdout + result.stderr)
        self.report = json.loads(self.out.read_text())
        return {step["step"]: step["state"] for step in self.report["steps"]}

    def step(self, name):
        return next(step for step in self.report["steps"] if step["step"] == name)

    def test_without_a_gpu_one_line_and_nothing_written(self):
        os.unlink(self.programs / "nvidia-smi")
        for arguments in (("--gpu",), ()):
            result = self.run_program(*arguments)
            self.assertEqual(result.returncode, 77)
            self.assertEqual(result.stdout.count("\n"), 1)
            self.assertIn("there is no GPU to check: nvidia-smi, which comes with NVIDIA's driver, was not found",
                          result.stdout)
            self.assertIn("Not done: ", result.stdout)
        self.assertFalse(self.out.exists())
        self.fake("nvidia-smi", "echo 'No devices were found'; exit 6")
        self.assertIn("No devices were found", self.run_program("--gpu").stdout)
        self.fake("nvidia-smi", "echo '0, GPU-cc-3, 7.5, 580.1, Old Card'")
        self.assertIn("7.5", self.run_program("--gpu").stdout)

    def test_everything_is_run_and_recorded(self):
        states = self.states(0)
        self.assertEqual((self.report["gpu"], self.report["capability"]), ("Some Card", "8.6"))
        self.assertEqual((states.pop("PyTorch"), states.pop("predictions")), ("left out", "left out"))  # of 8.6
        self.assertEqual(set(states.values()), {"passed"}, states)
        self.assertIn("-DCMAKE_CUDA_ARCHITECTURES=86", self.step("configure")["command"])
        self.assertEqual(self.step("benchmarks")["results"], MEASURED)
        self.assertIn("compute capability 8.6 has no prediction", self.step("predictions")["output"])
        self.assertEqual(self.step("tests")["output"], "tested --gtest_filter=-*Hardware*\n")
        self.assertIn("tested", self.step("compute-sanitizer racecheck")["output"])

    def test_what_fails_is_recorded_and_the_rest_runs(self):
        self.after_build("tests/cuda/gpu_tests", "echo 'This assumption is wrong'; exit 1")
        states = self.states(1)
        self.assertEqual((states["hardware facts"], states["tests"]), ("failed", "failed"))
        self.assertIn("assumption", self.step("hardware facts")["output"])
        self.assertEqual(states["benchmarks"], "passed")

    def test_a_kernel_that_failed_its_check(self):
        for reason in ("failed the check of its products on this GPU: dx[3] is 1; the CPU has 2", "not checked yet"):
            self.program([*KERNELS[:2], ("cublaslt", reason)], "0.5")
            self.assertEqual(self.states(1)["kernels"], "failed")
            self.assertTrue(self.step("kernels")["output"].endswith(f"\ncublaslt: {reason}"))

    def test_training_must_end_as_on_the_cpu(self):
        for loss in ("0.501", "NaN"):
            self.program(KERNELS, loss)
            self.assertEqual(self.states(1)["training"], "failed")
            self.assertIn("the CPU has 0.5", self.step("training")["output"])

    def test_benchmarks_with_errors_failed_but_are_compared(self):
        broken = {"name": "adamw/by:sm80", "error_occurred": True, "error_message": "not the same result"}
        measured = {"context": MEASURED["context"] | {"capability": "8.0"}}
        measured["benchmarks"] = [*MEASURED["benchmarks"], broken]
        (self.folder / "measured.json").write_text(json.dumps(measured))
        states = self.states(1)
        self.assertEqual((states["benchmarks"], states["predictions"]), ("failed", "passed"))
        self.assertIn("1 failed; adamw/by:sm80: not the same result", self.step("benchmarks")["output"])
        self.assertIn("# Measured, and predicted", self.step("predictions")["output"])

    def test_the_gpu_is_the_one_that_cuda_sees(self):
        for visible, name in (("1,0", "Other"), ("GPU-bb", "Other"), ("0", "Some Card"), ("", None), ("7", None)):
            environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": visible}
            with unittest.mock.patch.dict(os.environ, environment):
                gpu, reason = gpu_check.find_gpu()
            self.assertEqual(gpu and gpu[0], name)
            self.assertTrue(gpu or f"CUDA_VISIBLE_DEVICES is '{visible}'" in reason, reason)

    def test_what_cannot_run_is_not_done(self):
        self.fake("cmake", '[ "$1" != --build ] || { echo no such register; exit 2; }')
        states = self.states(1)
        self.assertEqual((states["build"], states["tests"], states["PyTorch"]), ("failed", "not done", "not done"))
        self.assertEqual(self.step("tests")["output"], "needs build")
        self.assertEqual(self.step("build")["exit_code"], 2)

    def test_what_is_not_installed_is_left_out(self):
        os.unlink(self.programs / "compute-sanitizer")
        self.assertEqual(self.states(0)["compute-sanitizer memcheck"], "left out")

    def test_an_old_toolkit_is_named(self):
        self.fake("nvcc", "echo 'Cuda compilation tools, release 12.4, V12.4.1'")
        result = subprocess.run(  # /usr/local/cuda may have a newer one
            [sys.executable, "-c", "import toolkit; toolkit.shutil.which = lambda p: p if p == 'nvcc' else None; "
             "print(toolkit.find_nvcc())"], capture_output=True, text=True, cwd=PROGRAM.parent,
            env={"PATH": f"{self.programs}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
        self.assertEqual(result.stdout, "(None, 'nvcc is of 12.4')\n", result.stderr)

    def test_what_hangs_is_ended_with_its_children(self):
        start = time.monotonic()
        record = gpu_check.run_step(gpu_check.Step("hangs", ["sh", "-c", "echo begun; sleep 60; true"], minutes=0.01))
        self.assertEqual((record["state"], record["exit_code"]), ("failed", None))
        self.assertTrue(record["output"].startswith("begun\n"))
        self.assertLess(time.monotonic() - start, 30)

    def test_benchmarks_without_results_failed(self):
        self.after_build("bench/bench_cuda", "true")
        self.assertEqual(self.states(1)["benchmarks"], "failed")
        self.assertIn("bench_cuda.json", self.step("benchmarks")["results_missing"])


if __name__ == "__main__":
    unittest.main()
