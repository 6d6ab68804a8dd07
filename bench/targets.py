# SPDX-License-Identifier: Apache-2.0
"""What the library is meant to reach, and whether it does: ratios to PyTorch's better form, geometric means."""

from dataclasses import dataclass
from typing import Callable

from results import counted, describe, geometric_mean, is_torch


@dataclass(frozen=True)
class Target:
    what: str
    wanted: tuple  # for 1 and 2 threads
    select: Callable  # of a row of the results
    peers: Callable = is_torch  # of a peer's name; the best of these counts
    value: str = "ratio"  # or the row's "share" or "fma_share"


def variant(text):
    return lambda who: is_torch(who) and who.endswith(text)


def regime(row, name):
    return name in row["regimes"].split()


def plain_mlp(row):
    shape = row["shape"]
    return shape["hidden"] > 0 and row["dtype"] == "f32" and "members" not in shape and "density" not in shape


def adjacent(row):
    return 2 * row["shape"]["pairs"] == row["shape"]["rows"]


def mlp_step(row, name="step"):
    return row["name"] == name and regime(row, "shapes") and plain_mlp(row) and adjacent(row)


def shape_is(row, name, dtype="f32", **shape):
    return row["name"] == name and row["dtype"] == dtype and all(row["shape"][key] == shape[key] for key in shape)


def at_least(row, **shape):
    return all(row["shape"][key] >= shape[key] for key in shape)


def one_row(row, in_cache):
    shape = row["shape"]
    w1_bytes = 4 * shape["input"] * shape["hidden"]
    return row["name"] == "forward" and shape["rows"] == 1 and plain_mlp(row) and (w1_bytes <= 2**24) == in_cache


TARGETS = [
    Target("MLP step, input <= 1024", (1.8, 2.0), lambda r: mlp_step(r) and r["shape"]["input"] <= 1024),
    Target("MLP step, input >= 3584", (1.55, 1.5), lambda r: mlp_step(r) and r["shape"]["input"] >= 3584),
    Target("MLP step with dX", (1.9, 1.9), lambda r: mlp_step(r, "step_dx")),
    Target("MLP step, hidden >= 256, share of FMA peak", (1.30, 1.25),
           lambda r: mlp_step(r) and r["shape"]["hidden"] >= 256, value="fma_share"),
    Target("scoring, hidden >= 256, rows >= 64", (1.08, 1.15),
           lambda r: r["name"] == "forward" and plain_mlp(r) and at_least(r, hidden=256, rows=64)),
    Target("scoring one row, W1 in cache", (2, 2), lambda r: one_row(r, True)),
    Target("scoring one row, W1 in memory, share of read", (0.9, 0.9), lambda r: one_row(r, False), value="share"),
    Target("linear step from L3, 384 x 4,096 rows", (3.5, 6),
           lambda r: shape_is(r, "step", input=384, hidden=0, rows=4096)),
    Target("linear step from memory, 4,096 x 4,096 rows", (1.5, 2.5),
           lambda r: shape_is(r, "step", input=4096, hidden=0, rows=4096)),
    Target("the same in bf16, beside a bf16 module", (3, 4),
           lambda r: shape_is(r, "step", "bf16", input=4096, hidden=0, rows=4096), variant("bf16 module")),
    Target("MLP step on bf16 X", (1.5, 1.5), lambda r: shape_is(r, "step", "bf16") and at_least(r, hidden=1)),
    Target("2 to 32 rows (A), hidden 256", (3, 3), lambda r: regime(r, "A") and r["shape"]["hidden"] == 256),
    Target("1,052 rows in 11,650 pairs, concatenated rows", (35, 35),
           lambda r: shape_is(r, "step", rows=1052, pairs=11650), variant("concatenated rows")),
    Target("1,052 rows in 11,650 pairs, indexed rows", (1.7, 1.8),
           lambda r: shape_is(r, "step", rows=1052, pairs=11650), variant("indexed rows")),
    Target("ensemble of 20, beside bmm", (3, 3), lambda r: r["shape"].get("members") == 20, variant("bmm")),
    Target("AdamW, 12.8 M parameters, beside fused=True", (0.95, 0.95),
           lambda r: shape_is(r, "adamw", input=3584), variant("fused")),
    Target("AdamW, 0.1 M parameters, beside fused=True", (2, 2),
           lambda r: shape_is(r, "adamw", input=384), variant("fused")),
    Target("epoch of pairs, beside materialised pairs", (3, 3),
           lambda r: r["name"] == "epoch", variant("materialised pairs")),
    Target("epoch of pairs, beside indexed rows", (1.5, 1.5), lambda r: r["name"] == "epoch", variant("indexed rows")),
]


def wants_compiled(row):
    """Whether torch.compile is worth waiting for: a target compares with it. Such a row needs no times yet."""
    if row["name"] not in ("step", "step_dx", "forward"):
        return False
    return any(target.value == "ratio" and target.select(row) for target in TARGETS)


def value_of(target, row):
    if target.value != "ratio":
        return row.get(target.value)
    seconds = [seconds for who, seconds in row["peers"].items() if target.peers(who)]
    return min(seconds) / row["seconds"] if seconds else None


def reached(target, rows, threads):
    """(geometric mean, number of rows) of a target's rows that could be compared; (None, 0) if there are none."""
    values = [value_of(target, row) for row in rows if row["threads"] == threads and target.select(row)]
    values = [value for value in values if value is not None]
    return (geometric_mean(values), len(values)) if values else (None, 0)


def summary(rows):
    """Lines that compare the results with the targets."""
    lines = [f"{'Ratio to PyTorch unless it says share':46} {'threads':>7} {'shapes':>6} {'wanted':>7} {'found':>7}"]
    for target in TARGETS:
        for threads, wanted in enumerate(target.wanted, start=1):
            found, count = reached(target, rows, threads)
            verdict = "not measured" if found is None else "reached" if found >= wanted else "NOT REACHED"
            text = f"{found:7.2f}" if found is not None else f"{'-':>7}"
            lines.append(f"{target.what:46} {threads:7} {count:6} {wanted:7.2f} {text}  {verdict}")
    return lines


def slower_than_a_peer(rows):
    """Rows where a peer wins, worst first. AdamW on parameters in memory may be 5 % slower: all are bound by memory."""
    lost = [row for row in rows if row["ratio"] is not None and row["ratio"] < allowed_ratio(row)]
    return sorted(lost, key=lambda row: row["ratio"])


def allowed_ratio(row):
    return 0.95 if row["name"] == "adamw" and row["bound"] == "copy" else 1


def losses(rows):
    compared = [row for row in rows if row["ratio"] is not None]
    lost = slower_than_a_peer(rows)
    lines = [f"Slower than the best of all peers at {len(lost)} of {len(compared)} workloads" + (":" if lost else ".")]
    return lines + [
        f"  {row['ratio']:5.2f}  {describe(row)}, {counted(row['threads'], 'thread')}: {row['peer']}" for row in lost
    ]
