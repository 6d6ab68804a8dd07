# SPDX-License-Identifier: Apache-2.0
"""`RewardModel`: training and scoring on arrays, in scikit-learn's manners."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core

_LARGEST = 2**31 - 1
_CPU = 1  # DLPack's kDLCPU


class RewardModel:
    """A reward head r(x) = w2 . relu(W1 x + b1) + b2, trained on pairs by the Bradley-Terry loss.

    The samples are pairs of rows of ``embeddings``, so that GridSearchCV, cross_validate and GroupKFold split pairs; a
    response is scored once however many pairs name it. Results are those of ``rewardhead train`` on the same data.

    Parameters
    ----------
    embeddings : [rows, input], finite
        The responses that pairs name by row. Anything that NumPy takes, or a CPU tensor with DLPack. float32, float16
        and, of tensors, bfloat16 are used where they lie if contiguous and aligned; others are copied, numbers of other
        types as float32. Needed by fit and by all that takes pairs; clones share it.
    hidden : hidden units, 0 to 2**24; 0 is the linear head r(x) = w . x
    epochs : passes over the pairs, at least 1
    batch_pairs : pairs in a step; 0: all
    learning_rate, weight_decay : of AdamW; decay acts on every parameter
    clip_norm : gradients are scaled down to this norm over all parameters; 0: never
    schedule : "constant", "cosine" or "linear", of the learning rate after warm-up
    warmup : steps W in which the learning rate rises: step t <= W has t / W of it
    init : first weights, "torch" (as torch.nn.Linear), "he" or "normal" (0.01 normal, zero biases)
    seed : of first weights and of shuffling, 0 to 2**63 - 1
    standardize : features get mean 0 and variance 1 over the training rows; folded into the weights
    threads : 0: what affinity and cgroup allow; never changes a result

    Attributes
    ----------
    head_ : Head
        The trained parameters, for raw embeddings.
    history_ : list of dict
        For each epoch ``epoch``, ``step``, ``learning_rate``, ``gradient_norm`` and ``loss``.
    """

    def __init__(
        self,
        embeddings: Any = None,
        hidden: int = 256,
        *,
        epochs: int = 60,
        batch_pairs: int = 0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        clip_norm: float = 0.0,
        schedule: str = "constant",
        warmup: int = 0,
        init: str = "torch",
        seed: int = 0,
        standardize: bool = False,
        threads: int = 0,
    ) -> None:
        self.embeddings = embeddings
        self.hidden = hidden
        self.epochs = epochs
        self.batch_pairs = batch_pairs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.schedule = schedule
        self.warmup = warmup
        self.init = init
        self.seed = seed
        self.standardize = standardize
        self.threads = threads

    # ---- training ----

    def fit(
        self,
        pairs: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        margin: ArrayLike | None = None,
    ) -> RewardModel:
        """Trains from first weights; returns self.

        pairs [n, 2] integers: the rows of the chosen and of the rejected response, which differ. y [n]: probability
        that chosen wins (None: 1). sample_weight [n]: finite, >= 0, not all 0 (None: 1). margin [n]: finite, subtracted
        from the difference of the rewards (None: 0).
        """
        options = self._checked_options()
        x = self._embeddings()
        pairs = _as_pairs(pairs, len(x))
        weight = _as_vector("sample_weight", sample_weight, len(pairs), 0.0, math.inf)
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is 0 everywhere; expected at least one weight above 0")
        self.head_, self.history_ = _core.train(
            embeddings=x,
            chosen=np.ascontiguousarray(pairs[:, 0]),
            rejected=np.ascontiguousarray(pairs[:, 1]),
            margin=_as_vector("margin", margin, len(pairs), -math.inf, math.inf),
            weight=weight,
            label=_as_vector("y", y, len(pairs), 0.0, 1.0),
            **options,
        )
        return self

    # ---- after training ----

    def predict(self, X: Any) -> NDArray[np.float32]:
        """Rewards [n] of embeddings X [n, input]. For pairs there are decision_function and predict_proba."""
        self._check_fitted()
        x = _as_matrix("X", X)
        if x.shape[1] != self.head_.input:
            pairs = "; for pairs there are decision_function and predict_proba" if x.shape[1] == 2 else ""
            raise ValueError(f"X has {x.shape[1]} columns; expected {self.head_.input}, as the embeddings have{pairs}")
        return self.head_.score(x, _integer("threads", self.threads, 0, 1024))

    def decision_function(self, pairs: ArrayLike) -> NDArray[np.float32]:
        """r(chosen) - r(rejected) [n] of pairs [n, 2]."""
        self._check_fitted()
        x = self._embeddings()
        pairs = _as_pairs(pairs, len(x))
        rows, inverse = np.unique(pairs, return_inverse=True)
        few = isinstance(x, np.ndarray) and len(rows) * 2 < len(x)  # else copying them would cost more
        rewards = self.predict(x[rows]) if few else self.predict(x)[rows]
        rewards = rewards[inverse.reshape(pairs.shape)]
        return rewards[:, 0] - rewards[:, 1]

    def predict_proba(self, pairs: ArrayLike) -> NDArray[np.float64]:
        """[n, 2]: the probabilities that rejected and that chosen wins, sigmoid of the difference of the rewards."""
        d = self.decision_function(pairs).astype(np.float64)
        chosen = np.exp(-np.logaddexp(0.0, -d))
        return np.stack([np.exp(-np.logaddexp(0.0, d)), chosen], axis=1)

    def score(self, pairs: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> float:
        """The share of pairs [n, 2] whose preferred response has the larger reward.

        The preferred one is chosen, or, where y < 1/2, rejected; pairs with y = 1/2 are left out. Equal rewards count
        one half.
        """
        d = self.decision_function(pairs)
        label = _as_vector("y", y, len(d), 0.0, 1.0)
        weight = _as_vector("sample_weight", sample_weight, len(d), 0.0, math.inf)
        sign = np.ones(len(d)) if label is None else np.sign(label - 0.5)
        decided = (sign != 0) * (np.ones(len(d)) if weight is None else weight)
        if not decided.any():
            raise ValueError("no pair is decided (y is 1/2, or sample_weight is 0, everywhere); accuracy is undefined")
        return float(np.average((np.sign(d) * sign + 1) / 2, weights=decided))

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes the safetensors file of ``rewardhead train``, with Hugging Face's names (score.weight, ...)."""
        self._check_fitted()
        self.head_.save(os.fspath(file))

    @classmethod
    def load(cls, file: str | os.PathLike[str], embeddings: Any = None, threads: int = 0) -> RewardModel:
        """The model of a safetensors file, ready to predict; with embeddings also for pairs."""
        head = _core.Head.load(os.fspath(file))
        model = cls(embeddings, head.hidden, threads=threads)
        model.head_ = head
        model.history_ = []
        return model

    # ---- what scikit-learn asks of an estimator ----

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        code = cls.__init__.__code__
        return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> RewardModel:
        """Sets parameters by name; returns self."""
        for name in params:
            if name not in self._names():
                raise ValueError(f"RewardModel has no parameter {name!r}; it has {', '.join(self._names())}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_clone__(self) -> RewardModel:
        return type(self)(**self.get_params())  # shares the embeddings, which cloning each parameter would copy

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            input_tags=InputTags(two_d_array=True),
            requires_fit=True,
        )

    def __repr__(self) -> str:
        shown = []
        for name, value in self.get_params().items():
            if name == "embeddings" and value is not None:
                shown.append(f"embeddings=<{' x '.join(str(size) for size in getattr(value, 'shape', ['?']))}>")
            elif name != "embeddings":
                shown.append(f"{name}={value!r}")
        return f"RewardModel({', '.join(shown)})"

    # ---- checks ----

    def _check_fitted(self) -> None:
        if hasattr(self, "head_"):
            return
        message = "this RewardModel is not fitted yet; call fit, or RewardModel.load"
        try:
            from sklearn.exceptions import NotFittedError
        except ImportError:
            raise ValueError(message) from None
        raise NotFittedError(message)

    def _embeddings(self) -> Any:
        if self.embeddings is None:
            raise ValueError("embeddings is None; pairs name rows of it, so give RewardModel(embeddings=X)")
        return _as_matrix("embeddings", self.embeddings)

    def _checked_options(self) -> dict[str, Any]:
        many = 10**9
        if not isinstance(self.standardize, (bool, np.bool_)):
            raise ValueError(f"standardize is {self.standardize!r}; expected True or False")
        return {
            "hidden": _integer("hidden", self.hidden, 0, 2**24),
            "epochs": _integer("epochs", self.epochs, 1, many),
            "batch_pairs": _integer("batch_pairs", self.batch_pairs, 0, many),
            "learning_rate": _number("learning_rate", self.learning_rate),
            "weight_decay": _number("weight_decay", self.weight_decay),
            "clip_norm": _number("clip_norm", self.clip_norm),
            "schedule": _text("schedule", self.schedule),
            "warmup": _integer("warmup", self.warmup, 0, many),
            "init": _text("init", self.init),
            "seed": _integer("seed", self.seed, 0, 2**63 - 1),
            "standardize": bool(self.standardize),
            "threads": _integer("threads", self.threads, 0, 1024),
        }


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected an integer from {low} to {high}")
    return int(value)


