# SPDX-License-Identifier: Apache-2.0
"""Compares two results of report.py and finds what got slower.

python bench/compare.py old.json new.json [--threshold 0.1] [--time-threshold 0.25]

A workload got slower if its ratio to the best peer fell by more than the threshold: peers run on the same machine in
the same minutes, so the ratio cancels most of what the machine does. Only peers of both files count. Times are
compared as well if both come from the same machine, with a wider threshold. Exit code 1: something got slower; 2: a
file cannot be used.
"""

import argparse
import json
import pathlib
import sys

NUMBER = (int, float)
# What a row must have, by type.
FIELDS = {"name": str, "shape": dict, "dtype": str, "threads": int, "seconds": NUMBER}
SHAPE_FIELDS = ("rows", "input", "hidden", "pairs")


class BadFile(Exception):
    pass


def check_field(path, where, holder, key, kind):
    if key not in holder:
        raise BadFile(f"{path}: {where} has no \"{key}\"")
    if not isinstance(holder[key], kind) or isinstance(holder[key], bool):
        raise BadFile(f"{path}: {where}: \"{key}\" is {json.dumps(holder[key])}, which is not of the type it should be")
    return holder[key]


def check_seconds(path, where, key, value):
    if not isinstance(value, NUMBER) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise BadFile(f"{path}: {where}: \"{key}\" is {json.dumps(value)}, which is no time in seconds")


def load(path):
    """The file's content, its rows by what they measure."""
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise BadFile(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadFile(f"{path}: not an object with \"machine\" and \"rows\"")
    machine = check_field(path, "the file", content, "machine", dict)
    rows = {}
    for number, row in enumerate(check_field(path, "the file", content, "rows", list)):
        where = f"rows[{number}]"
        if not isinstance(row, dict):
            raise BadFile(f"{path}: {where} is not an object")
        for key, kind in FIELDS.items():
            check_field(path, where, row, key, kind)
        for key in SHAPE_FIELDS:
            check_field(path, f"{where}.shape", row["shape"], key, int)
        check_seconds(path, where, "seconds", row["seconds"])
        for who, seconds in check_field(path, where, row, "peers", dict).items():
            check_seconds(path, f"{where}.peers", who, seconds)
        rows[key_of(row)] = row
    return machine, rows


def key_of(row):
    shape = " ".join(f"{key} {value}" for key, value in row["shape"].items())
    return f"{row['name']} {shape} {row['dtype']}, {row['threads']} threads"


def same_machine(old, new):
    return all(old.get(key) == new.get(key) for key in ("processor", "processors", "isa"))


def compare(old_rows, new_rows, threshold, time_threshold):
    """Lines for what got slower. `time_threshold` None: times are of different machines."""
    lines = []
    for key, old in old_rows.items():
        new = new_rows.get(key)
        if new is None:
            continue
        peers = old["peers"].keys() & new["peers"].keys()
        if peers:
            before, after = (min(row["peers"][who] for who in peers) / row["seconds"] for row in (old, new))
            if after < before * (1 - threshold):
                lines.append(f"ratio {before:.2f} -> {after:.2f} ({after / before - 1:+.0%})  {key}")
        if time_threshold is not None and new["seconds"] > old["seconds"] * (1 + time_threshold):
            before, after = old["seconds"], new["seconds"]
            lines.append(f"time {before * 1e3:.4g} ms -> {after * 1e3:.4g} ms ({after / before - 1:+.0%})  {key}")
    return lines


def fraction(text):
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--threshold", type=fraction, default=0.1, help="a ratio may fall by this part (default 0.1)")
    parser.add_argument("--time-threshold", type=fraction, default=0.25,
                        help="a time may grow by this part (default 0.25)")
    arguments = parser.parse_args()
    try:
        (old_machine, old_rows), (new_machine, new_rows) = load(arguments.old), load(arguments.new)
    except BadFile as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2

    same = same_machine(old_machine, new_machine)
    lines = compare(old_rows, new_rows, arguments.threshold, arguments.time_threshold if same else None)
    print("\n".join(lines) if lines else "Nothing got slower.")
    print(f"{len(old_rows.keys() & new_rows.keys())} workloads compared, by ratios" + (" and times." if same else
          " alone: the machines differ."))
    for rows, others, path in ((old_rows, new_rows, arguments.old), (new_rows, old_rows, arguments.new)):
        alone = sorted(rows.keys() - others.keys())
        if alone:
            print(f"{len(alone)} only in {path}, such as {alone[0]}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
