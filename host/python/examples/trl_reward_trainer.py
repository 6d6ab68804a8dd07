# SPDX-License-Identifier: Apache-2.0
"""Trains a decoder and its head with TRL's RewardTrainer; the head is ours:

    python trl_reward_trainer.py MODEL PAIRS OUT [--steps 100]

MODEL is a folder or name of a decoder with its tokenizer (Llama, Qwen2, Mistral, Gemma2, GPT-2); PAIRS has the columns
chosen and rejected: a Parquet, Arrow, CSV or JSONL file, or a folder of `datasets`. OUT is read by the stock class,
AutoModelForSequenceClassification.
"""

import argparse

import trl
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import rewardhead.torch as rht
from text_pairs import read_text_pairs


def main(name: str, pairs: str, out: str, steps: int) -> None:
    rows = read_text_pairs(pairs)
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = rht.attach(AutoModelForSequenceClassification.from_pretrained(name, num_labels=1))
    model.config.pad_token_id = tokenizer.pad_token_id  # for those who load OUT with the stock class
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(
            output_dir=out,
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            bf16=False,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(out)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="MODEL")
    parser.add_argument("pairs", metavar="PAIRS")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--steps", type=int, default=100)
    main(**vars(parser.parse_args()))
