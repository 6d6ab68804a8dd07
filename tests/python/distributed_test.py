# SPDX-License-Identifier: Apache-2.0
"""1, 2 and 4 real processes with uneven shares of the pairs: the same curve, one bucket, and the exact normaliser."""

import numpy as np
import pytest
import torch

import rewardhead.torch as rht
from conftest import ROOT, python

EXAMPLE = ROOT / "host" / "python" / "examples" / "distributed.py"


# Runs a program and looks whether it leaves a thread of gloo behind, which could abort it while Python shuts down.
RUN = """
import pathlib, runpy, sys
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
threads = [task.joinpath("comm").read_text() for task in pathlib.Path("/proc/self/task").iterdir()]
assert not any("gloo" in name for name in threads), threads
"""


def torchrun(tmp_path, processes, *command):
    run = tmp_path / "run.py"
    run.write_text(RUN)
    done = python(
        *("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", run, *command),
        environment={"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_curve_does_not_depend_on_the_number_of_processes(sample, tmp_path):
    embeddings, pairs = tmp_path / "x.npy", tmp_path / "pairs.npy"
    np.save(embeddings, sample.embeddings[:300])
    few = sample.pairs[(sample.pairs < 300).all(1)][:997]
    assert len(few) == 997
    np.save(pairs, few)
    curves = {}
    for processes in (1, 2, 4):
        model = tmp_path / f"{processes}.safetensors"
        out = torchrun(tmp_path, processes, EXAMPLE, embeddings, pairs, model)
        curves[processes] = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("step")]
        assert len(curves[processes]) == 30 and rht.RewardHead.load(model).hidden == 64
    assert curves[1][-1] < 0.8 * curves[1][0]
    assert curves[2] == pytest.approx(curves[1], abs=1e-6) and curves[4] == pytest.approx(curves[1], abs=1e-6)

    # and it is that of plain single-process training
    torch.manual_seed(0)
    head, x, every = rht.RewardHead(384, 64), torch.from_numpy(sample.embeddings[:300]), torch.from_numpy(few)
    optimizer = rht.AdamW(head.parameters(), lr=1e-3, eps=1e-6)
    alone = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = rht.preference_loss(head, x, every[:, 0], every[:, 1])
        loss.backward()
        optimizer.step()
        alone.append(loss.item())
    assert alone == pytest.approx(curves[1], abs=1e-6)


RANKS = """
import torch, torch.distributed as dist, torch.distributed.nn, rewardhead.torch as rht
def train():
    rank = dist.get_rank()
    torch.manual_seed(0)
    head = rht.data_parallel(rht.RewardHead(600, 700))  # 1.7 MB: more than DistributedDataParallel's first bucket
    x = torch.randn(6, 600)
    buckets = []
    def hook(state, bucket):
        buckets.append(bucket.buffer().numel())
        work = dist.all_reduce(bucket.buffer().div_(2), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])
    head.register_comm_hook(None, hook)
    none = torch.zeros(0, dtype=torch.long)
    chosen, rejected = (torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])) if rank == 0 else (none, none)
    normalizer = rht.global_normalizer(len(chosen))  # 3 pairs on two ranks, all of them on one
    assert normalizer == 1.5, normalizer
    for step in range(3):
        head.zero_grad()
        rht.preference_loss(head, x, chosen, rejected, normalizer=normalizer).backward()
    assert buckets == [600 * 700 + 2 * 700 + 1] * 3, buckets
    alone = rht.RewardHead(600, 700)
    alone.load_state_dict(head.module.state_dict())
    rht.preference_loss(alone, x).backward()
    for a, b in zip(head.module.parameters(), alone.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-9)
    try:
        rht.global_normalizer(0)
    except ValueError as error:
        assert "no process has a pair" in str(error)
        print("as expected", flush=True)
dist.init_process_group("gloo")
train()
dist.destroy_process_group()
"""


def test_one_bucket_and_a_process_without_pairs(tmp_path):
    program = tmp_path / "ranks.py"
    program.write_text(RANKS)
    assert torchrun(tmp_path, 2, program).count("as expected") == 2