def _number(name: str, value: Any) -> float:
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not good or not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}; expected a finite number that is not negative")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; expected text")
    return value


def _as_matrix(name: str, values: Any) -> Any:
    """A C-contiguous, aligned matrix of a type that the kernels read: `values` itself or a view of it wherever it is
    one, else a copy, in float32 if its numbers are of another type."""
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        values = _from_dlpack(name, values)
    else:
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        if values.dtype not in (np.float32, np.float16):
            if values.dtype.kind not in "fiu":
                raise TypeError(f"{name} has the dtype {values.dtype}; expected real numbers")
            values = values.astype(np.float32)
        values = np.require(values, requirements=["C", "A"])
    if len(values.shape) != 2:
        raise ValueError(f"{name} has the shape {tuple(values.shape)}; expected 2 dimensions, [rows, input]")
    return values


def _from_dlpack(name: str, values: Any) -> Any:
    """A view as an array, or, of bfloat16, which NumPy lacks, a contiguous tensor."""
    try:
        device = values.__dlpack_device__()[0]
        if device != _CPU:
            raise BufferError(f"it is on the device {getattr(values, 'device', device)}, not the CPU")
        if "bfloat16" not in str(getattr(values, "dtype", "")):
            return np.from_dlpack(values)
        if getattr(values, "requires_grad", False):
            raise BufferError("it requires a gradient; use tensor.detach()")
        return values.contiguous() if hasattr(values, "is_contiguous") else values
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # as the library in question chooses
        raise ValueError(f"{name} cannot be read: {error}") from None


