"""Prints what goes wrong the plain way, in Keras and TensorFlow, and what tfreg gives.

    python benchmarks/traps.py  # exit status 1 where tfreg's answer isn't the truth

Every cell is computed by this run, on two logical CPUs. Models are `w * x`, w = 1.
"""

import dataclasses
import functools
import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

# Both are read at the import: hide TensorFlow's notices, and let Keras run on it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfreg

_ALONE = flags.DEFINE_string("alone", None, "ROW:WAY, for the script's own use")

SECONDS = 60  # Most that a way may take in a process of its own.
KERAS_L2 = keras.regularizers.L2(1.0)
TFREG_L2 = tfreg.l2_regularizer(2.0)  # The same, as it halves the square.

Way = Callable[[], Any]  # Returns a number or a list of numbers.


@dataclasses.dataclass(frozen=True)
class Row:
    """A trap, the two ways into it, and what both should give.

    `alone` is the way that runs in a process of its own: it breaks the one that it runs
    in, or has to start afresh.
    """

    title: str
    plain: Way
    tfreg: Way
    truth: Any
    alone: str = ""


def make_keras(**regularizers: Any) -> keras.Model:
    """Returns a Keras model of one weight."""
    dense = keras.layers.Dense(1, None, False, "ones", **regularizers)
    return keras.Sequential([keras.Input([1]), dense])


def make_tfreg(**regularizers: Any) -> tfreg.layers.Dense:
    """Returns a layer of tfreg's, of one weight."""
    ones = tfreg.layers.initializers.ones
    layer = tfreg.layers.Dense(1, None, False, ones, **regularizers)
    layer(tf.ones([1, 1]))  # Makes the weight.
    return layer


@functools.cache
def make_strategy() -> tf.distribute.Strategy:
    """Returns the strategy of two replicas.

    It is one for all rows: a second one over the same devices counts its collectives
    from the start again, and TensorFlow aborts where their shapes differ.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def add_up(strategy: tf.distribute.Strategy, function: Callable, *args: Any) -> float:
    """Returns the sum of what the replicas return, called in one tf.function."""
    each = tf.function(strategy.run)(function, args)
    return float(strategy.reduce("SUM", each, axis=None))


def penalty_in_replicas() -> Row:
    """A penalty that each replica adds, differentiated."""
    strategy = make_strategy()

    def plain() -> float:
        with strategy.scope():
            model = make_keras(kernel_regularizer=KERAS_L2)

        def differentiate() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.add_n(model.losses)
            return tf.reduce_sum(tape.gradient(loss, model.trainable_variables)[0])

        return add_up(strategy, differentiate)

    def ours() -> float:
        with strategy.scope():
            layer = make_tfreg(kernel_regularizer=TFREG_L2)

        def differentiate() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tfreg.losses.total_loss(tf.zeros([1]))
            return tf.reduce_sum(tape.gradient(loss, layer.kernel))

        return add_up(strategy, differentiate)

    title = "`tf.add_n(model.losses)` on 2 replicas, the gradient of w ** 2"
    return Row(title, plain, ours, 2.0)


def ragged_batch() -> Row:
    """A mean of means over replicas that hold three examples and one."""
    strategy = make_strategy()
    parts = tf.zeros([3, 1]), tf.fill([1, 1], 2.0)
    errors = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )

    def plain() -> float:
        loss = keras.losses.MeanSquaredError()
        return add_up(strategy, lambda e: loss(tf.zeros_like(e), e), errors)

    def ours() -> float:
        def compute(e: tf.Tensor) -> tf.Tensor:
            losses = tfreg.losses.mean_squared_error(tf.zeros_like(e), e)
            return tfreg.losses.total_loss(losses)

        return add_up(strategy, compute, errors)

    title = "the mean of the losses 0, 0, 0 and 4, three on one replica, one on another"
    return Row(title, plain, ours, 1.0)


def _clip_plainly() -> float:
    strategy = make_strategy()
    with strategy.scope():
        model, optimizer = make_keras(), keras.optimizers.SGD(1.0, global_clipnorm=1.0)

    def update(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(100.0 * model(x))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    add_up(strategy, update, tf.ones([1, 1]))
    return 1 - float(model.trainable_variables[0][0, 0])


def clip_by_hand() -> Row:
    """Clipping of what one replica has, against that of the sum."""

    def ours() -> float:
        strategy = make_strategy()
        with strategy.scope():
            layer, optimizer = make_tfreg(), tfreg.optimizers.sgd(1.0)

        def update(x: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tfreg.losses.total_loss(100.0 * layer(x))
            gradients = tape.gradient(loss, layer.trainable_variables)
            summed = tfreg.optimizers.sum_over_replicas(gradients)
            clipped, _ = tf.clip_by_global_norm(summed, 1.0)
            optimizer.apply(clipped, layer.trainable_variables, summed=True)
            return loss

        add_up(strategy, update, tf.ones([1, 1]))
        return 1 - float(layer.kernel[0, 0])

    title = "`global_clipnorm=1` on 2 replicas, the length of a step at rate 1"
    return Row(title, _clip_plainly, ours, 1.0)


def clip_by_step() -> Row:
    """The same by the argument of a `Step`."""

    def ours() -> float:
        strategy = make_strategy()
        with strategy.scope():
            layer, optimizer = make_tfreg(), tfreg.optimizers.sgd(1.0)
        step = tfreg.Step(layer, lambda y, z: 100 * z[:, 0], optimizer, 1.0)
        x = tf.ones([1, 1])
        add_up(strategy, lambda: step(x, x).loss)
        return 1 - float(layer.kernel[0, 0])

    return Row("the same by `Step(clip_norm=1.0)`", _clip_plainly, ours, 1.0)


def changed_scale() -> Row:
    """A scale that is changed after tracing."""

    def differentiate(regularizer: Callable, change: Callable) -> float:
        w = tf.Variable(1.0)

        @tf.function
        def compute() -> tf.Tensor:
            with tf.GradientTape() as tape:
                penalty = regularizer(w)
            return tape.gradient(penalty, w)

        compute()
        change()
        return float(compute())

    def plain() -> float:
        regularizer = keras.regularizers.L2(0.1)
        return differentiate(regularizer, lambda: setattr(regularizer, "l2", 10.0))

    def ours() -> float:
        scale = tf.Variable(0.2)
        return differentiate(tfreg.l2_regularizer(scale), lambda: scale.assign(20.0))

    title = "L2's scale set from 0.1 to 10 after tracing, the gradient of 10 * w ** 2"
    return Row(title, plain, ours, 20.0)


def variable_scale() -> Row:
    """A scale that is a variable."""

    def plain() -> float:
        return float(keras.regularizers.L2(tf.Variable(0.25))(tf.constant(2.0)))

    def ours() -> float:
        return float(tfreg.l2_regularizer(tf.Variable(0.5))(tf.constant(2.0)))

    return Row("a tf.Variable of 0.25 as L2's scale, at 2", plain, ours, 1.0)


def half_precision() -> Row:
    """A sum of squares that float16 can't hold."""
    twos = tf.fill([70_000], tf.constant(2, tf.float16))

    def plain() -> float:
        return float(keras.regularizers.L2(0.01)(twos))

    def ours() -> float:
        return float(tfreg.l2_regularizer(0.02)(twos))

    return Row("`L2(0.01)` of 70,000 twos in float16", plain, ours, 2800.0)


