"""Prints the training steps a second of tfreg, of Keras's `fit` and of a tutorial loop.

    python benchmarks/steps_per_second.py --data_dir=data/mnist

The trap: a machine whose speed drifts makes whatever ran last look slow. Here the ways
take turns, in one order and then the other, and a ratio is of neighbours in time.
"""

import itertools
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable

# Both are read at the import: hide TensorFlow's notices, and let Keras run on it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfreg

_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder with MNIST's IDX files; without it mnist5k is used"
)
_REPETITIONS = flags.DEFINE_integer(
    "repetitions", 5, "turns of each way, of which the median counts", lower_bound=3
)

BATCH_SIZE, LEARNING_RATE = 32, 1e-3
L2 = 1e-4  # Keras's and the tutorial's; twice that for tfreg, which halves the square.
STEPS_PER_EXECUTION = (1, 10, 50, 125, 250)
TRIAL = 8_000  # Examples on which these are tried: 250 steps.
PART = 32_000  # Examples of an epoch of the slow ways: 1,000 steps.
SECONDS = 1.5  # Least time of a turn.
NUM_MODELS, NUM_PAIRS, PAIR_SECONDS = 9, 6, 0.3  # Short turns: they differ by little.

Way = Callable[[], tuple[int, float]]  # Trains an epoch; returns its steps and seconds.
Rates = dict[str, list[float]]  # Way's name -> steps a second of each turn.


def make_tfreg(split: tfreg.data.Split, *penalized: str) -> Way:
    """Returns `Loop.train`, L2 on what is named, with its wall time."""
    store = tfreg.Store()
    l2 = tfreg.l2_regularizer(2 * L2)
    with store.as_default():
        model = tfreg.models.MLP(
            [128, 10], **{f"{kind}_regularizer": l2 for kind in penalized}
        )
        step = tfreg.Step(
            model,
            tfreg.losses.sparse_softmax_cross_entropy,
            tfreg.optimizers.adam(LEARNING_RATE),
        )
    loop = tfreg.Loop(step, split, BATCH_SIZE)
    epochs = itertools.count()

    def train() -> tuple[int, float]:
        began = time.perf_counter()
        with store.as_default():
            loop.train(next(epochs))
        return loop.steps_per_epoch, time.perf_counter() - began

    return train


def _make_keras_model() -> keras.Model:
    l2 = keras.regularizers.L2(L2)
    return keras.Sequential(
        [
            keras.layers.Flatten(),
            keras.layers.Dense(128, "relu", kernel_regularizer=l2),
            keras.layers.Dense(10, kernel_regularizer=l2),
        ]
    )


