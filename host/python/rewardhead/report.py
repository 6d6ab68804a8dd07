# SPDX-License-Identifier: Apache-2.0
"""``python -m rewardhead.report RUN`` writes RUN/report.html, one self-contained page about a run of the program.

Needs matplotlib (``pip install rewardhead[report]``), and the files that the run was made from where they were.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import pathlib
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _core

_BINS = 15  # as in report.json's ece
_WRONG = 20  # pairs listed
_GROUPS = 40  # bars drawn
_NEEDED = object()
_BLUE, _ORANGE, _GREY = "#2166ac", "#d6604d", "#888888"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } img { max-width: 100%; }
table { border-collapse: collapse; } td, th { padding: 0.15rem 0.9rem 0.15rem 0; text-align: right; }
td:first-child, th:first-child, .pairs td, .pairs th { text-align: left; }
.pairs th:nth-child(3), .pairs td:nth-child(3) { text-align: right; }
tr:nth-child(even) td { background: #f4f6f8; }
pre { background: #f4f6f8; padding: 0.8rem; overflow-x: auto; } p.note { color: #555; max-width: 45rem; }
"""


def write_report(run: str | os.PathLike[str]) -> pathlib.Path:
    """Writes report.html into a finished run's folder, beside itself first and then renamed; returns its path.

    ValueError says what is missing or damaged, of the folder or of the files that the run was made from. What a run
    does not have, such as groups or held-out pairs, the page names.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("matplotlib is not installed: pip install rewardhead[report]") from None
    folder = pathlib.Path(run)
    config, metrics, figures = _read_files(folder)
    data = _core.read_run(model=str(folder / "model.safetensors"), **_settings(folder / "config.toml", config))
    page = _page(folder.resolve().name, config, metrics, figures, data)
    target = folder / "report.html"
    unfinished = folder / f"report.html.tmp-{os.getpid()}"
    try:
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _read_files(folder: pathlib.Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    missing = [name for name in ("config.toml", "report.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        unfinished = (folder / "checkpoint.safetensors").exists() and "config.toml" not in missing
        resume = f"; this one is unfinished, go on with: rewardhead train --resume {folder}" if unfinished else ""
        raise ValueError(
            f"{folder}: has no {' and no '.join(missing)}; expected the folder of a finished "
            f"`rewardhead train --out`{resume}"
        )
    config = _parsed(folder / "config.toml", tomllib.loads)
    figures = _parsed(folder / "report.json", json.loads)
    train = figures.get("train") if isinstance(figures, dict) else None
    if not isinstance(train, dict) or "pairs" not in train or "held_out" not in figures:
        raise ValueError(f"{folder / 'report.json'}: has no figures of `rewardhead train`, 'train' and 'held_out'")
    curves = folder / "metrics.jsonl"
    metrics = _parsed(curves, lambda text: [json.loads(line) for line in text.splitlines()]) if curves.exists() else []
    if not all(isinstance(entry, dict) and isinstance(entry.get("epoch"), int) for entry in metrics):
        raise ValueError(f"{curves}: has a line without an epoch; expected those that `rewardhead train` writes")
    return config, metrics, figures


def _parsed(file: pathlib.Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except ValueError as error:  # of UTF-8, JSON and TOML
        raise ValueError(f"{file}: is damaged: {error}") from None


def _settings(file: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of read_run in the config of a run."""
    found = {}
    for argument, key, kind, default in (
        ("embeddings", "embeddings", str, _NEEDED),
        ("tensor", "tensor", str, ""),
        ("pairs", "pairs", str, _NEEDED),
        ("items", "items", str, ""),
        ("chosen", "chosen-column", str, "chosen"),
        ("rejected", "rejected-column", str, "rejected"),
        ("label", "label-column", str, None),
        ("group", "group-column", str, ""),
        ("length", "length-column", str, None),
        ("holdout", "holdout", (int, float), 0.0),
        ("folds", "folds", int, 0),
        ("fold", "fold", int, 0),
        ("seed", "seed", int, 0),
    ):
        value = config.get(key, default)
        good = isinstance(value, kind) if key in config else value is not _NEEDED
        if not good or (kind is int and not 0 <= value < 2**63):
            raise ValueError(f"{file}: {key} is {config.get(key)!r}; expected what `rewardhead train` writes there")
        found[argument] = value
    return found


# ---- the page ----


