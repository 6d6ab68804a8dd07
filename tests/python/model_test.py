# SPDX-License-Identifier: Apache-2.0
"""`RewardModel`: the program's numbers, scikit-learn's manners, and refusal of what is wrong."""

import json
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from unittest import SkipTest

import numpy as np
import pytest
import safetensors.numpy
import sklearn.base
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils.estimator_checks import estimator_checks_generator

import rewardhead
from conftest import SAMPLE, lets_other_threads_run, python
from rewardhead import RewardModel

RANDOM = np.random.default_rng(6)


def small(rows=12, columns=5, pairs=30):
    x = RANDOM.standard_normal((rows, columns)).astype(np.float32)
    chosen = RANDOM.integers(0, rows, pairs)
    return x, np.stack([chosen, (chosen + RANDOM.integers(1, rows, pairs)) % rows], axis=1)


def program(*arguments, **options):
    return python("-m", "rewardhead", *arguments, **options)


# ---- the same numbers as the program ----


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 16, "epochs": 4, "standardize": True, "weight_decay": 1.0},
        {"hidden": 0, "epochs": 3, "learning_rate": 0.01, "schedule": "cosine", "warmup": 2, "seed": 7},
        {"hidden": 8, "epochs": 2, "batch_pairs": 1000, "clip_norm": 0.5, "init": "he", "schedule": "linear"},
    ],
)
def test_fit_gives_the_bytes_of_the_program(sample, tmp_path, options):
    model = RewardModel(sample.embeddings, **options).fit(sample.pairs)
    model.save(tmp_path / "model.safetensors")
    given = []
    for name, value in options.items():
        given += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    data = ["--embeddings", SAMPLE / "embeddings.npy", "--pairs", SAMPLE / "pairs.csv", "--items", SAMPLE / "items.csv"]
    trained = program("train", *data, *given, "--out", tmp_path / "run", "--json")
    assert trained.returncode == 0, trained.stderr
    run = tmp_path / "run" / "model.safetensors"
    assert (tmp_path / "model.safetensors").read_bytes() == run.read_bytes()

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [{key: entry[key] for key in model.history_[0]} for entry in map(json.loads, lines)] == model.history_
    assert model.score(sample.pairs) == pytest.approx(json.loads(trained.stdout)["train"]["accuracy"], abs=1e-12)
    scored = program("score", "--model", run, "--embeddings", SAMPLE / "embeddings.npy", "--out", tmp_path / "r.npy")
    assert scored.returncode == 0, scored.stderr
    assert np.array_equal(np.load(tmp_path / "r.npy"), RewardModel.load(run).predict(sample.embeddings))


PROGRAM = pathlib.Path(rewardhead.__file__).parent / "rewardhead"
TRAIN = ["train", "--embeddings", SAMPLE / "embeddings.npy", "--pairs", SAMPLE / "pairs.csv"]
TRAIN += ["--items", SAMPLE / "items.csv"]


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--version"], 0),
        ([], 2),
        (["train", "--hidden", "-1"], 2),
        (["score", "--model", "gone.safetensors", "--embeddings", SAMPLE / "embeddings.npy", "--out", "-"], 1),
    ],
)
def test_the_program_is_the_same_command_line(arguments, code):
    ours = program(*arguments)
    theirs = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert ours.returncode == code and bool(ours.stdout) != bool(ours.stderr)


