# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one self-contained page whose numbers are those of report.json, as a browser shows it."""

import base64
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import rewardhead
import rewardhead.report
from conftest import SAMPLE, python


def module(*arguments):
    return python("-m", *arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    done = module(
        *("rewardhead", "train", "--embeddings", SAMPLE / "embeddings.npy", "--pairs", SAMPLE / "pairs.csv"),
        *("--items", SAMPLE / "items.csv", "--group-column", "debate", "--folds", 4, "--fold", 0, "--hidden", 16),
        *("--epochs", 20, "--standardize", "--weight-decay", 1, "--out", folder),
    )
    assert done.returncode == 0, done.stderr
    done = module("rewardhead.report", folder)
    assert done.returncode == 0 and done.stdout.strip() == str(folder / "report.html"), done.stderr
    return folder


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.rows, self.titles, self.points, self.open = [], [], [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("src", "href") if name in given]
        if tag == "img":
            self.images.append(given)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") or tag == "h2":
            (self.titles if tag == "h2" else self.rows[-1]).append("")
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == "h2":
            self.titles[-1] += data
        if self.open and self.open[-1] == "li":
            self.points.append(data)


def test_the_page(run, sample):
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|<script|https?:", text)
    assert len(page.images) == 4 and all(image["alt"] for image in page.images)
    for image in page.images:
        assert base64.b64decode(image["src"].split(",")[1]).startswith(b"\x89PNG")
    assert [title.split(",")[0] for title in page.titles] == [
        "Figures",
        "Learning curves",
        "Reliability",
        "Accuracy by debate",
        "Reward against length",
        "The pairs it gets most wrong",
        "Settings",
    ]
    figures = json.loads((run / "report.json").read_text())
    shown = {row[0]: row[1:] for row in page.rows}
    for key in ("accuracy", "nll", "ece", "reward_length_correlation"):
        assert shown[key.replace("_", " ")] == [f"{figures[part][key]:.3f}" for part in ("train", "held_out")]
    assert shown["pairs"] == ["8,650", "3,000"]
    assert "standardize = true" in text and "--config config.toml" in text

    # the pairs most wrong, by hand
    rewards = rewardhead.RewardModel.load(run / "model.safetensors").predict(sample.embeddings)
    held_out = np.isin(sample.debates[sample.pairs[:, 0]], sorted(set(sample.debates))[::4])
    pairs = sample.pairs[held_out]
    worst = pairs[np.argsort(rewards[pairs[:, 0]] - rewards[pairs[:, 1]], kind="stable")[:20]]
    listed = page.rows[page.rows.index(["preferred", "the other", "reward ahead", "group"]) + 1 :][:20]
    assert [row[:2] for row in listed] == [[sample.ids[chosen], sample.ids[rejected]] for chosen, rejected in worst]


# ---- runs that lack something ----


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of one epoch, without items, on pairs with labels; a copy of it is changed."""
    folder = tmp_path_factory.mktemp("small")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32))
    (folder / "p.csv").write_text("chosen,rejected,label\n0,1,1\n2,3,0.5\n4,5,0.2\n6,7,1\n")
    done = module(
        *("rewardhead", "train", "--embeddings", folder / "x.npy", "--pairs", folder / "p.csv"),
        *("--hidden", 0, "--epochs", 1, "--out", folder / "run"),
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def copied(small, tmp_path):
    return shutil.copytree(small, tmp_path / "run")


def page_of(folder):
    file = rewardhead.report.write_report(folder)
    assert sorted(other.name for other in folder.glob("report.html*")) == ["report.html"]
    return Page(file.read_text(encoding="utf-8"))


def test_one_epoch_without_items_and_held_out_pairs(copied):
    page = page_of(copied)
    assert len(page.images) == 2 and "nothing is held out" in page.titles[2]
    assert page.titles[-2] == "Not shown" and [reason.split(":")[0] for reason in page.points] == [
        "figures of held-out pairs",
        "accuracy by group",
        "reward against length",
    ]


def test_items_without_lengths(small, tmp_path):
    """Groups with $, which are no formulas, with markup and long names, one group without a decided pair, and many."""
    groups = ["$\\frac$ $x$", "<b>&", "a" * 90, *map(str, range(57))]
    rows = [f"i{row},{groups[row // 2]}" for row in range(120)]
    (tmp_path / "items.csv").write_text("\n".join(["id,topic", *rows]))
    pairs = [f"i{row},i{row + 1},{0.5 if row == 2 else 1}" for row in range(0, 120, 2)]
    (tmp_path / "p.csv").write_text("\n".join(["chosen,rejected,label", *pairs]))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((120, 6)).astype(np.float32))
    done = module(
        *("rewardhead", "train", "--embeddings", tmp_path / "x.npy", "--pairs", tmp_path / "p.csv", "--items"),
        *(tmp_path / "items.csv", "--group-column", "topic", "--hidden", 0, "--epochs", 2, "--out", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    page = page_of(tmp_path / "run")
    assert "Accuracy by topic" in page.titles[3] and len(page.images) == 3
    assert "40 of 60 groups" in (tmp_path / "run" / "report.html").read_text()
    assert [reason.split(":")[0] for reason in page.points] == ["figures of held-out pairs", "reward against length"]
    listed = page.rows[page.rows.index(["preferred", "the other", "reward ahead", "group"]) + 1 :]
    assert 0 < len(listed) <= 20 and {row[3] for row in listed} <= set(groups)


def test_lengths_and_rewards_that_do_not_vary():
    """Nothing is fitted to them, so nothing is divided by 0."""
    ones, many = np.ones(4), np.arange(4.0)
    for lengths, rewards, fitted in ((ones, many, False), (many, ones, False), (many, many, True)):
        axes = rewardhead.report._reward_by_length(lengths, rewards.astype(np.float32)).axes[0]
        assert bool(axes.lines) == fitted


@pytest.mark.parametrize(
    "text", [None, "", '{"epoch": 1, "loss": null}', '{"epoch": 1, "loss": NaN, "held_out_nll": NaN}']
)
def test_learning_curves_without_numbers(copied, text):
    if text is None:
        (copied / "metrics.jsonl").unlink()
    else:
        (copied / "metrics.jsonl").write_text(text)
    page = page_of(copied)
    assert ("Learning curves" in page.titles) == bool(text)
    assert bool(text) != any(reason.startswith("learning curves: metrics.jsonl") for reason in page.points)


def test_figures_that_are_null(copied):
    figures = json.loads((copied / "report.json").read_text())
    for key, value in figures["train"].items():
        if not isinstance(value, int):
            figures["train"][key] = None
    (copied / "report.json").write_text(json.dumps(figures))
    assert ["accuracy", "–"] in page_of(copied).rows


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("config.toml", None, "has no config.toml; expected the folder of a finished `rewardhead train --out`$"),
        ("config.toml", "a = ", "config.toml: is damaged"),
        ("config.toml", "epochs = 1", "config.toml: embeddings is None; expected what `rewardhead train` writes"),
        ("config.toml", 'embeddings = "x.npy"\npairs = 3', "config.toml: pairs is 3"),
        ("config.toml", 'embeddings = "gone.npy"\npairs = "p.csv"', "gone.npy: cannot be read: No such file"),
        ("metrics.jsonl", '{"epoch": 1, "lo', "metrics.jsonl: is damaged"),
        ("metrics.jsonl", "[1]", "metrics.jsonl: has a line without an epoch"),
        ("report.json", None, r"has no report.json; .*; this one is unfinished, go on with: .* --resume .*run$"),
        ("report.json", "", "report.json: is damaged"),
        ("report.json", "{}", "report.json: has no figures of `rewardhead train`"),
        ("model.safetensors", "x", "model.safetensors"),
    ],
)
def test_damaged_runs(copied, capsys, monkeypatch, name, text, message):
    (copied / name).unlink()
    if text is not None:
        (copied / name).write_text(text)
    monkeypatch.setattr("sys.argv", ["report", str(copied)])
    assert rewardhead.report.main() == 1
    shown = capsys.readouterr()
    assert shown.out == "" and re.search(message, shown.err.rstrip("\n")) and shown.err.count("\n") == 1
    assert not (copied / "report.html").exists()


def test_without_matplotlib(copied, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", str(copied)])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert rewardhead.report.main() == 1
    assert capsys.readouterr().err == (
        "rewardhead.report: matplotlib is not installed: pip install rewardhead[report]\n"
    )


def test_folds_need_items(copied):
    config = (copied / "config.toml").read_text()
    (copied / "config.toml").write_text(config + "folds = 2\nfold = 1\n")
    with pytest.raises(ValueError, match="folds is 2, but items is empty"):
        rewardhead.report.write_report(copied)


def test_errors(tmp_path):
    wrong = module("rewardhead.report", tmp_path)
    assert wrong.returncode == 1 and "has no config.toml and no report.json and no model.safetensors" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert module("rewardhead.report").returncode == 2
    assert module("rewardhead.report", "--help").returncode == 0


def test_in_a_browser(run, tmp_path):
    """Chromium draws it: wide enough, and with as many colours as plots have."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("chromium is not installed; apt-get install chromium")
    image = os.environ.get("REWARDHEAD_SCREENSHOT", str(tmp_path / "page.png"))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,3900"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={image}", f"file://{run / 'report.html'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    from matplotlib.image import imread

    pixels = (imread(image)[:, :, :3] * 255).astype(np.uint8)
    assert pixels.shape == (3900, 1000, 3)
    for colour in ((0x21, 0x66, 0xAC), (0xD6, 0x60, 0x4D)):
        assert (np.abs(pixels.astype(int) - colour).max(axis=2) < 12).sum() > 500
    rows = (pixels.min(axis=2) < 128).any(axis=1)
    assert rows[:200].any() and rows[3000:].any()  # from the title to the settings
