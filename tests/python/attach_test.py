# SPDX-License-Identifier: Apache-2.0
"""attach(): the stock models' numbers, their files, and TRL's RewardTrainer, on tiny random models."""

import copy
import inspect
import json
import pickle

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


@pytest.mark.parametrize("name", CONFIGS)
def test_the_stock_class_reads_a_linear_head(name, tmp_path):
    model = rht.attach(stock(name))
    with torch.no_grad():
        model.score.weight.mul_(3)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(stock(name)).__name__]
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(stock(name))
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(loaded.score.weight, model.score.weight)
    ids, mask = batch()
    torch.testing.assert_close(
        loaded.eval()(input_ids=ids, attention_mask=mask).logits, model(input_ids=ids, attention_mask=mask).logits
    )
    again = rht.attach(loaded)
    assert torch.equal(again.score.weight, model.score.weight)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_mlp_head_is_restored_and_refused_by_the_stock_classes(name, tmp_path):
    model = rht.attach(stock(name), hidden=5)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["rewardhead"] == {"hidden": 5}
    for loader in (type(model), type(model).__base__, transformers.AutoModelForSequenceClassification):
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


@pytest.mark.parametrize("name, hidden", [*((name, 0) for name in CONFIGS), ("qwen2", 5)])
def test_copies_and_whole_files(name, hidden, tmp_path):
    model = rht.attach(stock(name), hidden)
    torch.save(model, tmp_path / "model.pt")
    ids, mask = batch()
    expected = model(input_ids=ids, attention_mask=mask).logits
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(tmp_path / "model.pt", weights_only=False),
    ):
        assert torch.equal(other(input_ids=ids, attention_mask=mask).logits, expected)
        with torch.no_grad():
            next(other.score.parameters()).zero_()  # its own parameters, which its own forward reads
        assert not torch.equal(other(input_ids=ids, attention_mask=mask).logits, expected)
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, expected)
    # As torch.nn.DataParallel does: the replica's parameters are put in, and its forward is not the model's.
    replica = model._replicate_for_data_parallel()
    assert replica.forward.__self__ is replica


@pytest.mark.parametrize("name", CONFIGS)
def test_other_arguments_are_treated_as_by_the_stock_forward(name):
    theirs = stock(name)
    ours = rht.attach(copy.deepcopy(theirs))
    ids, mask = batch()
    options = {"output_hidden_states": True, "output_attentions": True, "use_cache": True}
    positions = 2 * torch.arange(9).expand(4, 9)
    for model in (theirs, ours):
        model.set_attn_implementation("eager")  # the others give no attentions
    expected = theirs(input_ids=ids, attention_mask=mask, position_ids=positions, **options)
    result = ours(input_ids=ids, attention_mask=mask, position_ids=positions, **options)
    assert list(result) == list(expected) and len(result) == 4 and type(result) is type(expected)
    torch.testing.assert_close(result.logits, expected.logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.hidden_states, expected.hidden_states)
    torch.testing.assert_close(result.attentions, expected.attentions)
    assert (ours(input_ids=ids, attention_mask=mask).logits - result.logits).abs().max() > 1e-6  # by the positions
    parts = ours(input_ids=ids, attention_mask=mask, return_dict=False, **options)
    assert len(parts) == 4 and torch.equal(parts[0], ours(input_ids=ids, attention_mask=mask, **options).logits)
    ours.config.return_dict = False
    assert isinstance(ours(input_ids=ids, attention_mask=mask), tuple)
    ours.config.return_dict = True
    embedded = ours.get_input_embeddings()(ids)
    torch.testing.assert_close(
        ours(inputs_embeds=embedded, attention_mask=mask).logits, ours(input_ids=ids, attention_mask=mask).logits
    )


def positions_of(mask, padding):
    """By the mask, as generation makes them, with 0 or 1 in the padding, or nowhere below 1."""
    positions = mask.cumsum(1) - 1
    return positions.clamp(min=1) if padding == "clamped" else positions.masked_fill(mask == 0, padding)


@pytest.mark.parametrize("padding", [0, 1, "clamped"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_positions_by_the_mask(name, side, padding):
    """That they go back or stay in the padding is no packing."""
    theirs = stock(name)
    ours = rht.attach(copy.deepcopy(theirs))
    ids, mask = batch(side)
    given = dict(input_ids=ids, attention_mask=mask, position_ids=positions_of(mask, padding))
    torch.testing.assert_close(ours(**given).logits, theirs(**given).logits, rtol=1e-5, atol=1e-6)


def test_positions_are_looked_at_in_compiled_code():
    theirs = stock()
    ours = rht.attach(copy.deepcopy(theirs))
    ids, mask = batch("left")
    given = dict(input_ids=ids, attention_mask=mask, position_ids=positions_of(mask, 1))
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**given).logits, theirs(**given).logits, rtol=1e-5, atol=1e-6)
    given["position_ids"] = given["position_ids"].index_fill(1, torch.tensor([3]), 0)
    with pytest.raises(RuntimeError, match="packed in one row"):
        compiled(**given)


