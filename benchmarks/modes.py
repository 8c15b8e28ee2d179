"""Prints which mode is faster for single operations, and which the rule chooses.

    python benchmarks/modes.py
    python benchmarks/modes.py --only=conv

The traps: a loop whose invariant part XLA computes once, and a machine whose speed
drifts. Here each step changes the input of the next, and the two modes take turns.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

# Both are read at the import: hide TensorFlow's notices, and let Keras run on it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfreg
from tfreg.training import compiling

_ONLY = flags.DEFINE_string("only", "", "part of the names of the cases to measure")
_TURNS = flags.DEFINE_integer("turns", 5, "turns of each mode", lower_bound=1)

SECONDS = 0.15  # Least time of a turn.
Case = tuple[list[int], Callable]  # The input's shape, and a function of the input.


def _image(channels: int, size: int = 16) -> list[int]:
    return [32, size, size, channels]


def _kernel(*shape: int) -> tf.Tensor:
    values = np.random.default_rng(0).normal(0, 0.1, shape)
    return tf.constant(values, tf.float32)


def _positive(x: tf.Tensor) -> tf.Tensor:
    """Returns a positive definite matrix."""
    return x @ tf.transpose(x) + float(x.shape[0]) * tf.eye(x.shape[0])


def _index(x: tf.Tensor, num: int) -> tf.Tensor:
    """Returns indices below `num` that depend on the input, so on the step."""
    return tf.math.floormod(tf.cast(tf.abs(x) * 1000.0, tf.int32), num)


def _make_embedding(sparse: bool) -> Callable:
    table = tf.Variable(_kernel(20_000, 32))
    optimizer = tfreg.optimizers.adam(1e-3)

    def train(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.gather(table, _index(x, 20_000)) ** 2)
        gradient = tape.gradient(loss, table)
        gradient = gradient if sparse else tf.convert_to_tensor(gradient)
        optimizer.apply([gradient], [table])
        return loss

    return train


def _make_training(model: Any, batch: list[int]) -> Callable:
    """Returns a step of Adam, the loss a mean of squares."""
    with tfreg.step_scope():
        model(tf.zeros(batch), training=False)
    variables = [
        v if isinstance(v, tf.Variable) else v.value  # of a keras.Variable
        for v in model.trainable_variables
    ]
    optimizer = tfreg.optimizers.adam(1e-3)

    def train(x: tf.Tensor) -> tf.Tensor:
        with tfreg.step_scope(step=optimizer.step), tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True)))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return train


def _make_mlp(*dropout: Callable) -> tfreg.layers.Sequential:
    dense = tfreg.layers.Dense
    return tfreg.layers.Sequential(
        [dense(128, activation=tf.nn.relu), *dropout, dense(10)]
    )


def make_operations() -> dict[str, Case]:
    """Returns operations, which are differentiated by their input."""
    nn, linalg = tf.nn, tf.linalg
    kernels = {n: _kernel(n, n, 16, 16) for n in (1, 3)}
    conv3d, conv1d = _kernel(3, 3, 3, 8, 8), _kernel(3, 16, 16)
    depthwise, square = _kernel(3, 3, 16, 1), _kernel(256, 256)
    segments = tf.constant(np.arange(4096) % 64, tf.int32)

    factorizations: dict[str, Callable] = {
        "cholesky": lambda x: linalg.cholesky(_positive(x)),
        "solve": lambda x: linalg.solve(_positive(x), x),
        "inverse": lambda x: linalg.inv(_positive(x)),
        "triangular solve": lambda x: linalg.triangular_solve(_positive(x), x),
        "qr": lambda x: linalg.qr(_positive(x))[1],
        "eigh": lambda x: linalg.eigh(_positive(x))[0],
    }

    def unroll(x: tf.Tensor) -> tf.Tensor:
        def body(k: tf.Tensor, state: tf.Tensor) -> tuple:
            return k + 1, tf.tanh(state @ square + x[:, k])

        loop = (tf.constant(0), tf.zeros([32, 256]))
        return tf.while_loop(lambda k, _: k < 20, body, loop, maximum_iterations=20)[1]

    return {
        "conv2d 1x1": (_image(16), lambda x: nn.conv2d(x, kernels[1], 1, "SAME")),
        "conv2d 3x3": (_image(16), lambda x: nn.conv2d(x, kernels[3], 1, "SAME")),
        "conv1d": ([32, 128, 16], lambda x: nn.conv1d(x, conv1d, 1, "SAME")),
        "conv3d": ([4, 8, 8, 8, 8], lambda x: nn.conv3d(x, conv3d, [1] * 5, "SAME")),
        "conv2d transposed": (
            _image(16),
            lambda x: nn.conv2d_transpose(x, kernels[3], [32, 32, 32, 16], 2),
        ),
        "conv2d depthwise": (
            _image(16),
            lambda x: nn.depthwise_conv2d(x, depthwise, [1] * 4, "SAME"),
        ),
        "max_pool2d": (_image(16), lambda x: nn.max_pool2d(x, 2, 2, "VALID")),
        "avg_pool2d": (_image(16), lambda x: nn.avg_pool2d(x, 2, 2, "VALID")),
        "resize bilinear": (_image(3), lambda x: tf.image.resize(x, [24, 24])),
        "sort": ([64, 1024], tf.sort),
        "sort 64": ([64], tf.sort),
        "argsort": ([4096], lambda x: tf.gather(x, tf.argsort(x))),
        "top_k": ([64, 1024], lambda x: nn.top_k(x, 5).values),
        **{
            f"{name} {n}": ([n, n], function)
            for name, function in factorizations.items()
            for n in (8, 32, 128)
        },
        "svd 16": ([16, 16], lambda x: linalg.svd(x, compute_uv=False)),
        "matmul": ([64, 256], lambda x: x @ square),
        "batch matmul": ([32, 64, 64], lambda x: x @ tf.transpose(x, [0, 2, 1])),
        "einsum": ([32, 64, 64], lambda x: tf.einsum("bqd,bkd->bqk", x, x)),
        "softmax": ([256, 512], nn.softmax),
        "layer norm": ([256, 512], keras.layers.LayerNormalization()),
        "batch norm": (
            _image(16),
            lambda x: nn.batch_normalization(x, *nn.moments(x, [0, 1, 2]), 0, 1, 1e-3),
        ),
        "cumsum": ([64, 1024], lambda x: tf.cumsum(x, 1)),
        "gather": ([4096, 16], lambda x: tf.gather(x, _index(x[:, 0], 4096))),
        "unsorted segment sum": (
            [4096, 16],
            lambda x: tf.math.unsorted_segment_sum(x, segments, 64),
        ),
        "fft": ([64, 256], lambda x: tf.abs(tf.signal.rfft(x))),
        "recurrence, 20 steps": ([32, 20, 256], unroll),
    }


def make_random() -> dict[str, Case]:
    """Returns random numbers, from a seed that each step changes."""
    random = tf.random

    def draw(alg: str, shape: list[int], dtype: tf.DType = tf.float32) -> Case:
        bounds = (None, None) if dtype.is_integer else (0, 1)

        def case(x: tf.Tensor) -> tf.Tensor:
            seed = _index(x[0, :2], 999)
            bits = random.stateless_uniform(shape, seed, *bounds, dtype, alg)
            return tf.cast(bits, tf.float32) * x

        return shape, case

    shape = [32, 128]
    return {
        "64 uniform, automatic": draw("auto_select", [4, 16]),
        "uniform, automatic": draw("auto_select", shape),
        "64 uniform, philox": draw("philox", [4, 16]),
        "uniform, philox": draw("philox", shape),
        "uniform bits, philox": draw("philox", shape, tf.uint32),
        "uniform, threefry": draw("threefry", shape),
        "random.uniform": ([128, 128], lambda x: x * random.uniform([128, 128])),
        "random.normal": ([128, 128], lambda x: x * random.normal([128, 128])),
    }


def make_steps() -> dict[str, Case]:
    """Returns training steps."""
    layers = keras.layers
    cases = {
        "MLP": ([32, 784], _make_mlp()),
        "MLP, tfreg Dropout": ([32, 784], _make_mlp(tfreg.layers.Dropout(0.5))),
        "MLP, tf.nn.dropout": ([32, 784], _make_mlp(lambda x: tf.nn.dropout(x, 0.5))),
        "MLP, Keras": (
            [32, 784],
            keras.Sequential([layers.Dense(128, "relu"), layers.Dense(10)]),
        ),
        "MLP, Keras Dropout": (
            [32, 784],
            keras.Sequential(
                [layers.Dense(128, "relu"), layers.Dropout(0.5), layers.Dense(10)]
            ),
        ),
        "LSTM, Keras": ([32, 20, 16], keras.Sequential([layers.LSTM(32)])),
        "GRU, Keras": ([32, 20, 16], keras.Sequential([layers.GRU(32)])),
        "CNN": ([32, 28, 28, 1], tfreg.models.CNN(10)),
    }
    trained = {
        name: (shape, _make_training(model, shape))
        for name, (shape, model) in cases.items()
    }
    return trained | {
        "embedding, Adam": ([32, 20], _make_embedding(sparse=False)),
        "embedding, Adam by rows": ([32, 20], _make_embedding(sparse=True)),
    }


def _differentiate(function: Callable) -> Callable:
    def differentiated(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(function(x) ** 2)
        return tf.convert_to_tensor(tape.gradient(y, x))

    return differentiated


def _build(step: Callable, num_steps: int, compiled: bool) -> Callable:
    def body(k: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return k + 1, step(x)

    def loop(x: tf.Tensor) -> tf.Tensor:
        start = (tf.constant(0), x)
        return tf.while_loop(
            lambda k, _: k < num_steps, body, start, maximum_iterations=num_steps
        )[1]

    return tf.function(loop, jit_compile=compiled)


def _time(loop: Callable, x: tf.Tensor) -> float:
    """Returns the seconds of a call, of as many as take a turn's time."""
    calls, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < SECONDS or calls == 0:
        loop(x).numpy()
        calls += 1
    return passed / calls