def _page(name: str, config: dict, metrics: list, figures: dict, data: dict) -> str:
    part = "held_out" if figures["held_out"] else "train"
    shown = "held-out pairs" if figures["held_out"] else "training pairs (nothing is held out)"
    chosen, rejected = data[part]["chosen"], data[part]["rejected"]
    label = data[part]["label"]
    label = np.ones(len(chosen)) if label is None else label.astype(np.float64)
    difference = (data["rewards"][chosen] - data["rewards"][rejected]).astype(np.float64)

    absent = []
    sections = [("Figures", _figures_table(figures))]
    if metrics:
        sections.append(("Learning curves", _image(_learning_curves(metrics), "loss and held-out NLL by epoch")))
    else:
        absent.append("learning curves: metrics.jsonl is missing or empty")
    if not figures["held_out"]:
        absent.append("figures of held-out pairs: the run held out none (--holdout, or --folds and --fold)")
    sections.append(
        (
            f"Reliability, {shown}",
            _image(_reliability(difference, label), "share of hits by confidence")
            + "<p class=note>Pairs lie in 15 equal bins by the probability that the head gives to its own choice. "
            "On the diagonal that probability is how often it is right; below, the head is too sure of itself.</p>",
        )
    )
    groups = figures[part].get("groups")
    if groups:
        what = html.escape(config.get("group-column", "group"))
        most = sorted(groups, key=lambda name: -groups[name]["pairs"])[:_GROUPS]
        left_out = f"<p class=note>The {_GROUPS} of {len(groups):,} groups with the most pairs.</p>"
        sections.append(
            (
                f"Accuracy by {what}, {shown}",
                _image(_accuracy_by_group({name: groups[name] for name in most}), "accuracy by group")
                + (left_out if len(groups) > _GROUPS else ""),
            )
        )
    else:
        absent.append("accuracy by group: the pairs have no groups (--items with --group-column)")
    if data["lengths"] is not None:
        rows = np.unique(np.concatenate([chosen, rejected]))
        sections.append(
            (
                f"Reward against length, {shown}",
                _image(_reward_by_length(data["lengths"][rows], data["rewards"][rows]), "reward against length")
                + "<p class=note>Each point is a response. A head that has learnt only that the longer wins shows a "
                "rising line here.</p>",
            )
        )
    else:
        column = html.escape(config.get("length-column", "tokens"))
        absent.append(f"reward against length: there are no items with a column {column} (--items, --length-column)")
    sections.append((f"The pairs it gets most wrong, {shown}", _wrong_pairs(chosen, rejected, difference, label, data)))
    if absent:
        points = "".join(f"<li>{reason}</li>" for reason in absent)
        sections.append(("Not shown", f"<ul>{points}</ul>"))
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in sorted(config.items()))
    sections.append(
        (
            "Settings",
            "<p>The run is repeated by <code>rewardhead train --config config.toml --out ANOTHER</code> with "
            f"rewardhead {_core.__version__}.</p><pre>{html.escape(settings)}</pre>",
        )
    )
    body = "".join(f"<h2>{title}</h2>\n{content}\n" for title, content in sections)
    title = f"Reward head: {html.escape(name)}"
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style></head>"
        f"<body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )


