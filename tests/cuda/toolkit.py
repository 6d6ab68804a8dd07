#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which nvcc gate.py, gpu_check.py and `./run` take. As a program: prints it, or why there is none (exit code 1)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLKIT = (13, 0)


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


if __name__ == "__main__":
    path, reason = find_nvcc()
    print(path or reason)
    sys.exit(0 if path else 1)