def test_positions_in_images():
    """Of time, height and width, all of them beside a text's or not: they stay or go back within an image, and begin
    anew in a packed row alone."""
    if not hasattr(transformers, "Qwen3_5TextConfig"):
        pytest.skip("this release of transformers has no Qwen3.5")
    heads = dict.fromkeys(["linear_num_key_heads", "linear_num_value_heads"], 2)
    sizes = dict.fromkeys(["head_dim", "linear_key_head_dim", "linear_value_head_dim"], 8)
    layers = ["linear_attention", "full_attention"]
    config = transformers.Qwen3_5TextConfig(**SIZES, **heads, **sizes, layer_types=layers)
    model = rht.attach(transformers.AutoModelForSequenceClassification.from_config(config))
    mask = torch.ones(2, 9, dtype=torch.long)
    time = torch.tensor([0, 1, 2, 2, 2, 2, 4, 5, 6])  # the third to the sixth are an image of 2 x 2
    height = torch.tensor([0, 1, 2, 2, 3, 3, 4, 5, 6])
    width = torch.tensor([0, 1, 2, 3, 2, 3, 4, 5, 6])
    first = torch.tensor([0, 0, 0, 0, 2, 3, 4, 5, 6])  # an image is the beginning
    packed = torch.tensor([0, 1, 2, 2, 2, 2, 0, 1, 2])
    for planes in ((time, height, width), (torch.arange(9), time, height, width), (first, height, width)):
        positions = torch.stack(planes)[:, None].expand(-1, 2, -1)
        assert model(input_ids=mask, attention_mask=mask, position_ids=positions).logits.shape == (2, 1)
    for planes in ((packed, height, width), (packed, time, height, width), (first, time, height, width)):
        positions = torch.stack(planes)[:, None].expand(-1, 2, -1)
        with pytest.raises(ValueError, match="packed in one row"):
            model(input_ids=mask, attention_mask=mask, position_ids=positions)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cache_goes_on(name):
    """A prompt that several responses share is read once."""
    model = rht.attach(stock(name))
    ids, mask = batch("right")
    ids[:, :4], mask[:, :4] = torch.randint(1, 64, (4, 4)), 1  # all real
    mask[2, 4] = 1  # each row goes on
    expected = model(input_ids=ids, attention_mask=mask).logits
    prompt = model(input_ids=ids[:, :3], attention_mask=mask[:, :3], use_cache=True)
    cache = next(prompt[key] for key in prompt if key in ("cache", "past_key_values"))
    parameters = inspect.signature(type(model).__base__.forward).parameters
    key = "cache" if "cache" in parameters else "past_key_values"
    rest = model(input_ids=ids[:, 3:], attention_mask=mask, **{key: cache})
    torch.testing.assert_close(rest.logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"attention_mask has the shape \(4, 9\)"):
        rht.attach(stock(name))(input_ids=ids[:, 6:], attention_mask=mask)


def test_bfloat16_model():
    ids, mask = batch()
    model = rht.attach(stock().bfloat16())
    logits = model(input_ids=ids, attention_mask=mask).logits
    assert logits.dtype == torch.float32 and model.score.weight.dtype == torch.bfloat16
    logits.sum().backward()
    assert model.score.weight.grad.any()


@pytest.mark.parametrize("hidden", [0, 5])
def test_autocast(hidden):
    ids, mask = batch()
    model = rht.attach(stock(), hidden)
    expected = model(input_ids=ids, attention_mask=mask).logits
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask).logits
        loss = rht.bradley_terry_loss(logits[:, 0])
    assert logits.dtype == loss.dtype == torch.float32 and not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.02)
    loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_refusal(tmp_path):
    model = rht.attach(stock())
    ids, mask = batch()
    with pytest.raises(ValueError, match="attention_mask is None for a batch of 4"):
        model(input_ids=ids)
    assert model(input_ids=ids[:1]).logits.shape == (1, 1)
    with pytest.raises(ValueError, match=r"attention_mask\[2\] marks no token"):
        model(input_ids=ids, attention_mask=mask * torch.tensor([1, 1, 0, 1])[:, None])
    row = torch.ones(1, 8, dtype=torch.long)
    for packed in (
        {"position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])},
        {"position_ids": torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6]])},
        {"cu_seq_lens_q": torch.tensor([0, 4, 8])},
        {"seq_idx": torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])},
    ):
        for attention_mask in (None, torch.ones_like(row)):
            with pytest.raises(ValueError, match="packed in one row"):
                model(input_ids=row, attention_mask=attention_mask, **packed)
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
