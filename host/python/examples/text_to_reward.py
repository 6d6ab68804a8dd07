# SPDX-License-Identifier: Apache-2.0
"""From texts to a trained head:

    python text_to_reward.py PAIRS.parquet MODEL OUT.safetensors

PAIRS has the columns chosen and rejected, texts: a Parquet, Arrow, CSV or JSONL file, or a folder of `datasets`. MODEL
is a folder or name of any encoder or decoder of Hugging Face, whose token states are averaged over the mask. Every
distinct text is embedded once.
"""

import argparse

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

import rewardhead
import rewardhead.torch as rht
from text_pairs import read_text_pairs


def embed(texts: list[str], name: str, batch: int = 32) -> np.ndarray:
    """[len(texts), input] float32: mean token states, scaled to length 1."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # the mask tells padding from text, so any token will do
    model = AutoModel.from_pretrained(name).eval()
    blocks = []
    with torch.inference_mode():
        for first in range(0, len(texts), batch):
            tokens = tokenizer(
                texts[first : first + batch], padding=True, truncation=True, max_length=512, return_tensors="pt"
            )
            states = model(**tokens).last_hidden_state
            blocks.append(torch.nn.functional.normalize(rht.pool_mean(states, tokens["attention_mask"])).numpy())
    return np.concatenate(blocks)


def main(pairs: str, name: str, out: str) -> None:
    rows = read_text_pairs(pairs)
    different = [row for row in rows if row["chosen"] != row["rejected"]]
    if not all(isinstance(row[column], str) for row in different for column in ("chosen", "rejected")):
        raise SystemExit(f"{pairs}: has other values than texts in chosen or rejected")
    if not different:
        raise SystemExit(f"{pairs}: each of its {len(rows)} pairs is a text with itself; expected one that is not")
    if len(different) < len(rows):
        print(f"{len(rows) - len(different)} pairs of a text with itself are left out")
    texts = sorted({row[column] for row in different for column in ("chosen", "rejected")})
    number = {text: i for i, text in enumerate(texts)}
    index = np.array([[number[row["chosen"]], number[row["rejected"]]] for row in different])
    embeddings = embed(texts, name)

    model = rewardhead.RewardModel(embeddings, hidden=64, epochs=60, standardize=True, weight_decay=1.0).fit(index)
    model.save(out)
    best = texts[int(model.predict(embeddings).argmax())]
    print(f"{len(index)} pairs of {len(texts)} texts; accuracy on them {model.score(index):.3f}")
    print(f"the best text: {best}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", metavar="PAIRS")
    parser.add_argument("name", metavar="MODEL")
    parser.add_argument("out", metavar="OUT.safetensors")
    main(**vars(parser.parse_args()))
