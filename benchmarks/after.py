"""Prints what an average of the weights and a largest norm cost a Loop.

    python benchmarks/after.py --turns=9

The sides take turns in one process, so that a machine whose speed drifts favours none.
"""

import statistics
import time

import numpy as np
from absl import app, flags

import tfreg
from tfreg import optimizers

_TURNS = flags.DEFINE_integer("turns", 9, "turns of each side", lower_bound=1)


def make_mlp(after):
    """Returns the loop of a 784-128-10 perceptron, at batch 32."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32_000, 784)).astype(np.float32)
    split = tfreg.data.Split(x, rng.integers(0, 10, 32_000).astype(np.int32))
    model = tfreg.models.MLP([128, 10], kernel_regularizer=tfreg.l2_regularizer(1e-4))
    return make_loop(model, split, 32, after)


def make_cnn(after):
    """Returns the loop of tfreg's CNN on images of 28 x 28, at batch 128."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_560, 28, 28, 1)).astype(np.float32)
    split = tfreg.data.Split(x, rng.integers(0, 10, 2_560).astype(np.int32))
    model = tfreg.models.CNN(10, kernel_regularizer=tfreg.l2_regularizer(1e-4))
    return make_loop(model, split, 128, after)


def make_loop(model, split, batch_size, after):
    """Returns a loop with hooks."""
    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(model, loss, optimizers.adam(1e-3), after=after)
    return tfreg.Loop(step, split, batch_size)


def measure(make):
    """Returns the median steps a second of each side, and of the pairs' ratios."""
    sides = {
        "no hook": lambda: [],
        "ema": lambda: [optimizers.ema(0.999)],
        "max_norm": lambda: [optimizers.max_norm(2.0)],
        "both": lambda: [optimizers.max_norm(2.0), optimizers.ema(0.999)],
    }
    loops = {name: make(after()) for name, after in sides.items()}
    speeds = {name: [] for name in sides}
    for turn in range(_TURNS.value + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop.train(turn)
            speed = loop.steps_per_epoch / (time.perf_counter() - start)
            if turn:  # The first one compiles.
                speeds[name].append(speed)
    for name, values in speeds.items():
        pairs = zip(values, speeds["no hook"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.3f} |")


def main(argv):
    del argv
    for name, make in (("MLP", make_mlp), ("CNN", make_cnn)):
        print(f"| {name} | steps/s | ratio |\n|---|---:|---:|")
        measure(make)
        print()


if __name__ == "__main__":
    app.run(main)