def read_after_step() -> Row:
    """A value of a step that is looked at when the step is over."""
    x = tf.fill([4, 1], 3.0)

    def plain() -> float:
        model = make_keras(activity_regularizer=KERAS_L2)
        tf.function(model)(x)
        return float(tf.add_n(model.losses))

    def ours() -> float:
        layer = make_tfreg(activity_regularizer=TFREG_L2)
        loss, optimizer = tfreg.losses.mean_squared_error, tfreg.optimizers.sgd(1.0)
        report = tf.function(tfreg.Step(layer, loss, optimizer))(x, x)
        return float(report.regularization)

    title = "activity penalties read after a tf.function ran, outputs of 3"
    return Row(title, plain, ours, 9.0)


def two_passes() -> Row:
    """Two forward passes in one step, as for a GAN or two views."""
    first, second = tf.fill([4, 1], 3.0), tf.fill([4, 1], 1.0)

    def plain() -> float:
        model = make_keras(activity_regularizer=KERAS_L2)

        @tf.function
        def compute() -> tf.Tensor:
            model(first), model(second)
            return tf.add_n(model.losses)

        return float(compute())

    def ours() -> float:
        layer = make_tfreg(activity_regularizer=TFREG_L2)

        @tf.function
        def compute() -> tf.Tensor:
            layer(first), layer(second)
            return tfreg.losses.total_loss(tf.zeros([4]))

        return float(compute())

    title = "activity penalties of two passes in one step, outputs of 3, then of 1"
    return Row(title, plain, ours, 10.0)


def built_layer() -> Row:
    """A regularizer for a layer that has its weights already."""

    def plain() -> float:
        layer = make_keras().layers[0]
        layer.kernel_regularizer = KERAS_L2
        return float(sum(layer.losses))

    def ours() -> float:
        layer = make_tfreg()
        try:
            layer.kernel_regularizer = TFREG_L2
        except AttributeError:  # Its text says what to write:
            layer.regularize("kernel", TFREG_L2)
        return float(tfreg.losses.get_regularization_loss())

    title = (
        "`layer.kernel_regularizer = r` on a built layer, the penalty; "
        "tfreg: AttributeError, then `layer.regularize`"
    )
    return Row(title, plain, ours, 1.0)


def across_replicas() -> Row:
    """A penalty in cross-replica context."""
    strategy = make_strategy()

    def plain() -> float:
        with strategy.scope():
            model = make_keras(kernel_regularizer=KERAS_L2)
            return float(tf.nn.scale_regularization_loss(model.losses[0]))

    def ours() -> float:
        with strategy.scope():
            layer = make_tfreg(kernel_regularizer=TFREG_L2)
            return float(tfreg.losses.total_loss(layer(tf.zeros([1, 1]))))

    title = "`tf.nn.scale_regularization_loss` outside `strategy.run`"
    return Row(title, plain, ours, 1.0)


