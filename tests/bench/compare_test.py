# SPDX-License-Identifier: Apache-2.0
import contextlib
import copy
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import compare

RESULT = {
    "machine": {"processor": "P", "processors": 2, "isa": "avx2"},
    "rows": [{
        "name": "step", "shape": {"rows": 256, "input": 384, "hidden": 256, "pairs": 128}, "dtype": "f32", "threads": 1,
        "seconds": 1.0, "peers": {"openblas": 2.0, "PyTorch eager": 3.0},
    }],
}


def changed(**fields):
    """RESULT with some fields of its row set, or removed where the value is None."""
    result = copy.deepcopy(RESULT)
    row = result["rows"][0]
    row.update(fields)
    for key in [key for key, value in row.items() if value is None]:
        del row[key]
    return result


class CompareTest(unittest.TestCase):

    def run_compare(self, old, new, *options):
        """(exit code, all that was printed) for two files, given as objects or as text."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / name for name in ("old.json", "new.json")]
            for path, content in zip(paths, (old, new)):
                path.write_text(content if isinstance(content, str) else json.dumps(content))
            output = io.StringIO()
            with mock.patch.object(sys, "argv", ["compare", *map(str, paths), *options]), \
                    contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                return compare.main(), output.getvalue()

    def test_equal_results_pass(self):
        code, output = self.run_compare(RESULT, RESULT)
        self.assertEqual(code, 0)
        self.assertIn("Nothing got slower", output)

    def test_ratio_that_falls_by_more_than_the_threshold_fails(self):
        # The best peer is openblas: 2 / 1 before, 2 / 1.2 = 1.67 after, 17 % less; time grew by 20 %, which is allowed.
        code, output = self.run_compare(RESULT, changed(seconds=1.2))
        self.assertEqual(code, 1)
        self.assertIn("ratio 2.00 -> 1.67 (-17%)", output)
        self.assertNotIn("time 1", output)
        self.assertEqual(self.run_compare(RESULT, changed(seconds=1.2), "--threshold", "0.2")[0], 0)

    def test_slow_machine_passes_by_ratio_and_fails_by_time(self):
        slower = changed(seconds=1.5, peers={"openblas": 3.0, "PyTorch eager": 4.5})
        code, output = self.run_compare(RESULT, slower)
        self.assertEqual(code, 1)
        self.assertIn("time 1000 ms -> 1500 ms (+50%)", output)
        slower["machine"]["processor"] = "Q"
        self.assertEqual(self.run_compare(RESULT, slower)[0], 0)

    def test_only_peers_of_both_count(self):
        # Without openblas the ratio is 3 before and after.
        self.assertEqual(self.run_compare(RESULT, changed(peers={"PyTorch eager": 3.0, "eigen": 1.0}))[0], 0)

    def test_workload_of_one_file_is_named_but_no_failure(self):
        code, output = self.run_compare(RESULT, changed(threads=2))
        self.assertEqual(code, 0)
        self.assertIn("1 only in", output)

    def test_bad_files_are_named_with_the_field(self):
        bad_shape = {"rows": 256, "input": 384, "pairs": 128}
        for content, words in [
            ("", "not JSON"),
            ("[]", "not an object"),
            ({"rows": []}, 'no "machine"'),
            ({"machine": {}}, 'no "rows"'),
            ({"machine": {}, "rows": [1]}, "rows[0] is not an object"),
            (changed(seconds=None), 'rows[0] has no "seconds"'),
            (changed(seconds="1"), 'rows[0]: "seconds" is "1"'),
            (changed(seconds=0), '"seconds" is 0'),
            (changed(seconds=float("nan")), '"seconds" is NaN'),
            (changed(threads=True), '"threads" is true'),
            (changed(shape=bad_shape), 'rows[0].shape has no "hidden"'),
            (changed(peers={"eigen": None}), 'rows[0].peers: "eigen" is null'),
        ]:
            with self.subTest(words):
                code, output = self.run_compare(RESULT, content)
                self.assertEqual(code, 2)
                self.assertIn("new.json: ", output)
                self.assertIn(words, output)

    def test_missing_file(self):
        with mock.patch.object(sys, "argv", ["compare", "/nonexistent/a.json", "/nonexistent/b.json"]), \
                contextlib.redirect_stderr(io.StringIO()) as output:
            self.assertEqual(compare.main(), 2)
        self.assertIn("/nonexistent/a.json: cannot be read", output.getvalue())


if __name__ == "__main__":
    unittest.main()
