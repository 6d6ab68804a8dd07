# SPDX-License-Identifier: Apache-2.0
"""The Python examples of README.md run, and learn."""

import re

from conftest import ROOT, python


def test_examples_of_the_readme():
    numpy_example, torch_example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for example, pattern, low, high in (
        (numpy_example, r"accuracy ([\d.]+)", 0.9, 1.0),
        (torch_example, r"loss ([\d.]+)", 0.0, 0.1),
    ):
        done = python("-c", example)
        assert done.returncode == 0, done.stderr
        assert low <= float(re.search(pattern, done.stdout)[1]) <= high, done.stdout