def order_after_restart() -> Row:
    """Which examples come next in a process that starts where another ended."""

    def plain() -> list[int]:
        strategy = make_strategy()
        data = tf.data.Dataset.range(6).shuffle(6)
        iterator = iter(strategy.experimental_distribute_dataset(data.batch(2)))
        tf.train.Checkpoint(iterator=iterator)
        return []

    def permute(epoch: int) -> list[int]:
        return tfreg.data.permute(6, seed=0, epoch=epoch).tolist()

    title = "the fourth epoch's order of 6 examples after a restart"
    orders = [permute(epoch) for epoch in range(4)]
    return Row(title, plain, lambda: permute(3), orders[3], alone="tfreg")


def many_steps_a_call() -> Row:
    """Many steps in one call of the graph, on two replicas."""
    strategy = make_strategy()
    x = np.ones([400, 1], np.float32)

    def plain() -> int:
        with strategy.scope():
            model = make_keras()
            model.compile("sgd", "mse", steps_per_execution=50)
        model.fit(x, x, 4, verbose=0)
        return int(model.optimizer.iterations)

    def ours() -> int:
        with strategy.scope():
            layer, optimizer = make_tfreg(), tfreg.optimizers.sgd(0.01)
        step = tfreg.Step(layer, tfreg.losses.mean_squared_error, optimizer)
        split = tfreg.data.Split(x, x)
        loop = tfreg.Loop(step, split, 4, steps_per_call=50, strategy=strategy)
        loop.train(0)
        return int(optimizer.step.numpy())

    title = "100 steps with `steps_per_execution=50` on 2 replicas"
    return Row(title, plain, ours, 100, alone="plain")


def activity_of_a_batch() -> Row:
    """What an activity penalty is of: the batch or an example."""
    x = tf.ones([8, 1])

    def plain() -> float:
        model = make_keras(activity_regularizer=KERAS_L2)
        model(x)
        return float(sum(model.losses))

    def ours() -> float:
        layer = make_tfreg(activity_regularizer=TFREG_L2)
        with tfreg.step_scope():
            layer(x)
            return float(tfreg.losses.get_regularization_loss())

    title = "an activity penalty of 1 for each of 8 examples (8 up to Keras 3.13)"
    return Row(title, plain, ours, 1.0)


ROWS = (
    penalty_in_replicas,
    ragged_batch,
    clip_by_hand,
    clip_by_step,
    across_replicas,
    many_steps_a_call,
    order_after_restart,
    changed_scale,
    variable_scale,
    half_precision,
    read_after_step,
    two_passes,
    activity_of_a_batch,
    built_layer,
)


def run_here(way: Way) -> Any:
    """Returns what a way gives, a text where it raises."""
    try:
        return way()
    except Exception as error:
        return textwrap.shorten(
            f"{type(error).__name__}: {error}", 80, placeholder=" ..."
        )


def run_alone(name: str, way: str) -> Any:
    """Returns what a way gives in a process of its own, a text where it dies."""
    command = [sys.executable, __file__, f"--alone={name}:{way}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"nothing in {SECONDS} s"
    if done.returncode:
        return f"exit status {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def is_true(value: Any, truth: Any) -> bool:
    """Tells whether a way gave what it should, to float32's digits."""
    fits = not isinstance(value, str) and np.shape(value) == np.shape(truth)
    return fits and np.allclose(value, truth, rtol=1e-6)


def show(value: Any) -> str:
    """Returns a cell of the table."""
    if isinstance(value, list):
        return ", ".join(map(show, value))
    return value if isinstance(value, str) else f"{value:,.6g}"


def main(_: list[str]) -> int:
    """Prints the table; returns 1 where tfreg doesn't give the truth."""
    tf.get_logger().setLevel("ERROR")
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, parts)
    if _ALONE.value is not None:
        name, way = _ALONE.value.split(":")
        with tfreg.Store().as_default():
            print(json.dumps(run_here(getattr(globals()[name](), way))))
        return 0
    print(
        f"`{shlex.join(['python', *sys.argv])}`: TensorFlow {tf.__version__}, Keras "
        f"{keras.__version__}, NumPy {np.__version__}.\n\n"
        "| | the plain way | tfreg | the truth |\n|---|---|---|---|"
    )
    wrong = []
    for make in ROWS:
        row, got = make(), {}
        for way in ("plain", "tfreg"):
            with tfreg.Store().as_default():
                alone = row.alone == way
                call = getattr(row, way)
                got[way] = run_alone(make.__name__, way) if alone else run_here(call)
        cells = row.title, show(got["plain"]), show(got["tfreg"]), show(row.truth)
        print(f"| {' | '.join(cells)} |", flush=True)
        if not is_true(got["tfreg"], row.truth):
            wrong.append(make.__name__)
    if wrong:
        print(f"tfreg doesn't give the truth: {', '.join(wrong)}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    app.run(main)
