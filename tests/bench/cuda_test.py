# SPDX-License-Identifier: Apache-2.0
"""usage: cuda_test.py BENCH_CUDA_ON_THE_SOFTWARE_DEVICE"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = sys.argv.pop(1)
TORCH_CUDA = Path(__file__).parents[2] / "bench" / "torch_cuda.py"
LINEAR_STEP = "step/input:2048/hidden:0/members:1/rows:8/pairs:4/dtype:bf16"


def run(*command, **environment):
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


class WithoutAGpu(unittest.TestCase):
    def check_left_out(self, run, says):
        self.assertEqual((run.returncode, run.stdout), (77, ""))
        self.assertRegex(run.stderr, rf"^{says}.*\n\Z")

    def test_bench_cuda_says_so_in_one_line(self):
        self.check_left_out(run(PROGRAM, SIMT_DEVICES="0"), "bench_cuda: left out: device is cuda: there is no GPU")

    def test_torch_cuda_says_so_in_one_line(self):
        self.check_left_out(
            run(sys.executable, TORCH_CUDA, "ours.json", "out.json", CUDA_VISIBLE_DEVICES=""),
            r"torch_cuda.py: left out: PyTorch (is not installed|\S+ finds no GPU that it can use)",
        )


class OnTheSoftwareDevice(unittest.TestCase):
    def test_all_implementations_are_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "cuda.json"
            measured = run(PROGRAM, f"--benchmark_filter=^{LINEAR_STEP}/", f"--benchmark_out={out}")
            self.assertEqual(measured.returncode, 0, measured.stderr)
            results = json.loads(out.read_text())
        self.assertEqual(results["context"]["implementations"], "sm90a sm80 cublaslt")
        names = {entry["name"].removesuffix("/min_time:0.010/manual_time") for entry in results["benchmarks"]}
        conditions = ("data:cold/launch:stream", "data:cold/launch:graph", "data:warm/launch:graph")
        expected = {f"{LINEAR_STEP}/by:{who}/{how}" for who in ("sm90a", "sm80", "cublaslt") for how in conditions}
        self.assertEqual(names, expected)
        for entry in results["benchmarks"]:
            self.assertNotIn("error_occurred", entry)
            self.assertGreater(entry["real_time"], 0)


if __name__ == "__main__":
    unittest.main()
