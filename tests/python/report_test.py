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
from conftest import SAMPLE


def python(*arguments):
    return subprocess.run([sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    done = python(
        *("rewardhead", "train", "--embeddings", SAMPLE / "embeddings.npy", "--pairs", SAMPLE / "pairs.csv"),
        *("--items", SAMPLE / "items.csv", "--group-column", "debate", "--folds", 4, "--fold", 0, "--hidden", 16),
        *("--epochs", 20, "--standardize", "--weight-decay", 1, "--out", folder),
    )
    assert done.returncode == 0, done.stderr
    done = python("rewardhead.report", folder)
    assert done.returncode == 0 and done.stdout.strip() == str(folder / "report.html"), done.stderr
    return folder


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.rows, self.titles, self.open = [], [], [], [], []
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


def test_without_items_and_held_out_pairs(tmp_path):
    x = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "p.csv").write_text("chosen,rejected,label\n0,1,1\n2,3,0.5\n4,5,0.2\n6,7,1\n")
    run = tmp_path / "run"
    done = python(
        *("rewardhead", "train", "--embeddings", tmp_path / "x.npy", "--pairs", tmp_path / "p.csv"),
        *("--hidden", 0, "--epochs", 3, "--out", run),
    )
    assert done.returncode == 0, done.stderr
    assert python("rewardhead.report", run).returncode == 0
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert len(page.images) == 2 and "nothing is held out" in page.titles[2]


def test_errors(tmp_path):
    wrong = python("rewardhead.report", tmp_path)
    assert wrong.returncode == 1 and "has no config.toml" in wrong.stderr and "Traceback" not in wrong.stderr
    assert python("rewardhead.report").returncode == 2
    assert python("rewardhead.report", "--help").returncode == 0


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
