# SPDX-License-Identifier: Apache-2.0
"""What the machine code of the CUDA kernels has in its main loops, by nvdisasm (PyPI: nvidia-cuda-nvdisasm)."""

import re
import shutil
import subprocess
from collections import Counter

# Instructions by what they are for; the first that fits counts. Others are counted in the loop's total only.
CLASSES = [
    ("HGMMA", r"HGMMA"),  # wgmma
    ("HMMA", r"HMMA"),  # mma
    ("LDSM", r"LDSM"),  # ldmatrix
    ("LDS", r"LDS\b"),
    ("LDGSTS", r"LDGSTS"),  # cp.async
    ("UTMALDG", r"UTMALDG"),  # tensor copies
    ("UBLKCP", r"UBLKCP"),  # bulk copies
    ("SYNCS", r"SYNCS"),  # mbarriers
    ("BAR", r"BAR\b"),
    ("WARPGROUP", r"WARPGROUP"),  # wgmma's fences and waits
    ("MEMBAR", r"MEMBAR"),
]
MAIN = {"HGMMA", "HMMA", "LDGSTS", "UTMALDG"}  # a main loop has one of these
FORBIDDEN = {"MEMBAR": "a memory fence"}


def find_nvdisasm(root):
    """On the PATH, or where pip puts it in .venv."""
    found = shutil.which("nvdisasm")
    for wheel in sorted((root / ".venv").glob("lib/python3*/site-packages/nvidia/cu13/bin/nvdisasm")):
        found = found or str(wheel)
    return found


def class_of(instruction):
    operation = re.sub(r"^@!?U?P\w+\s+", "", instruction)
    return next((name for name, pattern in CLASSES if re.match(pattern, operation)), None)


def kernels(text):
    """(mangled name, [instruction], {label: index of the instruction behind it}) of each kernel of a cubin."""
    name, instructions, labels = None, [], {}
    for line in text.splitlines():
        if found := re.match(r"\.text\.(\S+):", line):
            if name:
                yield name, instructions, labels
            name, instructions, labels = found[1], [], {}
        elif found := re.match(r"\s*(\.L_\w+):", line):
            labels[found[1]] = len(instructions)
        elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?);", line):
            instructions.append(found[1].strip())
    if name:
        yield name, instructions, labels


def target_of(instruction, labels):
    found = re.search(r"\bBRA\S*\s+(?:\S+,\s*)*`\((\.L_\w+)\)", instruction)
    return labels.get(found[1]) if found else None


def predecessors(instructions, labels):
    """[[index of what may run just before]] of each instruction."""
    before = [[] for _ in instructions]
    for index, instruction in enumerate(instructions):
        target = target_of(instruction, labels)
        if target is not None and target < len(instructions):
            before[target].append(index)
        if not re.match(r"(BRA|EXIT|RET)\b", instruction) and index + 1 < len(instructions):
            before[index + 1].append(index)
    return before


def main_loops(instructions, labels):
    """Sets of instructions, each of a loop that copies or multiplies, without loops inside it; in the code's order.

    A loop is what can come between the target of a branch back and that branch, wherever the compiler has put it.
    """
    before = predecessors(instructions, labels)
    loops = {}  # by their first instruction
    for last, instruction in enumerate(instructions):
        first = target_of(instruction, labels)
        if first is None or first > last:
            continue
        body, open_ends = {first, last}, [last] if last != first else []
        while open_ends:
            new = set(before[open_ends.pop()]) - body
            body |= new
            open_ends += new
        loops[first] = loops.get(first, set()) | body
    own = []
    for body in loops.values():
        inside = [other for other in loops.values() if other < body]
        rest = body.difference(*inside)
        if any(class_of(instructions[index]) in MAIN for index in rest):
            own.append(rest)
    return sorted(own, key=min)


def describe(cubin, nvdisasm):
    """([(architecture, mangled name, [counts of a main loop, in words])], [what is wrong])."""
    text = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
    architecture = re.search(r"\.target\s+sm_(\w+)", text)[1]
    rows, wrong = [], []
    for name, instructions, labels in kernels(text):
        local = sum(bool(re.search(r"\b(LDL|STL)\b", instruction)) for instruction in instructions)
        if local:
            wrong.append(f"sm_{architecture} {name}: {local} accesses to local memory")
        loops = []
        for body in main_loops(instructions, labels):
            counts = Counter(class_of(instructions[index]) for index in body)
            wrong += [f"sm_{architecture} {name}: {what} in a main loop" for c, what in FORBIDDEN.items() if counts[c]]
            words = [f"{c} {counts[c]}" for c, _ in CLASSES if counts[c]]
            loops.append(f"{len(body)} instructions: {', '.join(words)}")
        rows.append((architecture, name, loops))
    return rows, wrong
