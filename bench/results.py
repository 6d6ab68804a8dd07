# SPDX-License-Identifier: Apache-2.0
"""From measured seconds to the rows of the report: best peer, ratio, and share of what the machine can do."""

import math
from dataclasses import dataclass, field

from workload import Workload, split_name

SECONDS_OF_UNIT = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}


@dataclass
class Measurement:
    """The least time of everyone so far, of one workload at one number of threads."""

    workload: Workload
    threads: int
    regimes: str = ""
    flops: float = 0
    bytes: float = 0
    seconds: dict = field(default_factory=dict)  # by "ours", "openblas", "PyTorch eager", "PyTorch eager, VARIANT", ...

    def add(self, who, seconds):
        self.seconds[who] = min(seconds, self.seconds.get(who, math.inf))


def add_measurements(entries, measurements, failed):
    """Adds entries of bench_kernels' JSON to {(workload's name, threads): Measurement}.

    A peer that could not be measured goes to {why: [workloads]}; that ours could not is an error.
    """
    for entry in entries:
        if entry["run_type"] != "iteration":
            continue
        name, threads, who = split_name(entry["run_name"])
        if entry.get("error_occurred"):
            if who == "ours":
                raise RuntimeError(f"{entry['run_name']}: {entry['error_message']}")
            failed.setdefault(f"{who}: {entry['error_message']}", []).append(name)
            continue
        measurement = measurements.setdefault((name, threads), Measurement(Workload.parse(name), threads))
        measurement.regimes, measurement.flops, measurement.bytes = entry["label"], entry["flops"], entry["bytes"]
        measurement.add(who, entry["real_time"] * SECONDS_OF_UNIT[entry["time_unit"]])


def add_limits(entries, limits):
    """Adds machine/* entries to {threads, as text: {limit: flops or bytes per second, the best so far}}."""
    for entry in entries:
        if entry["run_type"] == "iteration":
            name, threads, _ = split_name(entry["run_name"])
            what = name.removeprefix("machine/")
            seconds = entry["real_time"] * SECONDS_OF_UNIT[entry["time_unit"]]
            per_second = entry.get("flops", entry.get("bytes")) / seconds
            of_threads = limits.setdefault(str(threads), {})
            of_threads[what] = max(per_second, of_threads.get(what, 0))


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def bound(measurement, limits, l3_bytes):
    """(name, seconds) of the limit that is met first: multiply-adds, or the traffic that the workload cannot avoid.

    Traffic is compared with reading from the L3 cache if all of it fits there, else with reading from memory, and
    AdamW's, of which three parts in seven are written, with copying.
    """
    flops, bytes_moved = measurement.flops, measurement.bytes
    level = "read_l3" if bytes_moved <= l3_bytes else "copy" if measurement.workload.operation == "adamw" else "read"
    needs = {"fma": flops / limits["fma"], level: bytes_moved / limits[level]}
    name = max(needs, key=needs.get)
    return name, needs[name]


def is_torch(who):
    return who.startswith("PyTorch")


def row(measurement, limits, l3_bytes):
    """What results/latest.json holds of a measurement. Without any peer, peer and ratio are None."""
    workload, threads = measurement.workload, measurement.threads
    ours = measurement.seconds["ours"]
    peers = {who: seconds for who, seconds in measurement.seconds.items() if who != "ours"}
    best = min(peers, key=peers.get, default=None)
    result = {
        "name": workload.operation,
        "shape": workload.shape,
        "dtype": workload.dtype,
        "threads": threads,
        "seconds": ours,
        "peer": best,
        "peer_seconds": peers[best] if best else None,
        "ratio": peers[best] / ours if best else None,
        "peers": peers,
        "regimes": measurement.regimes,
        "flops": measurement.flops,
        "bytes": measurement.bytes,
    }
    if str(threads) in limits and measurement.bytes:
        name, seconds = bound(measurement, limits[str(threads)], l3_bytes)
        result |= {"bound": name, "share": seconds / ours}
        result["fma_share"] = measurement.flops / limits[str(threads)]["fma"] / ours
    return result


def head_text(result):
    """`384 x 256`, `20 x 2048 x 128` of an ensemble, `384 x 1` of a linear head; empty where there is no head."""
    shape = result["shape"]
    if shape["input"] == 0:
        return ""
    members = f"{shape['members']} x " if shape.get("members", 1) > 1 else ""
    return f"{members}{shape['input']} x {shape['hidden'] or 1}"


def counted(number, what):
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def describe(result):
    """Operation and shape in words."""
    shape = result["shape"]
    words = [f"{result['name']} {head_text(result)}".strip()]
    words += [counted(shape["rows"], "row")] if shape["rows"] else []
    words += [counted(shape["pairs"], "pair")] if shape["pairs"] and 2 * shape["pairs"] != shape["rows"] else []
    words += [f"{shape['density']} % active"] if "density" in shape else []
    words += [result["dtype"]] if result["dtype"] != "f32" else []
    return ", ".join(words)
