# SPDX-License-Identifier: Apache-2.0
"""Replays a curve that PyTorch makes now: torch_live.py TRAINING_TEST MAKE_TORCH_CURVE. Exits with 77 without PyTorch."""
import os
import subprocess
import sys
import tempfile

try:
    import torch  # noqa: F401
except ImportError:
    print(f"{__file__}:0: Skipped\nPyTorch is not importable by python3")
    sys.exit(77)

test, make = sys.argv[1:]
for seed in ("2", "3", "4"):
    with tempfile.TemporaryDirectory() as folder:
        curve = os.path.join(folder, "curve.json")
        subprocess.run([sys.executable, make, curve, seed], check=True)
        subprocess.run([test, "--gtest_filter=TorchCurve.*"], check=True, env={**os.environ, "TORCH_CURVE": curve})