def _as_pairs(values: ArrayLike, rows: int) -> NDArray[np.int32]:
    pairs = np.asarray(values)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"pairs has the shape {pairs.shape}; expected [n, 2] with n >= 1, columns chosen and rejected")
    if pairs.dtype.kind not in "iu":
        raise ValueError(f"pairs has the dtype {pairs.dtype}; expected integers, the rows of embeddings")
    bad = (pairs < 0) | (pairs >= min(rows, _LARGEST))
    if bad.any():
        pair, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"pairs[{pair}, {column}] is {pairs[pair, column]}; expected a row of embeddings, 0 to {rows - 1}"
        )
    same = pairs[:, 0] == pairs[:, 1]
    if same.any():
        at = int(np.argmax(same))
        raise ValueError(f"pairs[{at}] pairs row {pairs[at, 0]} with itself; expected two different rows")
    return pairs.astype(np.int32)


def _as_vector(name: str, values: ArrayLike | None, count: int, low: float, high: float) -> NDArray[np.float32] | None:
    if values is None:
        return None
    given = np.asarray(values)
    if given.shape != (count,):
        raise ValueError(f"{name} has the shape {given.shape}; expected ({count},), one number a pair")
    if given.dtype.kind not in "fiub":
        raise ValueError(f"{name} has the dtype {given.dtype}; expected numbers")
    vector = np.ascontiguousarray(given, dtype=np.float32)
    bad = ~(np.isfinite(vector) & (vector >= low) & (vector <= high))
    if bad.any():
        at = int(np.argmax(bad))
        expected = "0 to 1" if high == 1 else "a finite number" + (" that is not negative" if low == 0 else "")
        raise ValueError(f"{name}[{at}] is {given[at]}; expected {expected}")
    return vector
