# SPDX-License-Identifier: Apache-2.0
"""The compiled part. The functions on addresses belong to ``rewardhead.torch``, which checks what they cannot."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

class Head:
    """The parameters of a head; w1, b1, w2 and b2 are views of its memory."""

    def __init__(self, input: int, hidden: int) -> None: ...
    @property
    def input(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def w1(self) -> NDArray[np.float32]: ...
    @property
    def b1(self) -> NDArray[np.float32]: ...
    @property
    def w2(self) -> NDArray[np.float32]: ...
    @property
    def b2(self) -> NDArray[np.float32]: ...
    @staticmethod
    def load(file: str | os.PathLike[str]) -> Head: ...
    def save(self, file: str | os.PathLike[str]) -> None: ...
    def score(self, x: Any, threads: int = 0) -> NDArray[np.float32]: ...

def train(
    *,
    embeddings: Any,
    chosen: NDArray[np.int32],
    rejected: NDArray[np.int32],
    margin: NDArray[np.float32] | None,
    weight: NDArray[np.float32] | None,
    label: NDArray[np.float32] | None,
    hidden: int,
    epochs: int,
    batch_pairs: int,
    learning_rate: float,
    weight_decay: float,
    clip_norm: float,
    schedule: str,
    warmup: int,
    init: str,
    seed: int,
    standardize: bool,
    threads: int,
) -> tuple[Head, list[dict[str, Any]]]: ...
def read_run(
    *,
    model: str,
    embeddings: str,
    tensor: str,
    pairs: str,
    items: str,
    chosen: str,
    rejected: str,
    label: str | None,
    group: str,
    length: str | None,
    holdout: float,
    folds: int,
    fold: int,
    seed: int,
) -> dict[str, Any]: ...

HAS_CUDA: bool
LARGE: int  # bytes from which on large_like keeps memory

# -1, threads, None; or a GPU, its stream, memory of so many bytes
_Place = tuple[int, int, Callable[[int], int] | None]
_Head = tuple[Any, Any, Any, Any]  # w1, b1, w2, b2, tensors of PyTorch; of the linear head None after the first
_Tensors = tuple[int, int, int, int]  # addresses: parameter, gradient, first and second moments
_Pairs = tuple[int, int, int, int, int, int, int]  # chosen, rejected, bytes, count, margin, weight, label

def large_like(shape: Any) -> Any: ...
def head_forward(place: _Place, x: Any, head: _Head, rewards: Any, mask: Any) -> None: ...
def head_backward(
    place: _Place,
    x: Any,
    head: _Head,
    mask: Any,
    reward_gradient: Any,
    gradients: list[Any],
    input_gradient: Any,
) -> None: ...
def pair_loss(
    place: _Place, rewards: int, rows: int, pairs: _Pairs, normalizer: float, loss: int, reward_gradient: int
) -> None: ...
def loss_gradients(
    place: _Place,
    x: Any,
    head: _Head,
    pairs: _Pairs,
    normalizer: float,
    loss: Any,
    gradients: list[Any],
    input_gradient: Any,
) -> None: ...
def adamw(
    place: _Place,
    updates: list[tuple[int, _Tensors, int]],
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> None: ...
