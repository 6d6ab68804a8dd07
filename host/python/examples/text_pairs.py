# SPDX-License-Identifier: Apache-2.0
"""Reading pairs of texts, for the examples that begin with texts."""

import pathlib

import datasets

KINDS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".jsonl": "json", ".json": "json"}


def read_text_pairs(path: str) -> datasets.Dataset:
    """The rows of a Parquet, Arrow, CSV or JSONL file, or of a folder that Dataset.save_to_disk wrote, with the columns
    chosen and rejected. SystemExit says what is wrong with others."""
    file = pathlib.Path(path)
    if not file.exists():
        raise SystemExit(f"{path}: does not exist")
    if file.is_dir():
        rows = datasets.load_from_disk(path)
        if not isinstance(rows, datasets.Dataset):
            raise SystemExit(f"{path}: holds the splits {', '.join(rows)}; expected one of their folders")
    elif file.suffix in KINDS:
        try:
            rows = datasets.load_dataset(KINDS[file.suffix], data_files=path, split="train")
        except (ValueError, datasets.exceptions.DatasetsError) as error:  # damaged, or without a row
            raise SystemExit(f"{path}: cannot be read: {error}") from error
    else:
        raise SystemExit(f"{path}: has the extension '{file.suffix}'; expected {', '.join(KINDS)} or a folder")
    for column in ("chosen", "rejected"):
        if column not in rows.column_names:
            raise SystemExit(f"{path}: has the columns {', '.join(rows.column_names)}; expected chosen and rejected")
    return rows
