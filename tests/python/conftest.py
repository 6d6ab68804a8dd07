# SPDX-License-Identifier: Apache-2.0
"""What the tests share. They import the `rewardhead` that is on the path: in ctest that of the build folder."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "host" / "sample_data"
sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"  # before its library is imported


def python(*arguments, environment=None, **options):
    """This Python with these arguments, to its end: returncode, stdout and stderr. `environment` is added to ours."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        **options,
    )


def lets_other_threads_run(call, seconds=10):
    """Whether `call` releases the GIL: another thread, which waits for it, gets it in one of the calls of so many
    seconds, although Python takes it from nobody meanwhile."""
    gate, ran = threading.Lock(), []
    gate.acquire()
    other = threading.Thread(target=lambda: ran.append(gate.acquire()))
    interval = sys.getswitchinterval()
    other.start()
    sys.setswitchinterval(1000)
    try:
        gate.release()
        deadline = time.monotonic() + seconds
        while not ran and time.monotonic() < deadline:
            call()
        return bool(ran)
    finally:
        sys.setswitchinterval(interval)
        other.join()


class Sample:
    """The shipped data: embeddings [1052, 384], pairs [11650, 2] by row, and the debate of each row."""

    def __init__(self) -> None:
        self.embeddings = np.load(SAMPLE / "embeddings.npy")
        items = [line.split(",") for line in (SAMPLE / "items.csv").read_text().splitlines()]
        column = {name: i for i, name in enumerate(items[0])}
        self.ids = [item[column["id"]] for item in items[1:]]
        self.debates = np.array([item[column["debate"]] for item in items[1:]])
        row = {name: i for i, name in enumerate(self.ids)}
        lines = (SAMPLE / "pairs.csv").read_text().splitlines()
        assert lines[0].split(",")[:2] == ["chosen", "rejected"]
        self.pairs = np.array([[row[name] for name in line.split(",")[:2]] for line in lines[1:]])


def pytest_terminal_summary(terminalreporter):
    """What was skipped, in the words of GoogleTest, which `run` looks for to say what was left out."""
    for report in terminalreporter.stats.get("skipped", []):
        file, line, reason = report.longrepr
        terminalreporter.write_line(f"{file}:{line}: Skipped\n{reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def sample() -> Sample:
    return Sample()
