#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Predicted times of the CUDA kernels, from arithmetic alone; beside measured ones, if there are any.

usage: predict.py [MEASURED.json]

MEASURED.json is what `bench_cuda --benchmark_out=MEASURED.json` writes. Compared are cold data and replayed graphs: the
model knows neither what the L2 cache keeps nor what a processor takes for a launch. A difference above 25 % of the
measured time is a failed prediction: the model, or the kernel, is not understood. For a GPU without a model: one line
and exit code 77.

A call is the sum of its launches. A launch takes the longest of what its tensor cores, the traffic between L2 and
multiprocessors, and the traffic with memory take, each at its full rate, and what filling and draining a grid takes.
"""

import json
import math
import sys
from dataclasses import dataclass

from results import SECONDS_OF_UNIT
from workload import Workload

FAILED = 0.25
LEFT_OUT = 77
GAP = 1.0e-6  # s between two nodes of a graph: assumed
RAMP = 1.5e-6  # s to fill the pipeline of a product and drain its epilogue: assumed
SMALL = 2.0e-6  # s, the least of any other kernel: assumed
# What kernels/cuda chooses the number of parts by: of a launch, of an element of a part, and the most parts.
LAUNCH_US, PART_US = 2, 8e-6 / 3
FORWARD_SPLITS, W1_SPLITS = 8, 64


@dataclass(frozen=True)
class Card:
    name: str
    multiprocessors: int
    clock: float  # Hz, under load
    multiply_adds: int  # a clock and multiprocessor: bf16, dense, fp32 sums
    memory: float  # bytes/s
    l2: float  # bytes/s from L2 to all multiprocessors together


# NVIDIA H100 whitepaper: 132 multiprocessors, 989 TFLOP/s (hence the clock), 3.35 TB/s. A100 whitepaper: 108, 312
# TFLOP/s, 1.555 TB/s (40 GB). L2: 22.8 bytes a clock and multiprocessor, assumed for both.
CARDS = {
    "9.0": Card("H100 SXM", 132, 1.83e9, 2048, 3.35e12, 5.5e12),
    "8.0": Card("A100 40 GB", 108, 1.41e9, 1024, 1.555e12, 3.47e12),
}


@dataclass(frozen=True)
class Tile:
    """Of a product, as kernels/cuda/*/ has it; a_bytes and b_bytes are fetched for each of `step` of its sum."""

    rows: int
    columns: int
    step: int
    a_bytes: int
    b_bytes: int
    step_us: float  # what kernels/cuda chooses the number of parts by


FORWARD = {
    "sm90a": Tile(128, 256, 64, 128 * 128, 256 * 128 // 2, 0.56),  # two blocks share W1
    "sm80": Tile(128, 128, 32, 128 * 64, 128 * 64, 0.36),
}
MASKED = {
    "sm90a": Tile(256, 128, 64, 2048, 128 * 128, 0.56),
    "sm80": Tile(256, 128, 64, 2048, 128 * 128, 1.45),
}

PLANES = 2  # of W1, dr, w2 and an fp32 X; of a bf16 X one
SHAPES = [(4096, 256, 1024), (4096, 1024, 2048), (3584, 3584, 1024), (8192, 8192, 512)]


def default_workloads():
    """Some of bench/workloads.cpp's for GPUs."""
    names = []
    for input_dim, hidden, rows in SHAPES:
        for operation in ("forward", "backward", "backward_dx", "step", "adamw", "train"):
            pairs = rows // 2 if operation in ("step", "train") else 0
            shape = f"input:{input_dim}/hidden:{hidden}/members:1/rows:{0 if operation == 'adamw' else rows}"
            names.append(f"{operation}/{shape}/pairs:{pairs}/dtype:bf16")
    names += [f"step/input:4096/hidden:0/members:1/rows:4096/pairs:2048/dtype:{dtype}" for dtype in ("bf16", "f32")]
    return names


def passes(a_planes, b_planes):
    """Products of planes i and j with i + j below the number of planes (kernels/cuda/planes.h)."""
    most = max(a_planes, b_planes)
    return sum(1 for a in range(a_planes) for b in range(b_planes) if a + b < most)


def choose_split(tiles, steps, card, step_us, elements, most):
    """kernels/cuda/mlp.h."""
    best, best_us, splits = 1, math.inf, 1
    while splits <= min(most, steps):
        us = math.ceil(tiles * splits / card.multiprocessors) * math.ceil(steps / splits) * step_us
        us += LAUNCH_US + splits * PART_US * elements if splits > 1 else 0
        if us < best_us:
            best, best_us = splits, us
        splits *= 2
    return best


def product(card, tile, rows, columns, steps, tensor_passes, splits, memory_bytes):
    """Seconds. `steps` of tile.step are fetched in all, each multiplied tensor_passes times."""
    tiles = math.ceil(rows / tile.rows) * math.ceil(columns / tile.columns) * splits
    waves, steps_of_tile = math.ceil(tiles / card.multiprocessors), math.ceil(steps / splits)
    multiply_adds = tile.rows * tile.columns * tile.step * steps_of_tile * tensor_passes
    tensor = waves * multiply_adds / (card.multiply_adds * card.clock)
    l2 = tiles * steps_of_tile * (tile.a_bytes + tile.b_bytes) / card.l2
    return max(tensor, l2, memory_bytes / card.memory) + RAMP


def stream(card, bytes_moved):
    """A kernel that only moves what it must."""
    return max(SMALL, bytes_moved / card.memory)


class Model:
    """Lists of launches, in seconds, of each operation of a workload."""

    def __init__(self, card, implementation, workload):
        self.card, self.workload = card, workload
        self.forward_tile, self.masked_tile = FORWARD[implementation], MASKED[implementation]
        self.x_planes = 1 if workload.dtype == "bf16" else PLANES
        self.x_bytes = workload.rows * workload.input * (2 if workload.dtype == "bf16" else 4)
        self.units = workload.members * math.ceil(workload.hidden / 64) * 64
        self.w1_elements = workload.members * max(1, workload.hidden) * workload.input

    def planes_of_x(self):
        return [] if self.x_planes == 1 else [stream(self.card, 8 * self.workload.rows * self.workload.input)]

    def planes_of_w1(self):
        return [stream(self.card, (4 + 2 * PLANES) * self.w1_elements)]

    def forward(self):
        w, tile, card = self.workload, self.forward_tile, self.card
        if w.hidden == 0:
            return [stream(card, self.x_bytes)]
        steps = passes(self.x_planes, PLANES) * math.ceil(w.input / tile.step)
        tiles = math.ceil(w.rows / tile.rows) * math.ceil(self.units / tile.columns)
        splits = choose_split(tiles, steps, card, tile.step_us, w.rows * self.units, FORWARD_SPLITS)
        operands = 2 * (self.x_planes * w.rows + PLANES * self.units) * w.input
        parts = 4 * w.rows * self.units * splits if splits > 1 else 0
        launches = self.planes_of_x() + self.planes_of_w1()
        moved = operands + parts + w.rows * self.units / 8
        launches.append(product(card, tile, w.rows, self.units, steps, 1, splits, moved))
        if splits > 1:
            launches.append(max(SMALL, 4 * w.rows * self.units * splits / card.l2))
        return launches + [stream(card, 4 * w.rows * self.units / 64)]

    def pair_loss(self):
        w, card = self.workload, self.card
        if w.adjacent or (w.pairs <= 1024 and w.rows * w.pairs <= 2**17):
            return [stream(card, 8 * w.rows * w.members)] + ([SMALL] if w.pairs > 1024 else [])
        # A memset, then counts, segments and their contents: a pair's 8 bytes are read twice, 16 are written and read.
        return [SMALL, SMALL, stream(card, 8 * w.pairs), stream(card, 24 * w.pairs), stream(card, 16 * w.pairs)]

    def backward(self):
        w, tile, card = self.workload, self.masked_tile, self.card
        if w.hidden == 0:
            return [stream(card, self.x_bytes), SMALL]
        steps = self.x_planes * math.ceil(w.rows / tile.step)
        tiles = math.ceil(self.units / tile.rows) * math.ceil(w.input / tile.columns)
        splits = choose_split(tiles, steps, card, tile.step_us * PLANES, self.units * w.input, W1_SPLITS)
        dw1 = 4 * self.units * w.input
        moved = 2 * self.x_planes * w.rows * w.input + w.rows * self.units / 8
        moved += dw1 * splits if splits > 1 else 2 * dw1  # parts, or W1 and its gradient
        tensor_passes = passes(self.x_planes, PLANES) / self.x_planes
        launches = self.planes_of_x() + [SMALL, SMALL]  # and dr
        launches.append(product(card, tile, self.units, w.input, steps, tensor_passes, splits, moved))
        launches.append(max(SMALL, dw1 * splits / card.l2 + 2 * dw1 / card.memory) if splits > 1 else SMALL)
        return launches + [SMALL]  # db2

    def input_gradient(self):
        w, tile, card = self.workload, self.masked_tile, self.card
        if w.hidden == 0:
            return [stream(card, 4 * w.rows * w.input)]
        moved = 2 * PLANES * self.units * w.input + 4 * w.members * w.rows * w.input + w.rows * self.units / 8
        steps, tensor_passes = PLANES * math.ceil(self.units / tile.step), passes(PLANES, PLANES) / PLANES
        return self.planes_of_w1() + [SMALL, SMALL, product(card, tile, w.rows, w.input, steps, tensor_passes, 1, moved)]

    def step(self):
        if self.workload.hidden == 0 and self.workload.adjacent:  # X is read once
            return [stream(self.card, self.x_bytes)] + self.pair_loss() + [SMALL]
        return self.forward() + self.pair_loss() + self.backward()

    def adamw(self):
        w = self.workload
        parameters = self.w1_elements + w.members * (2 * w.hidden + 1 if w.hidden else 0)
        return [stream(self.card, 28 * parameters)]

    def launches(self):
        return {
            "forward": self.forward,
            "pair_loss": self.pair_loss,
            "backward": self.backward,
            "backward_dx": lambda: self.backward() + self.input_gradient(),
            "step": self.step,
            "step_dx": lambda: self.step() + self.input_gradient(),
            "adamw": self.adamw,
            "train": lambda: self.step() + self.adamw(),
        }[self.workload.operation]()

    def seconds(self):
        launches = self.launches()
        return sum(launches) + GAP * (len(launches) - 1)


def print_constants(card):
    print(
        f"""{card.name}: {card.multiprocessors} multiprocessors at {card.clock / 1e9:.2f} GHz,
{card.multiply_adds} multiply-adds a clock and multiprocessor, memory {card.memory / 1e12:.2f} TB/s.
Assumed: L2 to multiprocessors {card.l2 / 1e12:.2f} TB/s; {GAP * 1e6:g} us between kernels; {RAMP * 1e6:g} us to fill
and drain a product; {SMALL * 1e6:g} us the least of any other kernel.
"""
    )


def print_predictions():
    card = CARDS["9.0"]
    print("# Predicted, not measured\n")
    print_constants(card)
    print(f"{'':84}{'us':>9} {'launches':>9}")
    for name in default_workloads():
        model = Model(card, "sm90a", Workload.parse(name))
        print(f"{name:84}{1e6 * model.seconds():9.1f} {len(model.launches()):9}")


def card_of(context):
    """Of a measurement: its multiprocessors, and what copying reached there, if that is more than is known."""
    capability = context.get("capability")
    if capability not in CARDS:
        known = " and ".join(CARDS)
        print(f"predict.py: left out: compute capability {capability} has no prediction; {known} have", file=sys.stderr)
        sys.exit(LEFT_OUT)
    known, count = CARDS[capability], int(context["multiprocessors"])
    memory = max(known.memory, float(context["copy_bytes_per_second"]))
    l2 = known.l2 / known.multiprocessors * count
    return Card(context["gpu"], count, known.clock, known.multiply_adds, memory, l2)


def compared(entries):
    """(workload's name, implementation, seconds) of what the model predicts; of several repetitions the least."""
    least = {}
    for entry in entries:
        name, _, rest = entry["name"].partition("/by:")
        implementation, *conditions = rest.split("/")
        if entry.get("error_occurred") or entry.get("run_type") != "iteration" or implementation not in FORWARD:
            continue
        if "data:cold" in conditions and "launch:graph" in conditions:
            seconds = entry["real_time"] * SECONDS_OF_UNIT[entry["time_unit"]]
            least[name, implementation] = min(seconds, least.get((name, implementation), math.inf))
    return [(name, implementation, seconds) for (name, implementation), seconds in least.items()]


def print_comparison(measured):
    card = card_of(measured["context"])
    rows = compared(measured["benchmarks"])
    if not rows:
        raise SystemExit("predict.py: the file has no time of sm90a or sm80 on cold data in a replayed graph")
    print("# Measured, and predicted\n")
    print_constants(card)
    print(f"{'':92}{'measured':>9} {'predicted':>9} us")
    failed = 0
    for name, implementation, seconds in rows:
        predicted = Model(card, implementation, Workload.parse(name)).seconds()
        wrong = abs(predicted - seconds) > FAILED * seconds
        failed += wrong
        mark = "  failed prediction" if wrong else ""
        print(f"{name + ' ' + implementation:92}{1e6 * seconds:9.1f} {1e6 * predicted:9.1f}{mark}")
    print(f"\n{failed} of {len(rows)} predictions failed (by more than {FAILED:.0%} of the measured time)")


def main():
    if len(sys.argv) == 1:
        print_predictions()
    elif len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        with open(sys.argv[1]) as file:
            print_comparison(json.load(file))
    else:
        raise SystemExit("usage: predict.py [MEASURED.json]")


if __name__ == "__main__":
    main()
