# SPDX-License-Identifier: Apache-2.0
"""Trains a decoder and its head with TRL's RewardTrainer; the head is ours:

    python trl_reward_trainer.py MODEL PAIRS OUT [STEPS]

MODEL is a folder or name of a decoder with its tokenizer (Llama, Qwen2, Mistral, Gemma2, GPT-2); PAIRS has the columns
chosen and rejected, texts (Parquet, CSV or JSONL). OUT is read by the stock class, AutoModelForSequenceClassification.
"""

import sys

import datasets
import trl
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import rewardhead.torch as rht


def main(name: str, pairs: str, out: str, steps: str = "100") -> None:
    kind = {"parquet": "parquet", "csv": "csv", "jsonl": "json", "json": "json"}[pairs.rsplit(".", 1)[-1]]
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = rht.attach(AutoModelForSequenceClassification.from_pretrained(name, num_labels=1))
    model.config.pad_token_id = tokenizer.pad_token_id  # for those who load OUT with the stock class
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(
            output_dir=out,
            max_steps=int(steps),
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            bf16=False,
        ),
        train_dataset=datasets.load_dataset(kind, data_files=pairs, split="train"),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")


if __name__ == "__main__":
    main(*sys.argv[1:])
