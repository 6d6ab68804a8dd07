#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the sample data of this folder from the full data set (README.md here says what it is).

    make_sample_data.py SOURCE [TARGET]

SOURCE holds items.jsonl, items.csv, strict_pairs.csv and embeddings.npy. Writes embeddings.npy, items.csv and pairs.csv
into TARGET (default: this folder), the same bytes every time. No text of an argument is copied.
"""

import csv
import json
import pathlib
import sys

import numpy as np

ITEM_COLUMNS = ["row", "id", "debate", "topic", "tokens", "characters"]
PAIR_COLUMNS = {  # ours: the source's
    "chosen": "chosen_id",
    "rejected": "rejected_id",
    "n_chosen": "n_chosen",
    "n_rejected": "n_rejected",
    "n_tie": "n_tie",
}


def read_csv(file):
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write_csv(file, header, rows):
    with open(file, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main(source, target):
    items = read_csv(source / "items.csv")
    pairs = read_csv(source / "strict_pairs.csv")
    embeddings = np.load(source / "embeddings.npy", allow_pickle=False)
    with open(source / "items.jsonl", encoding="utf-8") as lines:
        texts = [json.loads(line) for line in lines]

    # Row i of the embeddings is line i of the texts and row i of the items; both sides of a pair share their topic.
    assert embeddings.shape == (len(items), 384) and embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()
    assert [int(item["row"]) for item in items] == list(range(len(items)))
    assert [(item["id"], item["topic"]) for item in items] == [(text["id"], text["topic"]) for text in texts]
    assert [int(item["characters"]) for item in items] == [len(text["text"]) for text in texts]
    assert all(item["debate"] == item["topic"].rsplit("_", 1)[0] for item in items)
    topics = {item["id"]: item["topic"] for item in items}
    assert len(topics) == len(items)
    assert all(topics[pair["chosen_id"]] == topics[pair["rejected_id"]] == pair["topic"] for pair in pairs)

    np.save(target / "embeddings.npy", np.ascontiguousarray(embeddings), allow_pickle=False)
    write_csv(target / "items.csv", ITEM_COLUMNS, ([item[name] for name in ITEM_COLUMNS] for item in items))
    write_csv(target / "pairs.csv", PAIR_COLUMNS, ([pair[name] for name in PAIR_COLUMNS.values()] for pair in pairs))
    print(f"{len(items)} items, {len(pairs)} pairs, embeddings {list(embeddings.shape)} {embeddings.dtype}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    here = pathlib.Path(__file__).resolve().parent
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else here)
