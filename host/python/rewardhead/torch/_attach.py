# SPDX-License-Identifier: Apache-2.0
"""Hugging Face models for sequence classification with our head: pooled first, then scored."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from typing import Any

import torch
from torch import Tensor, nn

from ._dispatch import assert_soon
from ._head import RewardHead
from ._pool import pool_last_token

_ENTRY = "rewardhead"
# Every config turns the keys of id2label into integers as it is read. A key that is not an integer makes the stock
# classes refuse the model, and shows this text, where they would else start with a fresh `score` and only warn.
_REFUSAL = "an MLP reward head; load it with rewardhead.torch.from_pretrained"


def attach(model: nn.Module, hidden: int = 0) -> nn.Module:
    """Gives an ``AutoModelForSequenceClassification`` (Llama, Qwen2, Mistral, Gemma2, GPT-2, ...) our head as its
    ``score``, and a forward that pools each sequence's last token by the attention mask and scores only that.

    hidden=0 keeps its linear ``score``: same weight, same name, and the stock class reads what ``save_pretrained``
    writes. With hidden > 0 the head is new (as torch.nn.Linear starts), the config says so, `from_pretrained` reads
    what ``save_pretrained`` writes, and the stock classes refuse it; so does a ``Trainer`` that is to resume from it,
    as it reads the config.

    Changes `model` and returns it: its class becomes a subclass of its own, under the same name, so it is copied,
    pickled and saved whole as any model. It needs num_labels=1. Its ``logits`` are the rewards, [batch, 1] float32.
    """
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear) or not hasattr(model, "base_model_prefix"):
        raise TypeError(
            f"{type(model).__name__} has {type(score).__name__} as its score; expected a model for sequence "
            "classification with a linear score, to which nothing is attached yet"
        )
    if score.out_features != 1 or score.bias is not None:
        raise ValueError(
            f"the score of {type(model).__name__} has {score.out_features} outputs and "
            f"{'no ' if score.bias is None else 'a '}bias; expected one output (num_labels=1) and no bias"
        )
    head = RewardHead(score.in_features, hidden).to(score.weight)
    if hidden:
        setattr(model.config, _ENTRY, {"hidden": hidden})
        model.config.id2label = {_REFUSAL: "LABEL_0"}
    else:
        head.weight = score.weight
    model.score = head
    stock: Any = type(model)
    model.__class__ = _with_our_forward(stock)
    return model


def from_pretrained(folder: str | os.PathLike[str], **options: Any) -> nn.Module:
    """The model with an MLP head that ``save_pretrained`` of an attached model wrote to `folder`.

    `options` go to ``AutoModelForSequenceClassification.from_pretrained``.
    """
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        fields = json.load(file)
    entry = fields.pop(_ENTRY, None)
    if entry is None:
        raise ValueError(
            f"{folder}: its config has no entry '{_ENTRY}', so there is no MLP head; load it with the stock class"
        )
    fields["id2label"] = {0: "LABEL_0"}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # that `score.weight` is not there is known
    try:
        config = AutoConfig.for_model(**fields)
        model = AutoModelForSequenceClassification.from_pretrained(folder, config=config, **options)
    finally:
        logging.set_verbosity(verbosity)
    attach(model, entry["hidden"])

    stored = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), framework="pt") as file:
                stored.update({key: file.get_tensor(key) for key in file.keys() if key.startswith("score.")})
    model.score.load_state_dict({key.removeprefix("score."): tensor for key, tensor in stored.items()})
    return model


@functools.cache
def _with_our_forward(stock: Any) -> Any:
    """The subclass of `stock` that attached models are of. A class and not a forward in the instance, since that would
    stay bound to the first model in every copy, the replicas of torch.nn.DataParallel included."""

    def new(cls: Any, *arguments: Any, **options: Any) -> nn.Module:
        if arguments or options:  # type(model)(config) and type(model).from_pretrained make stock models
            return stock(*arguments, **options)
        return object.__new__(cls)  # of copies

    def reduce(self: Any) -> tuple[Any, ...]:
        return _unpickled, (stock,), self.__getstate__()

    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    # The name of the cache depends on the release of transformers. Here, since torch.compile cannot read dataclasses.
    handed_on = frozenset(field.name for field in dataclasses.fields(SequenceClassifierOutputWithPast))
    methods = {"__new__": new, "__reduce__": reduce, "forward": _forward, "_handed_on": handed_on}
    # Files that a model is saved in name its class, which is to be the stock one.
    names = {"__module__": stock.__module__, "__qualname__": stock.__qualname__, "__doc__": stock.__doc__}
    return type(stock.__name__, (stock,), {**names, **methods})


def _unpickled(stock: Any) -> Any:
    return object.__new__(_with_our_forward(stock))


_PACKED = "several sequences are packed in one row; pool by cu_seqlens (rewardhead.torch.pool_last_token)"


def _refuse_packed(mask: Tensor | None, position_ids: Tensor | None, options: dict[str, Any]) -> None:
    """Refuses a row of several sequences: the model is told so, or positions [batch, tokens] begin anew within it.

    Models that see images take [3, batch, tokens], of which the first (time) is the same for all of an image, or
    [4, batch, tokens], of which the first is that of the text."""
    if any(name.startswith(("cu_seq_lens", "seq_idx")) and value is not None for name, value in options.items()):
        raise ValueError(_PACKED)
    if position_ids is not None:
        positions = position_ids if position_ids.dim() < 3 else position_ids[0]
        before, after = positions[..., :-1], positions[..., 1:]
        anew = after < before
        if position_ids.dim() < 3 or position_ids.size(0) == 4:
            anew = anew | (after == 0)  # also behind a sequence of one token
        if mask is not None:  # in the padding they may be anything
            marked = mask.to(torch.bool)
            anew = anew & marked[:, 1:] & marked[:, :-1]
        assert_soon(~anew.any(), _PACKED)


def _forward(
    self: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    position_ids: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    labels: Tensor | None = None,
    return_dict: bool | None = None,
    **options: Any,
) -> Any:
    """Rewards as `logits` [batch, 1] of token ids [batch, tokens] or embeddings [batch, tokens, input].

    The reward is that of the last token that attention_mask [batch, tokens] marks; a batch of several needs a mask, and
    a row is one sequence.
    After a cache of earlier tokens the mask is [batch, earlier + tokens], and each row has a token among the new ones.
    All other arguments go to the model below the head, and its cache, hidden states and attentions are handed on.
    """
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    if labels is not None:
        raise ValueError(
            "labels given; a reward head is trained on pairs, by rewardhead.torch.bradley_terry_loss on logits[:, 0]"
        )
    outputs = getattr(self, self.base_model_prefix)(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        inputs_embeds=inputs_embeds,
        return_dict=True,
        **options,
    )
    states = outputs.last_hidden_state
    mask = attention_mask
    if mask is not None:
        continued = any(options.get(name) is not None for name in ("cache", "past_key_values"))
        mask = mask[:, -states.size(1) :] if continued else mask
        pooled = pool_last_token(states, mask)
    elif states.size(0) == 1:
        pooled = states[:, -1]
    else:
        raise ValueError(f"attention_mask is None for a batch of {states.size(0)}; expected [batch, tokens] of 0 and 1")
    _refuse_packed(mask, position_ids, options)
    kept = {name: value for name, value in outputs.items() if name in self._handed_on}
    result = SequenceClassifierOutputWithPast(logits=self.score(pooled)[:, None], **kept)
    if return_dict is None:
        return_dict = getattr(self.config, "return_dict", True)
    return result if return_dict else result.to_tuple()
