# SPDX-License-Identifier: Apache-2.0
"""Instructions of one call of each kernel, counted by Valgrind, beside bench/instruction_counts.json.

python bench/check_instructions.py build/release/bench/instruction_counts --compiler "GNU 12.2.0" [--update]

A count does not depend on how busy the machine is, so a kernel that got slower shows even where times cannot be
trusted. It depends on the compiler, so counts of another one are not compared. Valgrind 3.19 knows no AVX-512: the
instruction sets are avx2 and portable. Exit code 1: a count differs by more than 3 %; 77: skipped, for the reason said.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

FILE = pathlib.Path(__file__).resolve().parent / "instruction_counts.json"
IMPLEMENTATIONS = ("avx2", "portable")
TOLERANCE = 0.03  # the C library copies memory in other ways on other processors
MORE_CALLS = 11  # minus those of 1 call: what is done once, such as loading the program, drops out
SKIPPED = 77


def skip(reason):
    print(f"{pathlib.Path(__file__).name}: Skipped\n{reason}")  # the form that ./run test looks for
    sys.exit(SKIPPED)


def collected(program, kernel, calls, implementation):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, kernel, str(calls)]
    environment = os.environ | {"REWARDHEAD_ISA": implementation}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = re.search(r"Collected : (\d+)", finished.stderr)
    if finished.returncode != 0 or not found:
        sys.exit(f"check_instructions: {' '.join(command)} failed:\n{finished.stderr}")
    return int(found.group(1))


def count_all(program):
    kernels = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()

    def per_call(kernel, implementation):
        more, one = (collected(program, kernel, calls, implementation) for calls in (MORE_CALLS, 1))
        return round((more - one) / (MORE_CALLS - 1))

    return {implementation: {kernel: per_call(kernel, implementation) for kernel in kernels}
            for implementation in IMPLEMENTATIONS}


def differences(expected, counts):
    """A line for each count that is not as expected."""
    lines = []
    for implementation, kernels in counts.items():
        for kernel, count in kernels.items():
            before = expected.get(implementation, {}).get(kernel)
            if before is None:
                lines.append(f"{kernel} {implementation}: {count:,}, not in {FILE.name}")
            elif abs(count - before) > TOLERANCE * before:
                change = count / before - 1
                lines.append(f"{kernel} {implementation}: {count:,} where {before:,} are expected ({change:+.1%})")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="instruction_counts")
    parser.add_argument("--compiler", required=True, help="name and version of what compiled it")
    parser.add_argument("--update", action="store_true", help="write the counts instead of comparing with them")
    arguments = parser.parse_args()

    if not shutil.which("valgrind"):
        skip("valgrind is not installed")
    if "avx2" not in pathlib.Path("/proc/cpuinfo").read_text().split():
        skip("the processor lacks AVX2")
    expected = {} if arguments.update else json.loads(FILE.read_text())
    if not arguments.update and expected["compiler"] != arguments.compiler:
        skip(f"instruction counts are known for {expected['compiler']}, and this is {arguments.compiler}")

    counts = count_all(arguments.program)
    if arguments.update:
        FILE.write_text(json.dumps({"compiler": arguments.compiler, "counts": counts}, indent=1) + "\n")
        print(f"Written: {FILE}")
        return
    lines = differences(expected["counts"], counts)
    if lines:
        sys.exit("\n".join([*lines, "If this is meant: check_instructions.py --update, and say why in the commit."]))
    print("All instruction counts are as expected.")


if __name__ == "__main__":
    main()
