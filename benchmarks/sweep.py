"""Prints the steps a second of lanes, of one run after another, and of Keras's `fit`.

    python benchmarks/sweep.py --data_dir=data/mnist

Every way trains settings that differ in L2's scale; a lane's and a run's turn is an
epoch of each. Keras trains a part of the data, and one setting: a loop over settings
makes as many steps a second. The ways take turns; a ratio is of neighbours in time. The
table has the cores that each way got: on a machine that others use as well, lanes can't
show what they make of two.
"""

import concurrent.futures
import os
import shlex
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import steps_per_second
import tensorflow as tf
from absl import app, flags

import tfreg
from tfreg.runs import config
from tfreg.sweeps import programs

_LANES = flags.DEFINE_integer(
    "lanes", len(os.sched_getaffinity(0)), "runs at once", lower_bound=1
)
SECONDS = 0.5  # Least time of a turn.
SCALES = (1e-4, 1e-3)


def make_lanes(dataset: tfreg.data.Dataset, num_lanes: int) -> steps_per_second.Way:
    """Returns an epoch of a run for each scale and lane, so many at once."""
    settings = [
        config.Config(reg="l2", scale=scale, strategy="one", seed=seed)
        for scale in SCALES
        for seed in range(num_lanes)
    ]
    made = programs.Lanes(settings, dataset, tf.distribute.get_strategy())

    def train_one(each: config.Config) -> int:
        with made.take(each) as lane:
            run = lane.start(each)
            run.loop.train(0)
            return run.loop.steps_per_epoch

    def train() -> tuple[int, float]:
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(num_lanes) as pool:
            num_steps = sum(pool.map(train_one, settings))
        return num_steps, time.perf_counter() - began

    return train


def watch(train: steps_per_second.Way, cores: list[float]) -> steps_per_second.Way:
    """Returns a way that notes how many cores it got."""

    def watched() -> tuple[int, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        done = train()
        cores.append((time.process_time() - cpu) / (time.perf_counter() - wall))
        return done

    return watched


def main(_: list[str]) -> None:
    """Measures, then prints the table and what it says."""
    # As scripts/sweep.py: a lane keeps to its core. One run alone is no slower by it.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    data_dir, turns = flags.FLAGS.data_dir, flags.FLAGS.repetitions
    name = "mnist5k" if data_dir is None else "mnist"
    dataset = tfreg.data.load(name, data_dir)
    part = steps_per_second.PART
    x, y = dataset.train.x[:part].astype("float32") / 255, dataset.train.y[:part]
    at_once = f"tfreg, {_LANES.value} lanes"
    after, fit = "tfreg, one run after another", "Keras fit, one after another"
    ways = {
        at_once: make_lanes(dataset, _LANES.value),
        after: steps_per_second.make_tfreg(dataset.train, "kernel"),
        fit: steps_per_second.make_fit(x, y),
    }
    cores: dict[str, list[float]] = {way: [] for way in ways}
    ways = {way: watch(train, cores[way]) for way, train in ways.items()}
    rates = steps_per_second.compare(ways, turns, SECONDS)
    print(
        f"`{shlex.join(['python', *sys.argv])}`: {name}, MLP 784-128-10, Adam, batch "
        f"{steps_per_second.BATCH_SIZE}, L2 on the kernels; TensorFlow "
        f"{tf.__version__}, Keras {keras.__version__}, "
        f"{len(os.sched_getaffinity(0))} CPU cores; {turns} turns each; Keras's are of "
        f"{len(y):,} of {len(dataset.train):,} examples.\n"
    )
    print("| | steps/s | min to max | cores | ratio |\n|---|---:|---:|---:|---:|")
    for way, found in rates.items():
        print(
            f"| {way} | {statistics.median(found):,.0f} "
            f"| {min(found):,.0f} to {max(found):,.0f} "
            f"| {statistics.median(cores[way]):.1f} "
            f"| {steps_per_second.divide(found, rates[fit]):.2f} |"
        )
    print(
        f"\nLanes make {steps_per_second.divide(rates[at_once], rates[fit]):.1f} times "
        "the steps of Keras's fit in a loop, and "
        f"{steps_per_second.divide(rates[at_once], rates[after]):.2f} times those of "
        "tfreg's runs one after another (median of "
        f"{statistics.median(rates[at_once]):,.0f} steps a second)."
    )


if __name__ == "__main__":
    app.run(main)
