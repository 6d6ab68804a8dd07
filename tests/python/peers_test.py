# SPDX-License-Identifier: Apache-2.0
"""bench/torch_peers.py on small shapes: it runs, its file is one that compare.py takes, and it times nothing that
computes something else than the peer."""

import sys

import pytest
import torch
from conftest import ROOT

import rewardhead.torch as rht

sys.path.insert(0, str(ROOT / "bench"))
import compare  # noqa: E402
import torch_peers  # noqa: E402
from workload import Workload  # noqa: E402

NAMES = [
    "forward/input:24/hidden:8/members:1/rows:5/pairs:0/dtype:f32",
    "forward/input:24/hidden:0/members:1/rows:5/pairs:0/dtype:bf16",
    "step/input:24/hidden:8/members:1/rows:6/pairs:3/dtype:f32",
    "step/input:24/hidden:0/members:1/rows:6/pairs:3/dtype:bf16",
    "step_dx/input:24/hidden:8/members:1/rows:6/pairs:3/dtype:f32",
    "step/input:24/hidden:8/members:1/rows:6/pairs:20/dtype:f32",
    "pair_loss/input:0/hidden:0/members:1/rows:6/pairs:3/dtype:f32",
    "pair_loss/input:0/hidden:0/members:1/rows:6/pairs:20/dtype:f32",
    "adamw/input:24/hidden:8/members:1/rows:0/pairs:0/dtype:f32",
]
NOT_OURS = [
    "backward/input:24/hidden:8/members:1/rows:6/pairs:0/dtype:f32",
    "step/input:24/hidden:8/members:3/rows:6/pairs:3/dtype:f32",
    "forward/input:384/hidden:256/members:1/rows:1000000/pairs:0/dtype:f32",
]


def test_runs_and_can_be_compared(monkeypatch, tmp_path, capsys):
    threads = torch.get_num_threads()
    suite = tmp_path / "bench_kernels"
    suite.write_text("#!/bin/sh\n" + "".join(
        f"echo {name}/threads:{count}/by:{who}/real_time\n"
        for name in [*NAMES, *NOT_OURS] for count in (1, 2) for who in ("ours", "openblas")))
    suite.chmod(0o755)
    monkeypatch.setattr(torch_peers, "RESULTS", tmp_path)
    found = {"forward of nothing": 1e-6}, {"step of nothing": (2.0, 1.0)}
    monkeypatch.setattr(torch_peers, "overheads", lambda: found)
    monkeypatch.setattr(sys, "argv", ["torch_peers.py", str(suite), "--seconds", "40"])
    monkeypatch.setattr(torch_peers, "SECONDS", 1e-4)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    clock = iter(range(1000))  # as if everything took long, so that there are few turns
    monkeypatch.setattr(torch_peers.Clock, "elapsed", lambda self: next(clock) / 2)
    try:
        assert torch_peers.main() == 0
    finally:
        torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert "PyTorch eager, fused" in output and "shapes at which a peer is faster" in output
    assert "microseconds above the C interface, forward of nothing" in output and "NOT REACHED" in output
    assert NOT_OURS[2] in output and "backward" not in output
    file = tmp_path / "torch_peers.json"
    _, rows = compare.load(file)
    assert len(rows) == 2 * len(NAMES) and all(row["c_seconds"] > 0 for row in rows.values())
    assert compiled and any("PyTorch compiled" in row["peers"] for row in rows.values())
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), str(file)])
    assert compare.main() == 0


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_c_interface_computes_the_same(name):
    ours, in_c = torch_peers.ours_of(Workload.parse(name))
    assert torch.equal(in_c(), ours())


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_result_is_not_timed(name, monkeypatch):
    workload = Workload.parse(name)
    torch_peers.ours_of(workload)
    forward, step, loss = rht.RewardHead.forward, rht.AdamW.step, rht.bradley_terry_loss

    def scaled(self, *arguments):
        return 1.2 * forward(self, *arguments)

    monkeypatch.setattr(rht.RewardHead, "forward", scaled)
    monkeypatch.setattr(rht, "bradley_terry_loss", lambda *arguments: 1.2 * loss(*arguments))
    monkeypatch.setattr(rht.AdamW, "step", lambda self: [step(self) for _ in range(2)])
    with pytest.raises(RuntimeError, match="differs from PyTorch's"):
        torch_peers.ours_of(workload)


def test_a_wrong_gradient_is_not_timed(monkeypatch):
    """Where the loss is right."""
    workload = Workload.parse("step_dx/input:24/hidden:8/members:1/rows:6/pairs:3/dtype:f32")
    loss = rht.preference_loss

    def with_gradient(head, x, *pairs):
        nothing = 0.5 * x.sum()
        return loss(head, x, *pairs) + nothing - nothing.detach()

    monkeypatch.setattr(rht, "preference_loss", with_gradient)
    with pytest.raises(RuntimeError, match="dX differs"):
        torch_peers.ours_of(workload)
