# SPDX-License-Identifier: Apache-2.0
"""attach(): the stock models' numbers, their files, and TRL's RewardTrainer, on tiny random models."""

import copy
import json

import datasets
import pytest
import torch
import transformers
import trl

import rewardhead.torch as rht

transformers.logging.set_verbosity_error()

SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=0,
    num_labels=1,
)
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=None),
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8, sliding_window=64),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, num_labels=1
    ),
}


def stock(name="qwen2", **options):
    torch.manual_seed(0)
    config = CONFIGS[name]()
    for key, value in options.items():
        setattr(config, key, value)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def batch(side="right"):
    torch.manual_seed(1)
    ids = torch.randint(1, 64, (4, 9))  # never the pad id, so that the stock model finds the same token
    at = torch.arange(9)[None]
    lengths = torch.tensor([9, 4, 1, 7])[:, None]
    mask = (at < lengths if side == "right" else at >= 9 - lengths).long()
    return ids * mask, mask


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", CONFIGS)
def test_rewards_and_gradients_of_the_stock_model(name, side):
    theirs = stock(name)
    ours = rht.attach(copy.deepcopy(theirs))
    ids, mask = batch(side)
    expected = theirs(input_ids=ids, attention_mask=mask).logits
    logits = ours(input_ids=ids, attention_mask=mask).logits
    assert logits.shape == (4, 1)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    expected.sin().sum().backward()
    logits.sin().sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for key, parameter in ours.named_parameters():
        scale = gradients[key].abs().max().item()
        torch.testing.assert_close(parameter.grad, gradients[key], rtol=1e-4, atol=1e-5 * scale + 1e-7)


def test_a_text_may_hold_the_pad_id():
    """The stock model looks for the last token that is no pad; the mask knows better."""
    ids, mask = batch()
    ours, theirs = rht.attach(stock()), stock()
    ids[0, -1] = 0  # a real token, the mask says
    states = theirs.model(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(ours(input_ids=ids, attention_mask=mask).logits[0], theirs.score(states[0, -1]))


def test_only_the_pooled_rows_are_scored():
    model = rht.attach(stock())
    seen = []
    model.score.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    ids, mask = batch()
    model(input_ids=ids, attention_mask=mask)
    assert seen == [(4, 32)]


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_the_stock_class_reads_a_linear_head(name, tmp_path):
    model = rht.attach(stock(name))
    with torch.no_grad():
        model.score.weight.mul_(3)
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded.score.weight, model.score.weight)
    ids, mask = batch()
    torch.testing.assert_close(
        loaded.eval()(input_ids=ids, attention_mask=mask).logits, model(input_ids=ids, attention_mask=mask).logits
    )
    again = rht.attach(loaded)
    assert torch.equal(again.score.weight, model.score.weight)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_an_mlp_head_is_restored_and_refused_by_the_stock_classes(name, tmp_path):
    model = rht.attach(stock(name), hidden=5)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["rewardhead"] == {"hidden": 5}
    for loader in (type(model), transformers.AutoModelForSequenceClassification):
        with pytest.raises(Exception, match="load it with rewardhead.torch.from_pretrained"):
            loader.from_pretrained(tmp_path)
    loaded = rht.from_pretrained(tmp_path).eval()
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    ids, mask = batch()
    assert torch.equal(
        loaded(input_ids=ids, attention_mask=mask).logits, model(input_ids=ids, attention_mask=mask).logits
    )
    loaded.save_pretrained(tmp_path / "again")
    assert rht.from_pretrained(tmp_path / "again").score.hidden == 5


def test_bfloat16_model():
    ids, mask = batch()
    model = rht.attach(stock().bfloat16())
    logits = model(input_ids=ids, attention_mask=mask).logits
    assert logits.dtype == torch.float32 and model.score.weight.dtype == torch.bfloat16
    logits.sum().backward()
    assert model.score.weight.grad.any()


def test_refusal(tmp_path):
    model = rht.attach(stock())
    ids, mask = batch()
    with pytest.raises(ValueError, match="attention_mask is None for a batch of 4"):
        model(input_ids=ids)
    assert model(input_ids=ids[:1]).logits.shape == (1, 1)
    with pytest.raises(ValueError, match=r"attention_mask\[2\] marks no token"):
        model(input_ids=ids, attention_mask=mask * torch.tensor([1, 1, 0, 1])[:, None])
    with pytest.raises(ValueError, match="labels given"):
        model(input_ids=ids, attention_mask=mask, labels=torch.zeros(4))
    with pytest.raises(TypeError, match="to which nothing is attached yet"):
        rht.attach(model)
    with pytest.raises(ValueError, match="3 outputs"):
        rht.attach(stock(num_labels=3))
    with pytest.raises(TypeError, match="NoneType as its score"):
        rht.attach(torch.nn.Linear(2, 1))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no entry 'rewardhead'"):
        rht.from_pretrained(tmp_path)


# ---- TRL ----


def losses_of_reward_trainer(model, folder, margin=False, accumulate=1, steps=20):
    generator = torch.Generator().manual_seed(3)

    def text():
        length = int(torch.randint(2, 12, (), generator=generator))
        return torch.randint(1, 64, (length,), generator=generator).tolist()

    rows = [{"chosen_ids": text(), "rejected_ids": text(), "margin": i % 3 / 2} for i in range(16)]
    if not margin:
        for row in rows:
            del row["margin"]
    arguments = trl.RewardConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=accumulate,
        learning_rate=1e-2,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        disable_dropout=True,
        seed=0,
    )
    trainer = trl.RewardTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer(),
        data_collator=trl.trainer.reward_trainer.DataCollatorForPreference(pad_token_id=0),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def tokenizer():
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"<pad>": 0, **{str(i): i for i in range(1, 64)}}, unk_token="<pad>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="63")


@pytest.mark.parametrize("options", [{}, {"margin": True}, {"accumulate": 2}], ids=["plain", "margin", "accumulated"])
def test_reward_trainer(options, tmp_path):
    theirs = losses_of_reward_trainer(stock(), tmp_path / "stock", **options)
    ours = losses_of_reward_trainer(rht.attach(stock()), tmp_path / "ours", **options)
    assert len(ours) == 20 and ours[-1] < 0.7 * ours[0]
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_reward_trainer_on_an_mlp_head(tmp_path):
    losses = losses_of_reward_trainer(rht.attach(stock(), hidden=16), tmp_path, steps=8)
    assert losses[-1] < losses[0]
