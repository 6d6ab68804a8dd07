# SPDX-License-Identifier: Apache-2.0
"""Seconds for an epoch of training on pairs: ours (bench_epoch) and PyTorch in turns, gathers and optimiser included.

python bench/epoch.py build/release/bench/bench_epoch [--threads 1 2] [--json FILE]

The workload of arXiv 2502.04357 (reward models on stored embeddings of 2,048 dimensions, 10 responses and 10 pairs a
prompt, mini-batches of 512 pairs, an MLP, Adam) with 4,000 prompts and 256 hidden units, on made-up data: embeddings
are normal with a part common to the prompt, preferences drawn by Bradley and Terry's rule from the rewards of a random
linear teacher. An epoch takes the prompts in random order and the pairs of a prompt together, so that a batch's 1,024
places name some 460 distinct rows. PyTorch either does not use that (materialised pairs: x_chosen[batch],
x_rejected[batch]) or does (indexed rows: scores each distinct row of the batch once), as ours does.

All start every epoch from the same weights and see the same batches; their losses must agree, or this fails.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from torch.nn.functional import softplus

from results import Measurement, counted, describe, row
from workload import Workload

PROMPTS, RESPONSES, PAIRS, INPUT, HIDDEN, BATCH = 4000, 10, 10, 2048, 256, 512
LEARNING_RATE = 1e-4  # of Adam; at 1e-3 a z that rounds to the other side of 0 shows in the losses of later steps
ROUNDS = 3  # of epochs in turns; the least counts
TOLERANCE = 1e-4  # relative, between losses of the same step


def make_data():
    """x [rows, INPUT], pairs [pairs, 2] (chosen, rejected), and the order in which an epoch takes the pairs."""
    random = numpy.random.default_rng(0)
    x = random.standard_normal((PROMPTS, RESPONSES, INPUT), dtype=numpy.float32)
    x = numpy.float32(0.8) * x + numpy.float32(0.6) * random.standard_normal((PROMPTS, 1, INPUT), dtype=numpy.float32)
    x = x.reshape(-1, INPUT)
    teacher = random.standard_normal(INPUT, dtype=numpy.float32) / numpy.float32(INPUT**0.5)
    rewards = 2 * (x @ teacher)
    first = random.integers(RESPONSES, size=(PROMPTS, PAIRS))
    second = (first + random.integers(1, RESPONSES, size=(PROMPTS, PAIRS))) % RESPONSES
    left, right = ((numpy.arange(PROMPTS)[:, None] * RESPONSES + response).ravel() for response in (first, second))
    left_wins = random.random(left.size) < 1 / (1 + numpy.exp(rewards[right] - rewards[left]))
    pairs = numpy.stack([numpy.where(left_wins, left, right), numpy.where(left_wins, right, left)], axis=1)
    order = (random.permutation(PROMPTS)[:, None] * PAIRS + numpy.arange(PAIRS)).ravel()
    return x, pairs.astype(numpy.int32), order


class Ours:
    """The program, once for each number of threads."""

    name = "ours"

    def __init__(self, program, folder, threads):
        self.processes = {
            count: subprocess.Popen([program, folder, *map(str, (INPUT, HIDDEN, BATCH, count))], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True) for count in threads
        }

    def epoch(self, threads):
        process = self.processes[threads]
        print("epoch", file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            sys.exit("epoch: bench_epoch ended (see above)")
        answer = json.loads(line)
        return answer["seconds"], numpy.array(answer["losses"])

    def close(self):
        for process in self.processes.values():
            process.communicate()


class Torch:
    """One form of PyTorch's epoch. `loss_of(head, batch)` gathers the batch's rows and gives its loss."""

    def __init__(self, name, weights, batches, loss_of):
        self.name, self.weights, self.batches, self.loss_of = name, weights, batches, loss_of

    def train(self, batches):
        head = torch.nn.Sequential(torch.nn.Linear(INPUT, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
        head.load_state_dict(self.weights)
        optimizer = torch.optim.Adam(head.parameters(), lr=LEARNING_RATE, fused=True)
        start = time.perf_counter()
        losses = []
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = self.loss_of(head, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return time.perf_counter() - start, torch.stack(losses).numpy()

    def warm_up(self, threads):
        torch.set_num_threads(threads)
        self.train([*self.batches[:3], self.batches[-1]])  # the last is shorter: compiled code sees both sizes

    def epoch(self, threads):
        torch.set_num_threads(threads)
        return self.train(self.batches)


def torch_forms(x, pairs, order, weights):
    x, pairs, order = torch.from_numpy(x), torch.from_numpy(pairs).long(), torch.from_numpy(order)

    def loss_of_pairs(head, chosen, rejected):
        return softplus(head(rejected) - head(chosen)).mean()

    def loss_of_rows(head, rows, places):
        rewards = head(rows).squeeze(-1)
        return softplus(rewards[places[:, 1]] - rewards[places[:, 0]]).mean()

    x_chosen, x_rejected = x[pairs[:, 0]], x[pairs[:, 1]]
    batches, forms = order.split(BATCH), []
    for kind, function in ("eager", lambda f: f), ("compiled", lambda f: torch.compile(f, dynamic=True)):
        pairs_loss, rows_loss = function(loss_of_pairs), function(loss_of_rows)

        def materialised(head, batch, loss=pairs_loss):
            return loss(head, x_chosen[batch], x_rejected[batch])

        def indexed(head, batch, loss=rows_loss):
            rows, places = torch.unique(pairs[batch], return_inverse=True)
            return loss(head, x[rows], places)

        forms.append(Torch(f"PyTorch {kind}, materialised pairs", weights, batches, materialised))
        forms.append(Torch(f"PyTorch {kind}, indexed rows", weights, batches, indexed))
    return forms


def initial_weights():
    torch.manual_seed(0)
    head = torch.nn.Sequential(torch.nn.Linear(INPUT, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
    return head.state_dict()


def measure(ours, forms, threads):
    """Measurements, one for each number of threads, and the largest relative difference of two losses of a step."""
    name = f"epoch/input:{INPUT}/hidden:{HIDDEN}/members:1/rows:{PROMPTS * RESPONSES}/pairs:{PROMPTS * PAIRS}/dtype:f32"
    measurements = {count: Measurement(Workload.parse(name), count, "epoch") for count in threads}
    for form in forms:
        for count in threads:
            form.warm_up(count)
    difference = 0
    for _ in range(ROUNDS):
        for count, measurement in measurements.items():
            seconds, expected = ours.epoch(count)
            measurement.add("ours", seconds)
            for form in forms:
                seconds, losses = form.epoch(count)
                measurement.add(form.name, seconds)
                difference = max(difference, numpy.max(numpy.abs(losses - expected) / expected))
    return list(measurements.values()), difference


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="bench_epoch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", metavar="FILE", help="write the rows of the report there")
    arguments = parser.parse_args()

    x, pairs, order = make_data()
    weights = initial_weights()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        x.tofile(path / "x.f32")
        pairs[order].tofile(path / "pairs.i32")
        numpy.concatenate([tensor.numpy().ravel() for tensor in weights.values()]).tofile(path / "weights.f32")
        ours = Ours(arguments.program, folder, arguments.threads)
        measurements, difference = measure(ours, torch_forms(x, pairs, order, weights), arguments.threads)
        ours.close()

    rows = [row(measurement, {}, 0) for measurement in measurements]
    for result in rows:
        print(f"{describe(result)}, {counted(result['threads'], 'thread')}: seconds an epoch")
        for who, seconds in {"ours": result["seconds"], **result["peers"]}.items():
            times = "" if who == "ours" else f": {seconds / result['seconds']:.2f} times ours"
            print(f"  {seconds:6.3f}  {who}{times}")
    print(f"Losses of the same step differ by at most {difference:.1e} (relative; allowed: {TOLERANCE:.0e}).")
    if not difference <= TOLERANCE:
        sys.exit("epoch: they differ by more than that: not the same training, so the times say nothing")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows))


if __name__ == "__main__":
    root = pathlib.Path(__file__).resolve().parent.parent
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(root / "build/inductor"))
    main()
