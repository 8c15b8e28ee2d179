"""Prints the training steps a second on replicas of tfreg, of Keras and by hand.

    python benchmarks/replicas.py --data_dir=data/mnist

The trap: replicas of another number over the same devices abort the process, so each
number is measured in a process of its own. The ways take turns there.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time

# Both are read at the import: hide TensorFlow's notices, and let Keras run on it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import steps_per_second as turns  # Beside this file; it defines the other flags.
import tensorflow as tf
from absl import app, flags

import tfreg
from tfreg.training import strategies

_DEVICES = flags.DEFINE_integer("devices", None, "for the script's own use")

NUM_EXAMPLES = 16_000  # Of an epoch, 500 steps; a smaller data set is repeated.
SECONDS = 1.0  # Least time of a turn.
NUM_PAIRS, PAIR_SECONDS = 24, 0.3  # Short turns, as the two differ by little.

L2, NONE = "tfreg, L2 on the kernels", "tfreg, no penalty"
FIT, TUTORIAL = "Keras fit", "tutorial's distributed loop"
ALONE = "tfreg, L2 on the kernels, without a strategy"
PAIRS = {1: (ALONE, L2), 2: (NONE, L2)}  # What is compared in short turns.


def make_tutorial(
    x: np.ndarray, y: np.ndarray, strategy: tf.distribute.Strategy
) -> turns.Way:
    """Returns the loop of TensorFlow's tutorial on distributed custom training."""
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    dataset = dataset.shuffle(len(y)).batch(turns.BATCH_SIZE)
    dataset = strategy.experimental_distribute_dataset(dataset)
    l2 = keras.regularizers.L2(turns.L2)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                keras.layers.Flatten(),
                keras.layers.Dense(128, "relu", kernel_regularizer=l2),
                keras.layers.Dense(10, kernel_regularizer=l2),
            ]
        )
        loss_object = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="none"
        )
        optimizer = keras.optimizers.Adam(turns.LEARNING_RATE)
        # Here: logical CPUs fail where a tf.function makes its variables itself.
        optimizer.build(model.trainable_variables)
        train_accuracy = keras.metrics.SparseCategoricalAccuracy()

    def train_step(inputs):
        images, labels = inputs
        with tf.GradientTape() as tape:
            predictions = model(images, training=True)
            loss = tf.nn.compute_average_loss(loss_object(labels, predictions))
            loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        train_accuracy.update_state(labels, predictions)
        return loss

    @tf.function
    def distributed_train_step(inputs):
        per_replica_losses = strategy.run(train_step, (inputs,))
        return strategy.reduce("SUM", per_replica_losses, axis=None)

    def train() -> tuple[int, float]:
        began = time.perf_counter()
        total_loss, num_batches = 0.0, 0
        for inputs in dataset:
            total_loss += distributed_train_step(inputs)
            num_batches += 1
        float(total_loss / num_batches), float(train_accuracy.result())
        train_accuracy.reset_state()
        return num_batches, time.perf_counter() - began

    return train


def make_ways(num_devices: int) -> dict[str, turns.Way]:
    """Returns what is measured on a number of logical CPUs."""
    name = "mnist5k" if flags.FLAGS.data_dir is None else "mnist"
    split = tfreg.data.load(name, flags.FLAGS.data_dir).train
    x = np.resize(split.x, (NUM_EXAMPLES, *split.x.shape[1:]))
    y = np.resize(split.y, NUM_EXAMPLES)
    split = tfreg.data.Split(x, y, pixels=split.pixels)
    ways = {} if num_devices > 1 else {ALONE: turns.make_tfreg(split, "kernel")}
    strategy = strategies.make_strategy("mirrored")
    with strategy.scope():
        ways[L2] = turns.make_tfreg(split, "kernel")
        if num_devices > 1:
            x = x.astype(np.float32) / 255
            ways[NONE] = turns.make_tfreg(split)
            ways[FIT] = turns.make_fit(x, y)
            ways[TUTORIAL] = make_tutorial(x, y, strategy)
    return ways


def measure_here(num_devices: int) -> dict[str, turns.Rates]:
    """Splits the CPU and returns the rates in long turns and in short ones."""
    tf.get_logger().setLevel("ERROR")
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * num_devices
    tf.config.set_logical_device_configuration(cpu, parts)
    ways = make_ways(num_devices)
    pair = {name: ways[name] for name in PAIRS.get(num_devices, ())}
    return {
        "turns": turns.compare(ways, flags.FLAGS.repetitions, SECONDS),
        "pairs": turns.compare(pair, NUM_PAIRS, PAIR_SECONDS),
    }


def measure_apart(num_devices: int) -> dict[str, turns.Rates]:
    """Returns what `measure_here` does in a process of its own."""
    command = [sys.executable, *sys.argv, f"--devices={num_devices}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_rows(num_devices: int, rates: turns.Rates, base: str) -> None:
    """Prints the table's rows of a number of devices, with the ratios to `base`."""
    for name, each in rates.items():
        print(
            f"| {num_devices} | {name} | {statistics.median(each):,.0f} "
            f"| {min(each):,.0f} to {max(each):,.0f} "
            f"| {turns.divide(each, rates[base]):.2f} |"
        )


def main(_: list[str]) -> None:
    """Measures, then prints the table and what it says."""
    if _DEVICES.value is not None:
        print(json.dumps(measure_here(_DEVICES.value)))
        return
    found = {n: measure_apart(n) for n in (1, 2, 4)}
    print(
        f"`{shlex.join(['python', *sys.argv])}`: MLP 784-128-10, Adam, batch "
        f"{turns.BATCH_SIZE} of all replicas, {NUM_EXAMPLES:,} images an epoch; "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"{len(os.sched_getaffinity(0))} CPU cores; {flags.FLAGS.repetitions} turns "
        "each. A ratio is to Keras's fit, on one device to no strategy.\n\n"
        "| logical CPUs | | steps/s | min to max | ratio |\n|---:|---|---:|---:|---:|"
    )
    for num_devices, rates in found.items():
        print_rows(num_devices, rates["turns"], ALONE if num_devices == 1 else FIT)
    one, two = found[1]["pairs"], found[2]["pairs"]
    fit = [turns.divide(found[n]["turns"][L2], found[n]["turns"][FIT]) for n in (2, 4)]
    print(
        f"\nOn 2 logical CPUs tfreg with L2 makes {fit[0]:.1f} times the steps of "
        f"Keras's fit, on 4 {fit[1]:.1f} times. L2 costs "
        f"{1 - turns.divide(two[L2], two[NONE]):.1%} on 2. On one device under "
        f"MirroredStrategy it makes {turns.divide(one[L2], one[ALONE]):.2f} times the "
        f"steps without a strategy. (Medians of {NUM_PAIRS} pairs of short turns.)"
    )


if __name__ == "__main__":
    app.run(main)