def test_ctrl_c_ends_the_epoch_and_saves(tmp_path):
    arguments = [*TRAIN, "--epochs", "100000", "--hidden", "8", "--log-every", "1", "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "rewardhead", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert "epoch 1/" in running.stderr.readline()
            running.send_signal(signal.SIGINT)
            rest = running.stderr.read()
            assert running.wait() == 130
        finally:
            running.kill()
    assert "Go on with: rewardhead train --resume" in rest
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_reader_that_leaves_ends_the_program():
    """As `rewardhead score ... | head -1` does: SIGPIPE, which Python ignores, is not ignored by the program."""
    command = [sys.executable, "-c", "import signal, os; print(signal.getsignal(signal.SIGPIPE).name)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "SIG_IGN"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "rewardhead", "train", "--help"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.returncode == -signal.SIGPIPE and not done.stderr


def test_ctrl_c_ends_fit():
    x, pairs = small()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        RewardModel(x, 4, epochs=10**9).fit(pairs)
    timer.join()


# ---- arithmetic ----


@pytest.mark.parametrize("hidden", [0, 7])
def test_rewards_are_the_formula(hidden):
    x, pairs = small()
    model = RewardModel(x, hidden, epochs=5).fit(pairs)
    w = model.head_
    x64 = x.astype(np.float64)
    expected = x64 @ w.w1 if hidden == 0 else np.maximum(x64 @ w.w1.T.astype(np.float64) + w.b1, 0) @ w.w2 + w.b2
    assert np.allclose(model.predict(x), expected, rtol=0, atol=1e-6)
    d = expected[pairs[:, 0]] - expected[pairs[:, 1]]
    assert np.allclose(model.decision_function(pairs), d, atol=2e-6)
    assert np.allclose(model.predict_proba(pairs), np.stack([1 / (1 + np.exp(d)), 1 / (1 + np.exp(-d))], 1), atol=1e-6)
    assert np.allclose(model.history_[-1]["epoch"], 5)


def test_score_is_accuracy():
    model = RewardModel(np.array([[0.0], [1], [2], [2]], np.float32), hidden=0, epochs=1)
    model.head_ = rewardhead.Head(1, 0)
    model.head_.w1[:] = 1  # rewards 0, 1, 2, 2
    pairs = [[1, 0], [0, 2], [2, 3]]
    assert model.score(pairs) == pytest.approx((1 + 0 + 0.5) / 3)
    assert model.score(pairs, [0, 0, 0.5]) == pytest.approx((0 + 1) / 2)
    assert model.score(pairs, [1, 1, 1], sample_weight=[2, 1, 0]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="undefined"):
        model.score(pairs, [0.5] * 3)


def test_labels_weights_and_margins_reach_the_loss():
    x, pairs = small()
    label, weight = RANDOM.random(len(pairs)), RANDOM.random(len(pairs)) + 0.5
    margin = RANDOM.standard_normal(len(pairs))
    model = RewardModel(x, 3, epochs=1, learning_rate=0.0).fit(pairs, label, sample_weight=weight, margin=margin)
    d = model.decision_function(pairs).astype(np.float64) - margin
    loss = np.mean(weight * (label * np.logaddexp(0, -d) + (1 - label) * np.logaddexp(0, d)))
    assert model.history_[0]["loss"] == pytest.approx(loss, rel=1e-6)


def test_storage_types_and_memory():
    x, pairs = small()
    half = x.astype(np.float16)
    by_half = RewardModel(half, 4, epochs=3).fit(pairs)
    by_float = RewardModel(half.astype(np.float32), 4, epochs=3).fit(pairs)
    assert np.array_equal(by_half.head_.w1, by_float.head_.w1)
    assert np.array_equal(by_half.predict(half), by_half.predict(half.astype(np.float32)))
    assert np.array_equal(by_float.predict(x.astype(np.float64)), by_float.predict(np.asfortranarray(x)))
    assert np.array_equal(by_float.predict(x.tolist()), by_float.predict(x))
    view = by_float.head_.w1
    view[0, 0] = 42
    assert by_float.head_.w1[0, 0] == 42  # a view, not a copy
    del by_float
    assert view[0, 0] == 42  # that keeps its owner alive


def test_what_is_no_proper_array_is_copied_and_a_proper_one_is_not():
    x, pairs = small()
    model = RewardModel(x, 4, epochs=2).fit(pairs)
    expected = model.predict(x)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(x.shape)
    misaligned[:] = x
    assert not misaligned.flags.aligned
    swapped, wide, strided = x.astype(">f4"), x.astype(np.float64), np.repeat(x, 2, axis=1)[:, ::2]
    for other in (misaligned, swapped, wide, strided):
        assert np.array_equal(model.predict(other), expected)
        again = RewardModel(other, 4, epochs=2).fit(pairs)
        assert np.array_equal(again.head_.w1, model.head_.w1) and again.score(pairs) == model.score(pairs)
    with pytest.raises(ValueError, match="x is not aligned to its elements of 4 bytes; copy it"):
        model.head_.score(misaligned)
    for proper in (x, x.astype(np.float16)):
        assert rewardhead._model._as_matrix("X", proper) is proper


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; pip install torch")
    x, pairs = small()
    tensor = torch.from_numpy(x)
    model = RewardModel(tensor, 4, epochs=2).fit(pairs)
    expected = model.predict(x)
    view = rewardhead._model._as_matrix("X", tensor)
    assert isinstance(view, np.ndarray) and np.shares_memory(view, x)
    for other in (tensor, tensor.double(), tensor.t().contiguous().t(), tensor.numpy()[::-1][::-1]):
        assert np.array_equal(model.predict(other), expected)
    narrow = tensor.bfloat16()
    assert rewardhead._model._as_matrix("X", narrow) is narrow
    assert np.array_equal(model.predict(narrow), model.predict(narrow.float()))
    assert np.array_equal(model.predict(narrow.t().contiguous().t()), model.predict(narrow))
    with_narrow = RewardModel(narrow, 4, epochs=2).fit(pairs)
    assert np.array_equal(with_narrow.head_.w1, RewardModel(narrow.float(), 4, epochs=2).fit(pairs).head_.w1)
    assert with_narrow.score(pairs) == RewardModel(narrow.float(), 4, epochs=2).fit(pairs).score(pairs)
    for wrong, message in (
        (tensor.clone().requires_grad_(), r"X cannot be read: .*detach\(\)"),
        (narrow.clone().requires_grad_(), r"X cannot be read: .*detach\(\)"),
        (tensor.to("meta"), "X cannot be read: .*meta"),
        (tensor.to_sparse(), "X cannot be read: "),
        (tensor.bool(), "X has the dtype bool; expected real numbers"),
        (tensor[0], "2 dimensions"),
        (narrow[0], "2 dimensions"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            model.predict(wrong)


def test_threads_do_not_change_results():
    x, pairs = small(2000, 256, 5000)  # so much work that it is shared
    one = RewardModel(x, 128, epochs=3, threads=1).fit(pairs)
    assert all(
        np.array_equal(RewardModel(x, 128, epochs=3, threads=n).fit(pairs).head_.w1, one.head_.w1) for n in (0, 2, 3)
    )


def test_other_threads_run_meanwhile():
    """The GIL is released: while a fit computes, this thread goes on counting."""
    x, pairs = small(3000, 512, 3000)
    fit = threading.Thread(target=RewardModel(x, 512, epochs=10, threads=1).fit, args=(pairs,))
    begin = latest = time.perf_counter()
    longest = 0.0  # that this thread did nothing
    fit.start()
    while fit.is_alive():
        now = time.perf_counter()
        longest, latest = max(longest, now - latest), now
    assert longest < (latest - begin) / 2  # held for the fit, it would be all of it


def test_calls_release_the_gil(tmp_path):
    x, pairs = small()
    head = RewardModel(x, 4, epochs=1).fit(pairs).head_
    for call in (
        lambda: head.score(x),
        lambda: head.save(tmp_path / "m.safetensors"),
        lambda: rewardhead.Head.load(tmp_path / "m.safetensors"),
    ):
        assert lets_other_threads_run(call)


def fit_in_child(x, pairs, queue):
    queue.put(RewardModel(x, 128, epochs=2, threads=2).fit(pairs).head_.w1)


def test_a_forked_child_computes():
    x, pairs = small(2000, 256, 5000)  # so much work that it is shared
    here = RewardModel(x, 128, epochs=2, threads=2).fit(pairs).head_.w1  # the workers exist before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=fit_in_child, args=(x, pairs, queue), daemon=True)
    child.start()
    try:
        assert np.array_equal(queue.get(timeout=60), here)
    finally:
        child.terminate()
        child.join()


# ---- files ----


def test_save_load_pickle(tmp_path):
    x, pairs = small()
    model = RewardModel(x, 4, epochs=2).fit(pairs)
    model.save(tmp_path / "m.safetensors")
    loaded = RewardModel.load(tmp_path / "m.safetensors", x)
    assert loaded.hidden == 4 and loaded.score(pairs) == model.score(pairs)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(x), model.predict(x)) and again.history_ == model.history_
    with pytest.raises(ValueError, match="nowhere.safetensors"):
        RewardModel.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(ValueError, match="cannot be"):
        model.save(tmp_path / "no_folder" / "m.safetensors")


def test_the_model_file_is_read_by_the_safetensors_package(tmp_path):
    x, pairs = small()
    model = RewardModel(x, 4, epochs=2).fit(pairs)
    model.save(tmp_path / "m.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert sorted(tensors) == ["score.0.bias", "score.0.weight", "score.2.bias", "score.2.weight"]
    assert np.array_equal(tensors["score.0.weight"], model.head_.w1) and tensors["score.2.weight"].shape == (1, 4)


# ---- refusal ----


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([[0, 12]], r"pairs\[0, 1\] is 12; expected a row of embeddings, 0 to 11"),
        ([[1, 0], [-1, 3]], r"pairs\[1, 0\] is -1"),
        ([[3, 3]], r"pairs\[0\] pairs row 3 with itself"),
        ([[0.0, 1.0]], "dtype float64; expected integers"),
        ([[0, 1, 2]], r"shape \(1, 3\)"),
        (np.zeros((0, 2), int), r"shape \(0, 2\)"),
    ],
)
def test_wrong_pairs(pairs, message):
    with pytest.raises(ValueError, match=message):
        RewardModel(small()[0], 2).fit(pairs)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"y": [2.0]}, r"y\[0\] is 2.0; expected 0 to 1"),
        ({"y": [1, 1]}, r"y has the shape \(2,\)"),
        ({"sample_weight": [-1.0]}, "sample_weight.*not negative"),
        ({"sample_weight": [0.0]}, "sample_weight is 0 everywhere"),
        ({"margin": [np.nan]}, "margin.*finite"),
    ],
)
def test_wrong_labels_weights_margins(arguments, message):
    with pytest.raises(ValueError, match=message):
        RewardModel(small()[0], 2).fit([[0, 1]], **arguments)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hidden": -1}, "hidden is -1"),
        ({"hidden": True}, "hidden is True"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": np.nan}, "learning_rate is nan"),
        ({"schedule": "step"}, "schedule is 'step'; expected constant cosine linear"),
        ({"init": "zero"}, "init is 'zero'; expected torch he normal"),
        ({"warmup": 99}, "^warmup is 99 steps, but the run has only 60"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 5000}, "threads is 5000"),
        ({"standardize": "yes"}, "standardize is 'yes'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        RewardModel(small()[0], **{"hidden": 2, **options}).fit([[0, 1]])


def test_wrong_embeddings():
    x, pairs = small()
    with pytest.raises(ValueError, match="embeddings is None"):
        RewardModel().fit(pairs)
    broken = x.copy()
    broken[3, 2] = np.inf
    with pytest.raises(ValueError, match="row 3, column 2 is inf"):
        RewardModel(broken, 2).fit(pairs)
    model = RewardModel(x, 2, epochs=1).fit(pairs)
    with pytest.raises(ValueError, match="X has 4 columns; expected 5, as the embeddings have$"):
        model.predict(x[:, :4])
    with pytest.raises(ValueError, match="X has 2 columns; .*; for pairs there are decision_function"):
        model.predict(pairs)
    with pytest.raises(ValueError, match="x has 4 columns; expected 5"):
        model.head_.score(x[:, :4].copy())
    with pytest.raises(ValueError, match="2 dimensions"):
        model.predict(x[0])
    with pytest.raises(TypeError, match="real numbers"):
        model.predict(x.astype(complex))
    with pytest.raises(ValueError, match="not fitted"):
        RewardModel(x, 2).predict(x)


# ---- scikit-learn ----

# Of scikit-learn's estimator checks, those that do not call fit with a one-dimensional y: samples here are pairs of
# rows, which those checks do not make.
CHECKS = """check_estimator_cloneable check_estimator_tags_renamed check_valid_tag_types check_estimator_repr
check_no_attributes_set_in_init check_estimators_unfitted check_do_not_raise_errors_in_init_or_set_params
check_mixin_order check_fit1d check_parameters_default_constructible check_get_params_invariance
check_set_params""".split()


def test_estimator_checks(monkeypatch):
    seen = []  # the dimensions of y that fit was called with
    fit = RewardModel.fit

    def spying(self, pairs, y=None, *rest, **named):
        seen.append(None if y is None else np.ndim(y))
        return fit(self, pairs, y, *rest, **named)

    monkeypatch.setattr(RewardModel, "fit", spying)
    passed = []
    for estimator, check in estimator_checks_generator(RewardModel()):
        name = check.func.__name__
        if name in CHECKS:
            check(estimator)
            passed.append(name)
            continue
        seen.clear()
        try:
            check(estimator)
        except (Exception, SkipTest) as error:
            assert set(seen) == {1} or isinstance(error, SkipTest), f"{name}, without a one-dimensional y: {error}"
    assert sorted(passed) == sorted(CHECKS)


def test_what_the_other_checks_look_for_on_pairs(tmp_path):
    """Read-only and mapped memory, Fortran order, nothing changed that should not be, no say of other samples."""
    x, pairs = small()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "pairs.npy", pairs)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(rewardhead._model._as_matrix("embeddings", mapped), mapped)
    options = {"hidden": 4, "epochs": 3, "seed": 1}
    model = RewardModel(mapped, **options)
    parameters = model.get_params()
    assert model.fit(np.load(tmp_path / "pairs.npy", mmap_mode="r")) is model
    assert all(value is parameters[name] for name, value in model.get_params().items())
    first, before = model.head_, dict(vars(model))
    differences = model.decision_function(pairs)
    order = np.random.default_rng(0).permutation(len(pairs))
    assert np.array_equal(model.decision_function(pairs[order]), differences[order])
    assert np.allclose([model.decision_function(pair[None])[0] for pair in pairs], differences, rtol=0, atol=1e-6)
    assert np.allclose(model.predict_proba(pairs).sum(axis=1), 1, rtol=0, atol=1e-14)
    model.score(pairs)
    assert vars(model) == before
    assert np.array_equal(model.fit(pairs).head_.w1, first.w1)
    assert np.array_equal(RewardModel(np.asfortranarray(x), **options).fit(pairs.tolist()).head_.w1, first.w1)


