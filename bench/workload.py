# SPDX-License-Identifier: Apache-2.0
"""A workload of bench_kernels, read from the name that bench/workloads.cpp gives it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    name: str  # OPERATION/input:I/hidden:H/members:M/rows:R/pairs:P/dtype:D[/density:N]
    operation: str
    input: int
    hidden: int  # 0: the linear head
    members: int
    rows: int
    pairs: int
    dtype: str
    density: int = 0  # per cent of active hidden units; 0: as a new head has it

    @classmethod
    def parse(cls, name):
        operation, *parts = name.split("/")
        fields = dict(part.split(":") for part in parts)
        dtype = fields.pop("dtype")
        return cls(name=name, operation=operation, dtype=dtype, **{key: int(value) for key, value in fields.items()})

    @property
    def adjacent(self):
        """Pair i is the rows 2i and 2i+1."""
        return 2 * self.pairs == self.rows

    @property
    def shape(self):
        shape = {"rows": self.rows, "input": self.input, "hidden": self.hidden, "pairs": self.pairs}
        if self.members > 1:
            shape["members"] = self.members
        if self.density:
            shape["density"] = self.density
        return shape


def split_name(full_name):
    """(workload's name, threads, who) of a benchmark's name."""
    name, _, rest = full_name.removesuffix("/real_time").partition("/threads:")
    threads, _, who = rest.partition("/by:")
    return name, int(threads), who


def expected_seconds(workload):
    """Roughly, of a call on one thread of an ordinary processor: for deciding how often to repeat it."""
    products = {"forward": 1, "backward": 1, "step": 2, "step_dx": 3}.get(workload.operation, 0)
    rows_by_input = workload.rows * workload.input
    flops = 2 * products * workload.members * rows_by_input * max(1, workload.hidden)
    parameters = workload.members * workload.input * max(1, workload.hidden)
    return flops / 60e9 + 4 * (rows_by_input + 2 * parameters + 2 * workload.pairs) / 10e9