def measure(case: Case, turns: int) -> tuple[float, float, compiling.Mode]:
    """Returns milliseconds a step in XLA and in graph mode, and the rule's verdict."""
    shape, function = case
    x = tf.constant(np.random.default_rng(1).normal(size=shape), tf.float32)
    num_steps = 20

    def step(x: tf.Tensor) -> tf.Tensor:
        return x + 1e-20 * function(x)  # Hardly different, but not known before.

    graph = tf.function(step).get_concrete_function(tf.TensorSpec(shape)).graph
    loops = [_build(step, num_steps, compiled) for compiled in (True, False)]
    for loop in loops:
        loop(x)
    times = [[_time(loop, x) for loop in loops] for _ in range(turns)]
    medians = [1e3 * statistics.median(t) / num_steps for t in zip(*times, strict=True)]
    return medians[0], medians[1], compiling.choose(graph)


def main(_: list[str]) -> None:
    print("| | XLA ms | graph ms | XLA / graph, steps/s | rule | of the better |")
    print("|---|---:|---:|---:|---|---:|")
    cases = {
        name: (shape, _differentiate(function))
        for name, (shape, function) in (make_operations() | make_random()).items()
    }
    for name, case in (cases | make_steps()).items():
        if _ONLY.value not in name:
            continue
        try:
            xla, graph, mode = measure(case, _TURNS.value)
        except tf.errors.OpError as error:
            print(f"| {name} | {type(error).__name__} | | | | |")
            continue
        share = min(xla, graph) / {"xla": xla, "graph": graph}[mode.name]
        print(
            f"| {name} | {xla:.3f} | {graph:.3f} | {graph / xla:.2f} | {mode.name} | "
            f"{share:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