def test_clone_shares_the_embeddings():
    x, _ = small()
    model = RewardModel(x, 3, seed=5)
    copy = sklearn.base.clone(model)
    assert copy.embeddings is x and copy.get_params() == model.get_params() and not hasattr(copy, "head_")
    with pytest.raises(ValueError, match="no parameter 'width'"):
        model.set_params(width=3)


def test_grid_search_over_groups(sample):
    groups = sample.debates[sample.pairs[:, 0]]
    grid = GridSearchCV(
        RewardModel(sample.embeddings, epochs=20, standardize=True, weight_decay=1.0),
        {"hidden": [0, 16]},
        cv=GroupKFold(4),
    ).fit(sample.pairs, groups=groups)
    by_hand = []
    for train, test in GroupKFold(4).split(sample.pairs, groups=groups):
        model = RewardModel(sample.embeddings, 16, epochs=20, standardize=True, weight_decay=1.0)
        by_hand.append(model.fit(sample.pairs[train]).score(sample.pairs[test]))
    at = list(grid.cv_results_["param_hidden"]).index(16)
    assert [grid.cv_results_[f"split{i}_test_score"][at] for i in range(4)] == pytest.approx(by_hand)
    assert 0.65 < grid.best_score_ < 0.85
    assert grid.best_estimator_.embeddings is sample.embeddings