def make_fit(x: np.ndarray, y: np.ndarray, **compiled: bool | int) -> Way:
    """Returns Keras's `fit` and the time of its epoch, what precedes it left out."""
    model = _make_keras_model()
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compiled,
    )
    times: list[float] = []

    def note(*_: object) -> None:
        times.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(on_epoch_begin=note, on_epoch_end=note)

    def train() -> tuple[int, float]:
        model.fit(x, y, BATCH_SIZE, verbose=0, callbacks=[clock])
        return -(-len(y) // BATCH_SIZE), times[-1] - times[-2]

    return train


def make_tutorial(x: np.ndarray, y: np.ndarray) -> Way:
    """Returns the loop of TensorFlow's tutorials, one tf.function call a step."""
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    dataset = dataset.shuffle(10_000).batch(BATCH_SIZE)
    model = _make_keras_model()
    loss_object = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    train_loss = keras.metrics.Mean()
    train_accuracy = keras.metrics.SparseCategoricalAccuracy()

    @tf.function
    def train_step(images, labels):
        with tf.GradientTape() as tape:
            predictions = model(images, training=True)
            loss = loss_object(labels, predictions) + tf.add_n(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        train_loss(loss)
        train_accuracy(labels, predictions)

    def train() -> tuple[int, float]:
        began = time.perf_counter()
        train_loss.reset_state()
        train_accuracy.reset_state()
        for images, labels in dataset:
            train_step(images, labels)
        float(train_loss.result()), float(train_accuracy.result())
        return len(dataset), time.perf_counter() - began

    return train


def measure(train: Way, seconds: float) -> float:
    """Returns steps a second over epochs that last `seconds` or longer together."""
    num_steps, spent = 0, 0.0
    while spent < seconds:
        steps, lasted = train()
        num_steps, spent = num_steps + steps, spent + lasted
    return num_steps / spent


def compare(ways: dict[str, Way], num_turns: int, seconds: float) -> Rates:
    """Returns what each way measures in its turns, every second turn backwards."""
    for train in ways.values():
        train()  # Compiles.
    rates: Rates = {name: [] for name in ways}
    for turn in range(num_turns):
        for name in reversed(ways) if turn % 2 else ways:
            rates[name].append(measure(ways[name], seconds))
    return rates


def divide(rates: list[float], others: list[float]) -> float:
    """Returns the median of the ratios, each of one turn."""
    return statistics.median(a / b for a, b in zip(rates, others, strict=True))


def find_steps_per_execution(x: np.ndarray, y: np.ndarray) -> str:
    """Returns the fastest of STEPS_PER_EXECUTION on a part of the data."""
    x, y = x[:TRIAL], y[:TRIAL]
    fits = {
        str(n): make_fit(x, y, jit_compile=True, steps_per_execution=n)
        for n in STEPS_PER_EXECUTION
    }
    rates = compare(fits, num_turns=3, seconds=0.3)
    return max(rates, key=lambda n: statistics.median(rates[n]))


def compare_penalty(split: tfreg.data.Split) -> list[float]:
    """Returns the ratio of L2 to no penalty for several pairs of models.

    Where the variables lie in memory makes one model some per cent faster than the
    same model made again: more than the penalty costs.
    """
    ratios = []
    for _ in range(NUM_MODELS):
        pair = {"none": make_tfreg(split), "l2": make_tfreg(split, "kernel")}
        rates = compare(pair, NUM_PAIRS, PAIR_SECONDS)
        ratios.append(divide(rates["l2"], rates["none"]))
    return ratios


def print_table(rates: Rates, base: str) -> None:
    """Prints a row for each way, with its ratio to `base`."""
    print("| | steps/s | min to max | ratio |\n|---|---:|---:|---:|")
    for name, turns in rates.items():
        print(
            f"| {name} | {statistics.median(turns):,.0f} "
            f"| {min(turns):,.0f} to {max(turns):,.0f} "
            f"| {divide(turns, rates[base]):.2f} |"
        )


def main(_: list[str]) -> None:
    """Measures, then prints the table and what it says."""
    name = "mnist5k" if _DATA_DIR.value is None else "mnist"
    try:
        split = tfreg.data.load(name, _DATA_DIR.value).train
    except tfreg.data.DataError as error:
        sys.exit(f"error: {error}")
    x, y = split.x.astype(np.float32) / 255, split.y
    steps = find_steps_per_execution(x, y)
    none, l2 = "tfreg, no penalty", "tfreg, L2 on the kernels"
    fit = "Keras fit as written, L2 on the kernels"
    best = f"Keras fit, jit_compile, steps_per_execution={steps}, same L2"
    ways = {
        none: make_tfreg(split),
        l2: make_tfreg(split, "kernel"),
        "tfreg, L2 on kernels, biases, activities": make_tfreg(
            split, "kernel", "bias", "activity"
        ),
        fit: make_fit(x[:PART], y[:PART]),
        best: make_fit(x, y, jit_compile=True, steps_per_execution=int(steps)),
        "loop of the tutorials, one tf.function a step, same L2": make_tutorial(
            x[:PART], y[:PART]
        ),
    }
    cost = compare_penalty(split)
    rates = compare(ways, _REPETITIONS.value, SECONDS)
    print(
        f"`{shlex.join(['python', *sys.argv])}`: {name}, MLP 784-128-10, Adam, batch "
        f"{BATCH_SIZE}; TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"{len(os.sched_getaffinity(0))} CPU cores; {_REPETITIONS.value} turns each; "
        f"epochs of {len(y):,} examples, of {len(y[:PART]):,} for the slow: fit as "
        "written and the tutorials' loop.\n"
    )
    print_table(rates, fit)
    print(
        f"\ntfreg with L2 makes {divide(rates[l2], rates[fit]):.1f} times the steps of "
        f"Keras's fit as people write it, {divide(rates[l2], rates[best]):.1f} times "
        f"those of its best, and {statistics.median(cost):.3f} times those of tfreg "
        f"without a penalty (median of {NUM_MODELS} pairs of models, which were "
        f"{min(cost):.3f} to {max(cost):.3f})."
    )


if __name__ == "__main__":
    app.run(main)
