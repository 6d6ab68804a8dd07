# SPDX-License-Identifier: Apache-2.0
import json
import math
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import predict
from workload import Workload

PROGRAM = Path(predict.__file__)
H100 = predict.CARDS["9.0"]
FORWARD = "forward/input:3584/hidden:3584/members:1/rows:1024/pairs:0/dtype:bf16"


def run(*arguments):
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True)


def measured(names_and_us, capability="9.0"):
    context = {"gpu": "some card", "capability": capability, "multiprocessors": "132", "copy_bytes_per_second": "2.9e12"}
    entries = [{"name": n, "run_type": "iteration", "real_time": us, "time_unit": "us"} for n, us in names_and_us]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"context": context, "benchmarks": entries}, file)
        file.flush()
        return run(file.name)


class Predict(unittest.TestCase):
    def test_passes_are_those_of_the_kernels(self):
        self.assertEqual([predict.passes(a, 2) for a in (1, 2)] + [predict.passes(3, 3)], [2, 3, 6])

    def test_constants_are_those_of_the_kernels(self):
        cuda = PROGRAM.parents[1] / "kernels" / "cuda"

        def found(file, pattern):
            matches = re.findall(pattern, (cuda / file).read_text())
            self.assertEqual(len(matches), 1, f"{pattern} in {file}")
            return matches[0]

        self.assertEqual(float(found("mlp.h", r"launch_us = (\S+);")), predict.LAUNCH_US)
        bytes_us, terabytes = found("mlp.h", r"part_us = (\S+) / (\S+) \* static_cast")
        self.assertEqual(float(bytes_us) / float(terabytes), predict.PART_US)
        self.assertEqual(int(found("mlp_forward.cu", r"plan\.rows \* units\.units, (\d+)};")), predict.FORWARD_SPLITS)
        self.assertEqual(int(found("mlp_backward.cu", r"units\.units \* plan\.input, (\d+)};")), predict.W1_SPLITS)
        kinds = ((predict.FORWARD, "forward.h", "Forward"), (predict.MASKED, "masked_gemm.h", "Masked"))
        for tiles, header, kind in kinds:
            for implementation, tile in tiles.items():
                folder = implementation.removesuffix("a")
                text = found(f"{folder}/products.cu", rf"ProductTile k{kind}Tile = {{(.*)}};")
                *names, step_us = text.replace(f"{kind}Tile::", "").split(", ")
                path = f"{folder}/{header}"
                values = [int(found(path, rf"static constexpr int .*\b{name} = (\d+)")) for name in names]
                self.assertEqual([*values, float(step_us)], [tile.rows, tile.columns, tile.step, tile.step_us])

    def test_product_by_hand(self):
        # 8 x 14 tiles on 132 multiprocessors, one wave of 2 x 56 steps of 1,024 clocks; fetched 112 x 112 x 32 KB.
        tensor, l2 = 2 * 56 * 1024 / 1.83e9, 112 * 112 * 32768 / 5.5e12
        found = predict.product(H100, predict.FORWARD["sm90a"], 1024, 3584, 112, 1, 1, 0)
        self.assertAlmostEqual(found, max(tensor, l2) + predict.RAMP, delta=1e-9)

    def test_what_moves_more_takes_longer(self):
        def seconds(name):
            return predict.Model(H100, "sm90a", Workload.parse(name)).seconds()

        self.assertLess(seconds(FORWARD), seconds(FORWARD.replace("bf16", "f32")))
        self.assertLess(seconds(FORWARD), seconds(FORWARD.replace("forward", "backward_dx")))
        self.assertTrue(all(math.isfinite(seconds(name)) for name in predict.default_workloads()))

    def test_says_that_nothing_was_measured(self):
        result = run()
        self.assertEqual((result.returncode, result.stdout.splitlines()[0]), (0, "# Predicted, not measured"))
        self.assertIn("3.35 TB/s", result.stdout)

    def test_marks_failed_predictions(self):
        us = 1e6 * predict.Model(H100, "sm90a", Workload.parse(FORWARD)).seconds()
        name = FORWARD + "/by:sm90a/data:{}/launch:{}/min_time:0.010/manual_time"
        for factor, failed in ((1.0, 0), (0.85, 0), (1.3, 0), (0.75, 1), (1.5, 1)):
            result = measured([(name.format("cold", "graph"), factor * us), (name.format("warm", "graph"), 1)])
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout.count("failed prediction"), failed, result.stdout)
            self.assertIn(f"{failed} of 1 predictions failed", result.stdout)

    def test_refuses_what_it_has_no_model_of(self):
        result = measured([], "8.6")
        self.assertEqual((result.returncode, result.stderr.count("\n")), (77, 1))
        self.assertIn("compute capability 8.6", result.stderr)
        self.assertIn("no time of sm90a or sm80", measured([]).stderr)


if __name__ == "__main__":
    unittest.main()
