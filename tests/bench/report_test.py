# SPDX-License-Identifier: Apache-2.0
# The arithmetic of the report on data/bench_kernels.json, whose numbers are made up and round, and its schedule.
import contextlib
import io
import json
import pathlib
import tempfile
import types
import unittest
from unittest import mock

import report
import schedule
import targets
from results import Measurement, add_limits, add_measurements, describe, geometric_mean, row
from workload import Workload, expected_seconds, split_name

STEP = "step/input:384/hidden:256/members:1/rows:256/pairs:128/dtype:f32"
OTHER_STEP = "step/input:1024/hidden:128/members:1/rows:128/pairs:64/dtype:f32"
ONE_ROW = "forward/input:4096/hidden:4096/members:1/rows:1/pairs:0/dtype:f32"
L3_BYTES = 1_000_000


class ReportTest(unittest.TestCase):

    def setUp(self):
        output = json.loads((pathlib.Path(__file__).parent / "data/bench_kernels.json").read_text())
        machine = [entry for entry in output["benchmarks"] if entry["run_name"].startswith("machine/")]
        others = [entry for entry in output["benchmarks"] if entry not in machine]
        self.limits, self.measurements, self.failed = {}, {}, {}
        add_limits(machine, self.limits)
        add_measurements(others, self.measurements, self.failed)

    def row(self, name):
        return row(self.measurements[name, 1], self.limits, L3_BYTES)

    def target(self, what):
        return next(target for target in targets.TARGETS if target.what == what)

    def test_names(self):
        self.assertEqual(split_name(f"{STEP}/threads:2/by:onednn/real_time"), (STEP, 2, "onednn"))
        workload = Workload.parse("backward/input:384/hidden:240/members:1/rows:480/pairs:0/dtype:f32/density:5")
        self.assertEqual((workload.operation, workload.input, workload.density), ("backward", 384, 5))
        self.assertEqual(workload.shape, {"rows": 480, "input": 384, "hidden": 240, "pairs": 0, "density": 5})
        self.assertTrue(Workload.parse(STEP).adjacent)

    def test_best_limits_count(self):
        # 1e8 operations in 1 ms; 2e8, 4e8, 3e8 bytes in 10 ms.
        self.assertEqual(self.limits, {"1": {"fma": 1e11, "read": 2e10, "read_l3": 4e10, "copy": 3e10}})

    def test_least_iterations_count(self):
        self.assertEqual(self.measurements[STEP, 1].seconds, {"ours": 1e-3, "openblas": 1.5e-3})

    def test_failed_peer_is_left_out_with_its_reason(self):
        self.assertEqual(self.failed, {"eigen: not the same result as ours: loss": [STEP]})

    def test_failure_of_ours_is_an_error(self):
        entry = {"run_type": "iteration", "run_name": f"{STEP}/threads:1/by:ours/real_time", "error_occurred": True,
                 "error_message": "because"}
        with self.assertRaisesRegex(RuntimeError, "because"):
            add_measurements([entry], {}, {})

    def test_row(self):
        self.measurements[STEP, 1].add("PyTorch eager", 2e-3)
        found = self.row(STEP)
        self.assertEqual((found["peer"], found["peer_seconds"]), ("openblas", 1.5e-3))
        self.assertAlmostEqual(found["ratio"], 1.5)
        # 1e8 operations need 1 ms of 1e11 a second; 1e6 bytes from the cache 0.025 ms of 4e10 a second.
        self.assertEqual(found["bound"], "fma")
        self.assertAlmostEqual(found["share"], 1)

    def test_memory_bound_row(self):
        found = self.row(ONE_ROW)
        # 6e7 bytes do not fit the cache: 3 ms of 2e10 a second; 4e7 operations need 0.4 ms.
        self.assertEqual(found["bound"], "read")
        self.assertAlmostEqual(found["share"], 0.75)
        self.assertAlmostEqual(found["ratio"], 0.75)

    def test_adamw_is_compared_with_copying(self):
        workload = Workload.parse("adamw/input:3584/hidden:3584/members:1/rows:0/pairs:0/dtype:f32")
        found = row(Measurement(workload, 1, "shapes", 0, 3e8, {"ours": 0.0125, "eigen": 0.012}), self.limits, L3_BYTES)
        # 3e8 bytes need 10 ms of 3e10 a second.
        self.assertEqual(found["bound"], "copy")
        self.assertAlmostEqual(found["share"], 0.8)
        # 0.96 of the best peer: allowed from memory, and only there.
        self.assertEqual(targets.slower_than_a_peer([found]), [])
        self.assertEqual(targets.slower_than_a_peer([found | {"bound": "read_l3"}]), [found | {"bound": "read_l3"}])

    def test_without_peers_there_is_no_ratio(self):
        found = self.row(OTHER_STEP)
        self.assertEqual((found["peer"], found["ratio"]), (None, None))
        self.assertEqual(targets.losses([found]), ["Slower than the best of all peers at 0 of 0 workloads."])

    def test_geometric_mean(self):
        self.assertAlmostEqual(geometric_mean([1, 2, 4]), 2)

    def test_targets_compare_with_the_better_form_of_pytorch(self):
        for who, seconds in ("PyTorch eager", 4e-3), ("PyTorch compiled", 2e-3):
            self.measurements[STEP, 1].add(who, seconds)
        self.measurements[OTHER_STEP, 1].add("PyTorch eager", 4.5e-3)
        rows = [self.row(name) for name in (STEP, OTHER_STEP, ONE_ROW)]
        # Ratios 2 and 4.5, whose geometric mean is 3. OpenBLAS, although better, is another question.
        found, count = targets.reached(self.target("MLP step, input <= 1024"), rows, 1)
        self.assertAlmostEqual(found, 3)
        self.assertEqual(count, 2)
        self.assertEqual(targets.reached(self.target("MLP step, input <= 1024"), rows, 2), (None, 0))
        lines = targets.summary(rows)
        self.assertTrue(lines[1].startswith("MLP step, input <= 1024 ") and lines[1].endswith("3.00  reached"))
        # share of read: 0.75 of the wanted 0.9
        memory = next(line for line in lines if line.startswith("scoring one row, W1 in memory"))
        self.assertTrue(memory.endswith("0.75  NOT REACHED"))

    def test_a_target_with_a_named_variant(self):
        workload = Workload.parse("step/input:384/hidden:256/members:1/rows:1052/pairs:11650/dtype:f32")
        seconds = {"ours": 1.0, "PyTorch eager, indexed rows": 2.0, "PyTorch compiled, concatenated rows": 40.0}
        rows = [row(Measurement(workload, 1, "shapes", 1, 1, seconds), self.limits, L3_BYTES)]
        for what, wanted in (("concatenated rows", 40), ("indexed rows", 2)):
            found, _ = targets.reached(self.target(f"1,052 rows in 11,650 pairs, {what}"), rows, 1)
            self.assertAlmostEqual(found, wanted)

    def test_losses_are_listed_worst_first(self):
        self.measurements[STEP, 1].add("PyTorch eager", 0.5e-3)
        lines = targets.losses([self.row(name) for name in (ONE_ROW, STEP, OTHER_STEP)])
        self.assertEqual(lines, [
            "Slower than the best of all peers at 2 of 2 workloads:",
            "   0.50  step 384 x 256, 256 rows, 1 thread: PyTorch eager",
            "   0.75  forward 4096 x 4096, 1 row, 1 thread: openblas",
        ])

    def test_compiled_is_measured_where_a_target_asks(self):
        self.assertTrue(targets.wants_compiled(self.row(STEP)))
        self.assertFalse(targets.wants_compiled(self.row(ONE_ROW)))  # its target is a share of bandwidth

    def test_columns_of_the_table_are_aligned(self):
        bounds = {"bound": "fma", "share": 1.0}, {"bound": "read_l3", "share": 0.5}, {}
        rows = [{key: value for key, value in self.row(STEP).items() if key not in ("bound", "share")} | bound
                for bound in bounds]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            report.print_table(rows)
        header, *lines = output.getvalue().splitlines()
        self.assertEqual({line.index("openblas", 90) for line in lines}, {header.index("best peer")})

    def test_description(self):
        self.assertEqual(describe(self.row(STEP)), "step 384 x 256, 256 rows")

    def test_expected_seconds(self):
        # 4 x 256 x 384 x 256 operations at 60e9 a second, and 4 (256 x 384 + 2 x 384 x 256 + 2 x 128) bytes at 10e9.
        self.assertAlmostEqual(expected_seconds(Workload.parse(STEP)), 1.6777e-3 + 0.118e-3, delta=1e-6)


