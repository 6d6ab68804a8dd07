# SPDX-License-Identifier: Apache-2.0
"""The report's plots, one SVG each."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as pyplot

from results import counted, describe, is_torch

OURS_COLOUR, PEER_COLOUR = "#b3331f", "#5c6b7a"
COLOURS = {"ours": OURS_COLOUR, "openblas": "#2f6f9f", "onednn": "#3f8f5f", "eigen": "#a0792f", "PyTorch": "#6a4fa0"}


def by_library(row):
    """Seconds of ours and of each library, PyTorch's in its better form."""
    seconds = {"ours": row["seconds"]}
    for who, value in row["peers"].items():
        library = "PyTorch" if is_torch(who) else who
        seconds[library] = min(value, seconds.get(library, value))
    return seconds


def save(figure, path):
    figure.savefig(path, bbox_inches="tight")
    pyplot.close(figure)
    return path


def ratios(rows, path):
    """The best peer's time over ours, a line of dots for each workload."""
    compared = [row for row in rows if row["ratio"] is not None and row["threads"] == 1]
    two = {describe(row): row["ratio"] for row in rows if row["ratio"] is not None and row["threads"] == 2}
    names = [describe(row) for row in compared]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.18 * len(names)))
    places = range(len(names))
    axes.scatter([row["ratio"] for row in compared], places, s=14, color=OURS_COLOUR, label="1 thread", zorder=3)
    axes.scatter([two.get(name, float("nan")) for name in names], places, s=14, facecolors="none",
                 edgecolors=OURS_COLOUR, label="2 threads", zorder=3)
    axes.axvline(1, color=PEER_COLOUR, linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
    axes.set_yticks(places, names, fontsize=6)
    axes.set_ylim(len(names), -1)
    axes.grid(axis="both", linewidth=0.3)
    axes.set_xlabel("time of the fastest peer over ours (right of 1: ours is faster)")
    axes.legend(loc="lower right", fontsize=7)
    return save(figure, path)


def curves(rows, key, title, path, limits):
    """GFLOP/s by the dense formulas against one dimension, a panel for each number of threads."""
    threads = sorted({row["threads"] for row in rows})
    figure, panels = pyplot.subplots(1, len(threads), figsize=(5 * len(threads), 3.6), squeeze=False)
    for axes, count in zip(panels[0], threads):
        lines = {}
        for row in sorted(rows, key=lambda row: row["shape"][key]):
            if row["threads"] == count:
                for who, seconds in by_library(row).items():
                    lines.setdefault(who, []).append((row["shape"][key], row["flops"] / seconds * 1e-9))
        for who, points in lines.items():
            axes.plot(*zip(*points), marker="o", markersize=3, label=who, color=COLOURS.get(who, PEER_COLOUR),
                      linewidth=2 if who == "ours" else 1)
        if str(count) in limits:
            axes.axhline(limits[str(count)]["fma"] * 1e-9, color=PEER_COLOUR, linestyle=":", label="FMA peak")
        if key != "density":
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({row["shape"][key] for row in rows}))
            axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel(key if key != "density" else "active hidden units, %")
        axes.set_ylabel("GFLOP/s of the dense formulas")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{title}, {counted(count, 'thread')}", fontsize=9)
        axes.grid(linewidth=0.3)
        axes.legend(fontsize=7)
    return save(figure, path)


def draw(rows, limits, folder):
    """Draws what there are rows for; returns the files."""
    files = [ratios(rows, folder / "ratios.svg")] if any(row["ratio"] for row in rows) else []
    sweep = [row for row in rows if "sweep" in row["regimes"].split()]
    for key, title, chosen in [
        ("hidden", "Step, input 1024, 256 rows", [row for row in sweep if row["shape"]["rows"] == 256]),
        ("rows", "Step, input 1024, hidden 256", [row for row in sweep if row["shape"]["hidden"] == 256]),
        ("density", "Backward, 384 x 240, 480 rows", [row for row in rows if "density" in row["shape"]]),
    ]:
        if len({row["shape"][key] for row in chosen}) > 1:
            files.append(curves(chosen, key, title, folder / f"{key}.svg", limits))
    return files