def _figures_table(figures: dict) -> str:
    parts = {"train": figures["train"], "held out": figures["held_out"]}
    parts = {name: values for name, values in parts.items() if values}
    lines = ["<tr><th></th>" + "".join(f"<th>{name}</th>" for name in parts) + "</tr>"]
    for key, value in figures["train"].items():
        if key in ("groups", "accuracy_interval_over"):
            continue
        given = [part.get(key) for part in parts.values()]
        if key == "accuracy_interval":
            over = figures["train"].get("accuracy_interval_over")
            key_text = f"95 % interval of accuracy, over {over}" if over else "interval of accuracy"
            cells = ["–" if not ends else f"{ends[0]:.3f} to {ends[1]:.3f}" for ends in given]
        else:
            key_text = key.replace("_", " ")
            cells = ["–" if v is None else f"{v:,}" if isinstance(value, int) else f"{v:.3f}" for v in given]
        lines.append(f"<tr><td>{key_text}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _wrong_pairs(chosen, rejected, difference, label, data) -> str:
    against = np.where(label > 0.5, -difference, difference)  # how far the other response is ahead
    against[label == 0.5] = -np.inf
    order = [int(i) for i in np.argsort(-against, kind="stable")[:_WRONG] if against[i] > 0]
    if not order:
        return "<p>None.</p>"
    lines = []
    for i in order:
        preferred, other = (chosen[i], rejected[i]) if label[i] > 0.5 else (rejected[i], chosen[i])
        cells = [_id(data, preferred), _id(data, other), f"{against[i]:.3f}"]
        if data["groups"]:
            cells.append(html.escape(data["groups"][preferred]))
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    header = "<tr><th>preferred</th><th>the other</th><th>reward ahead</th>" + (
        "<th>group</th>" if data["groups"] else ""
    )
    return f"<table class=pairs>{header}</tr>{''.join(lines)}</table>"


def _id(data: dict, row: int) -> str:
    return html.escape(data["ids"][row]) if data["ids"] else f"row {row}"


# ---- the plots ----


def _axes(height: float = 3.6):
    from matplotlib.figure import Figure  # without pyplot, which keeps figures and chooses a display

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _image(figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'


def _learning_curves(metrics: list):
    from matplotlib.ticker import MaxNLocator

    figure, axes = _axes()
    epochs = [entry["epoch"] for entry in metrics]
    marker = "o" if len(epochs) < 20 else None  # of one epoch a line shows nothing
    for key, colour, name in (("loss", _BLUE, "training loss"), ("held_out_nll", _ORANGE, "held-out NLL")):
        values = np.array([entry.get(key) for entry in metrics], dtype=np.float64)  # NaN where there is none
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=name)
    axes.axhline(np.log(2), color=_GREY, linewidth=0.8, linestyle=":", label="a coin (log 2)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel("nats")
    axes.legend(frameon=False)
    return figure


def _reliability(difference: np.ndarray, label: np.ndarray):
    figure, axes = _axes()
    decided = label != 0.5
    d, label = difference[decided], label[decided]
    confidence = 1 / (1 + np.exp(-np.abs(d)))
    hit = np.where(d == 0, 0.5, (d > 0) == (label > 0.5))
    bins = np.minimum(((confidence - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    axes.plot([0.5, 1], [0.5, 1], color=_GREY, linewidth=0.8, linestyle=":")
    used = np.unique(bins)
    counts = np.array([(bins == b).sum() for b in used])
    mean = np.array([[confidence[bins == b].mean(), hit[bins == b].mean()] for b in used]).reshape(-1, 2)
    axes.plot(mean[:, 0], mean[:, 1], color=_BLUE)
    axes.scatter(mean[:, 0], mean[:, 1], s=8 + 150 * counts / max(counts.max(initial=1), 1), color=_BLUE, alpha=0.7)
    axes.set_xlabel("probability of its own choice (areas: number of pairs)")
    axes.set_ylabel("share that it gets right")
    axes.set_ylim(0, 1.03)
    return figure


def _accuracy_by_group(groups: dict):
    names = sorted(groups)
    figure, axes = _axes(1.2 + 0.3 * len(names))
    at = np.arange(len(names))[::-1]
    accuracy = [np.nan if groups[n]["accuracy"] is None else groups[n]["accuracy"] for n in names]
    axes.barh(at, accuracy, color=_BLUE, height=0.6, label="the head")
    longer = [groups[n]["accuracy_longer_rule"] for n in names]
    if any(value is not None for value in longer):
        values = [np.nan if value is None else value for value in longer]
        axes.plot(values, at, "|", color=_ORANGE, markersize=12, markeredgewidth=2.5, label="the longer wins")
    axes.axvline(0.5, color=_GREY, linewidth=0.8, linestyle=":")
    short = [n if len(n) <= 40 else n[:39] + "…" for n in names]
    # A name may hold two $, which matplotlib would take for a formula.
    axes.set_yticks(at, [f"{s}  ({groups[n]['pairs']:,})" for s, n in zip(short, names)], parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("accuracy (number of pairs in brackets)")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def _reward_by_length(lengths: np.ndarray, rewards: np.ndarray):
    figure, axes = _axes()
    axes.scatter(lengths, rewards, s=10, color=_BLUE, alpha=0.5, linewidths=0)
    if np.ptp(lengths) > 0 and np.ptp(rewards) > 0:
        slope, constant = np.polyfit(lengths, rewards.astype(np.float64), 1)
        ends = np.array([lengths.min(), lengths.max()])
        correlation = np.corrcoef(lengths, rewards)[0, 1]
        axes.plot(ends, slope * ends + constant, color=_ORANGE, label=f"least squares, correlation {correlation:.2f}")
        axes.legend(frameon=False)
    axes.set_xlabel("length")
    axes.set_ylabel("reward")
    return figure


def main() -> int:
    """The command: 0, 1 for a failure, 2 for wrong usage."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        helped = sys.argv[1:] in (["--help"], ["-h"])
        print(
            "Usage: python -m rewardhead.report RUN\n\nWrites RUN/report.html.",
            file=sys.stdout if helped else sys.stderr,
        )
        return 0 if helped else 2
    try:
        print(write_report(sys.argv[1]))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"rewardhead.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
