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

SHAPES = [
    ("forward", 24, 8, 5, 0, "f32", "shapes"),
    ("forward", 24, 0, 5, 0, "bf16", "shapes"),
    ("step", 24, 8, 6, 3, "f32", "shapes"),
    ("step", 24, 0, 6, 3, "bf16", "shapes"),
    ("step_dx", 24, 8, 6, 3, "f32", "shapes"),
    ("step", 24, 8, 6, 20, "f32", "shapes"),
    ("adamw", 24, 8, 0, 0, "f32", "shapes"),
]


def test_runs_and_can_be_compared(monkeypatch, tmp_path, capsys):
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch_peers, "FULL", SHAPES)
    monkeypatch.setattr(torch_peers, "RESULTS", tmp_path)
    monkeypatch.setattr(
        torch_peers, "overheads", lambda: ({"forward of nothing": 1e-6}, {"step of nothing": (2.0, 1.0)})
    )
    monkeypatch.setattr(torch_peers.Case, "wants_compile", lambda self: self.workload.operation == "forward")
    monkeypatch.setattr(sys, "argv", ["torch_peers.py", "--seconds", "20"])
    monkeypatch.setattr(torch_peers, "SECONDS", 1e-4)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    clock = iter(range(1000))  # as if everything took long, so that there are few turns
    monkeypatch.setattr(torch_peers.Clock, "elapsed", lambda self: next(clock) / 8)
    try:
        assert torch_peers.main() == 0
    finally:
        torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert "PyTorch eager, fused" in output and "shapes at which a peer is faster" in output
    assert "microseconds above the extension's call, forward of nothing" in output and "NOT REACHED" in output
    file = tmp_path / "torch_peers.json"
    _, rows = compare.load(file)
    assert {row["name"] for row in rows.values()} == {"forward", "step", "step_dx", "adamw"}
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), str(file)])
    assert compare.main() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_wrong_result_is_not_timed(shape, monkeypatch):
    workload = torch_peers.workload_of(*shape[:-1])
    torch_peers.ours_of(workload)
    forward, step = rht.RewardHead.forward, rht.AdamW.step

    def scaled(self, *arguments):
        return 1.2 * forward(self, *arguments)

    monkeypatch.setattr(rht.RewardHead, "forward", scaled)
    monkeypatch.setattr(rht.AdamW, "step", lambda self: [step(self) for _ in range(2)])
    with pytest.raises(RuntimeError, match="differs from PyTorch's"):
        torch_peers.ours_of(workload)


def test_a_wrong_gradient_is_not_timed(monkeypatch):
    """Where the loss is right."""
    workload = torch_peers.workload_of("step_dx", 24, 8, 6, 3, "f32")
    loss = rht.preference_loss

    def with_gradient(head, x, *pairs):
        nothing = 0.5 * x.sum()
        return loss(head, x, *pairs) + nothing - nothing.detach()

    monkeypatch.setattr(rht, "preference_loss", with_gradient)
    with pytest.raises(RuntimeError, match="dX differs"):
        torch_peers.ours_of(workload)
