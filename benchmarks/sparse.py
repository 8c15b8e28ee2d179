"""Prints what a step on a large table takes, in tf.compat.v1.train and in tfreg.

    python benchmarks/sparse.py --rows=1000000 --ids=32

A step is the gradient of `sum(gather(table, ids) ** 2) / 2` and the update; the ids
change from step to step. Both run in one process, in turns; medians, in milliseconds.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags

from tfreg import optimizers

_ROWS = flags.DEFINE_integer("rows", 1_000_000, "rows of the table")
_DIM = flags.DEFINE_integer("dim", 32, "length of a row")
_IDS = flags.DEFINE_integer("ids", 32, "ids of a step")
_STEPS = flags.DEFINE_integer("steps", 200, "steps that are timed")

v1 = tf.compat.v1
Step = Callable[[np.ndarray], object]
PAIRS: dict[str, tuple[Callable, Callable]] = {
    "sgd": (lambda: v1.train.GradientDescentOptimizer(0.1), optimizers.sgd),
    "momentum": (lambda: v1.train.MomentumOptimizer(0.1, 0.9), optimizers.momentum),
    "rmsprop": (lambda: v1.train.RMSPropOptimizer(0.1), optimizers.rmsprop),
    "adagrad": (lambda: v1.train.AdagradOptimizer(0.1), optimizers.adagrad),
    "adam, lazy": (
        lambda: v1.train.AdamOptimizer(0.1),
        lambda rate: optimizers.adam(rate, lazy=True),
    ),
}


def make_v1(make: Callable) -> Step:
    """Returns a step of tf.compat.v1's, in a graph and a session of its own."""
    with tf.Graph().as_default() as graph:
        # Drawn by the graph: as a constant it would be in there several times.
        start = v1.random_uniform([_ROWS.value, _DIM.value])
        table = v1.get_variable("table", initializer=start, use_resource=True)
        ids = v1.placeholder(tf.int32, [None])
        loss = tf.reduce_sum(tf.gather(table, ids) ** 2) / 2
        train = make().minimize(loss)
        initialize = v1.global_variables_initializer()
    session = v1.Session(graph=graph)
    session.run(initialize)
    return session.make_callable(train, [ids])


def make_ours(make: Callable, jit_compile: bool) -> Step:
    """Returns a step of ours, in a tf.function."""
    table = tf.Variable(tf.random.uniform([_ROWS.value, _DIM.value]))
    optimizer = make(0.1)

    @tf.function(jit_compile=jit_compile)
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, ids) ** 2) / 2
        optimizer.apply([tape.gradient(loss, table)], [table])

    return step


def time_in_turns(steps: dict[str, Step]) -> dict[str, float]:
    """Returns the median of each step's milliseconds."""
    generator = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_STEPS.value + 5):
        ids = generator.integers(_ROWS.value, size=_IDS.value, dtype=np.int32)
        for name, step in steps.items():
            start = time.perf_counter()
            step(ids)
            if number >= 5:  # The first ones trace and compile.
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(s) for name, s in seconds.items()}


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    print(f"{_ROWS.value:,} x {_DIM.value}, {_IDS.value:,} ids; ms a step\n")
    print("| optimizer | tf.compat.v1 | tfreg, graph | ratio | tfreg, XLA | ratio |")
    print("|---|---|---|---|---|---|")
    for name, (theirs, ours) in PAIRS.items():
        steps = {
            "v1": make_v1(theirs),
            "graph": make_ours(ours, jit_compile=False),
            "XLA": make_ours(ours, jit_compile=True),
        }
        ms = time_in_turns(steps)
        cells = [f"{ms['v1']:.2f}"]
        for way in ("graph", "XLA"):
            cells += [f"{ms[way]:.2f}", f"{ms[way] / ms['v1']:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        del steps
        gc.collect()  # Three tables and their slots.


if __name__ == "__main__":
    app.run(main)