class ScheduleTest(unittest.TestCase):

    def test_what_was_too_late_to_compile_is_not_compiled_later(self):
        # A compiled turn takes 5 s, others 1 s, and there are 11 s: the first is compiled, the second too late for it.
        now, requests = 0, []

        def measure_ours(measurements, workload, *_):
            nonlocal now
            now += 1
            measurements[workload.name, 1] = Measurement(workload, 1, "shapes", 1, 1, {"ours": 1.0})

        def measure_torch(_, workload, _repetitions, _failed, _threads, compiled):
            nonlocal now
            now += 4 if compiled else 0
            requests.append((workload.name, bool(compiled)))

        kernels = types.SimpleNamespace(threads=[1], measure=measure_ours)
        torch = types.SimpleNamespace(version="1", measure=measure_torch)
        clock = types.SimpleNamespace(elapsed=lambda: now, left=lambda: 11 - now)
        turns = schedule.Schedule(kernels, torch, [Workload.parse(STEP), Workload.parse(OTHER_STEP)], clock)
        with contextlib.redirect_stderr(io.StringIO()):
            turns.first_turn(0)
            turns.compiled_turn()
            turns.more_turns()
        self.assertEqual(requests[:3], [(STEP, False), (OTHER_STEP, False), (STEP, True)])
        self.assertIn((OTHER_STEP, False), requests[3:])
        self.assertNotIn((OTHER_STEP, True), requests)
        self.assertEqual(len(turns.left_out), 1)
        self.assertTrue(turns.left_out[0].endswith(OTHER_STEP))

    def test_a_worker_that_says_much_and_ends_is_quoted(self):
        worker = ("import sys\n"
                  "sys.stderr.write('warning\\n' * 100_000)\n"  # more than a pipe takes
                  "print('{\"version\": \"1\"}', flush=True)\n"
                  "input()\n"
                  "sys.exit('the reason')\n")
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "torch_worker.py").write_text(worker)
            with mock.patch.multiple(schedule, FOLDER=folder, BUILD=folder / "build"), \
                    mock.patch("importlib.util.find_spec"):
                torch = schedule.Torch()
            with self.assertRaisesRegex(SystemExit, "torch_worker.log:\n(warning\n){19}the reason$"):
                torch.measure({}, Workload.parse(STEP), 1, {}, [1])
            torch.process.communicate()


if __name__ == "__main__":
    unittest.main()
