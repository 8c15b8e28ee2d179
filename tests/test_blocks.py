"""Loops of known length: what XLA knows of them, and the same bits as single steps."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, layers, losses, optimizers
from tfreg.collections import store
from tfreg.runs import config
from tfreg.sweeps import programs
from tfreg.training import blocks, loop, reports, step


@pytest.fixture(autouse=True)
def no_few_steps(monkeypatch):
    """Compiles a loop after the first call."""
    monkeypatch.setattr(blocks, "FEW_STEPS", 1)
    monkeypatch.setattr(blocks, "FAST", 0.0)


@pytest.fixture
def split(rng):
    y = rng.integers(0, 3, 62).astype(np.int32)
    x = rng.normal(size=(62, 6)) + y[:, None]
    return data.Split(x.astype(np.float32), y)


def make_mlp():
    l2 = tfreg.l2_regularizer(0.1)
    hidden = layers.Dense(5, tf.nn.relu, kernel_regularizer=l2)
    members = [hidden, layers.BatchNorm(), layers.Dropout(0.2), layers.Dense(3)]
    return layers.Sequential(members)


def make_lstm():
    keras.utils.set_random_seed(0)
    l2 = keras.regularizers.L2(1e-2)
    members = [keras.Input([6]), keras.layers.Reshape([3, 2])]
    members += [keras.layers.LSTM(4, kernel_regularizer=l2, name="lstm")]
    return keras.Sequential([*members, keras.layers.Dense(3)], name="net")


def make_loop(make, split, **options):
    with store.Store(seed=0).as_default():
        args = make(), losses.sparse_softmax_cross_entropy, optimizers.adam(0.01)
        made = step.Step(*args, clip_norm=1.0, after=[optimizers.ema(0.9)])
        return loop.Loop(made, split, batch_size=4, compile="xla", **options)


def get_bits(made, report):
    values = [v.numpy().tobytes() for v in made.step.adapted.variables]
    return values, report


@pytest.mark.parametrize(
    "make", [make_mlp, pytest.param(make_lstm, marks=pytest.mark.slow)]
)
def test_the_bits_of_a_block_are_those_of_single_steps(make, split):
    ours = make_loop(make, split, steps_per_call=6)
    got = [get_bits(ours, ours.train(epoch)) for epoch in range(2)]
    assert ours.blocks.length == 6
    single = make_loop(make, split, steps_per_call=1)
    assert got == [get_bits(single, single.train(epoch)) for epoch in range(2)]


def test_a_run_that_is_resumed_within_a_block_ends_with_the_same_bits(split):
    made = make_loop(make_mlp, split, steps_per_call=6)
    want = [get_bits(made, made.train(epoch)) for epoch in range(2)][-1]
    made = make_loop(make_mlp, split, steps_per_call=9)
    made.train(0)
    for report in made.iterate(1):
        if report.num_steps >= 9:
            break
    assert made.blocks.length == 9
    assert get_bits(made, [*made.iterate(1, 9, made.sums)][-1]) == want


@pytest.mark.parametrize(
    ("speed", "steps_per_call", "full", "length", "rest", "then"),
    [
        (400.0, None, 1718, 429, 0, 429),  # four calls, two single steps
        (400.0, 500, 1718, 500, 218, 500),
        (400.0, None, 20, 20, 0, 20),
        (400.0, 7, 20, 7, 0, 7),
        (30.0, None, 100, 50, 0, 50),
        (19.0, None, 100, 0, 0, 19),  # a slow step isn't compiled again
    ],
)
def test_calls_of_equal_length_leave_few_single_steps(
    speed, steps_per_call, full, length, rest, then, monkeypatch
):
    monkeypatch.undo()
    made = blocks.Blocks(None, tf.distribute.get_strategy())
    made._num_full = full
    assert made.limit(speed, steps_per_call) == (steps_per_call or min(speed, 500))
    assert made.length == 0
    made._num_steps = 500
    assert made.limit(speed, steps_per_call) == then
    assert (made.length, made.rest) == (length, rest)
    # A little faster is no reason to compile again.
    made.limit(speed * 1.4, steps_per_call)
    assert made.length == length or speed < 20


def list_trip_counts(function, *args):
    compiled = tf.function(function, jit_compile=True)
    hlo = compiled.experimental_get_compiler_ir(*args)(stage="optimized_hlo")
    return [int(n) for n in re.findall(r'known_trip_count":{"n":"(\d+)"', hlo)]


def list_training(made):
    """Returns the trip counts that XLA knows in a block of 8 steps."""
    made._refresh()
    call = next(made._feed.list_calls(0))
    sums, epoch = reports.to_tensors(made._zeros), tf.constant(0, tf.int64)
    args = call.data, call.size, epoch, tf.constant(0), sums, 8
    return list_trip_counts(made.blocks.run_block, *args)


def test_xla_knows_the_number_of_steps_in_training_and_in_evaluation(split):
    made = make_loop(make_mlp, split)
    assert list_training(made) == [7]
    call = next(made._plain.list_calls(None))
    sums = reports.to_tensors(made._evaluated)
    args = call.data, tf.constant(0), 15, 4, False, sums
    assert list_trip_counts(made._evaluate.run, *args) == [15]


def test_xla_knows_the_number_of_steps_of_a_sweeps_lane(split):
    settings = config.Config(strategy="one", hidden=(5,), batch_size=4, reg="l2")
    dataset = data.Dataset("made", split, split, split, 3)
    lane = programs.Lane([settings], dataset, tf.distribute.get_strategy())
    assert list_training(lane.start(settings).loop) == [7]
