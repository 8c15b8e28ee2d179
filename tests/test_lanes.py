"""A run in a lane that trained other runs before equals the same run alone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfreg import data, runs
from tfreg.collections import store
from tfreg.runs import config
from tfreg.sweeps import programs

ONE = {"strategy": "one", "hidden": (16,), "batch_size": 8}
EVERYTHING = "l1_l2(1e-4,1e-3)@kernel;l2(1e-2)@bias;l1(1e-3)@activity:dense_0"
OTHER = "l2(3e-2)@kernel;l1(1e-3)@bias:dense_1"


@pytest.fixture(scope="module")
def dataset():
    """Returns images of three overlapping classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 500).astype(np.int32)
    x = rng.integers(0, 100, (500, 14, 14)) + 40 * y[:, None, None]
    split = data.Split(x.astype(np.uint8), y, pixels=True)
    train = data.Split(split.x[:400], split.y[:400], pixels=True)
    return data.Dataset("made", train, split, split, 3)


def list_losses(run, num_steps):
    """Returns the data loss of each step, and the penalties after it."""
    run.loop.steps_per_call = 1
    found, epoch = [], 0
    while len(found) < num_steps:
        done = summed = 0.0
        for report in run.loop.iterate(epoch):
            examples = min(report.num_steps * run.loop.batch_size, len(run.loop.source))
            total = report.loss * examples
            loss = (total - summed) / (examples - done)
            found.append((loss, report.regularization))
            done, summed = examples, total
        epoch += 1
    return np.array(found[:num_steps])


SLOW = pytest.mark.slow
CASES = [
    {"reg": EVERYTHING},
    pytest.param(
        {"reg": "l1", "optimizer": "sgd", "clip_norm": 1.0, "train_examples": 80},
        marks=SLOW,
    ),
    pytest.param({"reg": "l2", "dropout": 0.3}, marks=SLOW),
]


@pytest.mark.parametrize("case", CASES)
def test_a_lane_equals_the_run_alone(case, dataset):
    settings = config.Config(**ONE | case | {"seed": 5})
    # Dropout's seed is compiled in, so that a lane has that one alone.
    seed = 5 if settings.dropout else 1
    other = dataclasses.replace(settings, reg=OTHER, scale=None, seed=seed)
    strategy = tf.distribute.get_strategy()
    made = programs.Lanes([settings, other], dataset, strategy)
    with made.take(other) as lane:
        list(lane.start(other).loop.iterate(0))
    with made.take(settings) as again:
        assert again is lane
        run = lane.start(settings)
        got = list_losses(run, 200)
    with store.Store().as_default():
        alone = runs.build(settings, strategy, dataset)
        wanted = list_losses(alone, 200)
    # The penalties are summed in another order.
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
    reports = [r.loop.evaluate(dataset.test).metrics["accuracy"] for r in (run, alone)]
    assert reports[0] == pytest.approx(reports[1], abs=0.003)


def test_a_lane_starts_from_the_weights_of_the_run_alone_to_the_bit(dataset):
    settings = [config.Config(**ONE, seed=seed) for seed in (0, 1)]
    strategy = tf.distribute.get_strategy()
    made = programs.Lanes(settings, dataset, strategy)
    for each in settings:
        with made.take(each) as lane, store.Store().as_default():
            got = lane.start(each).model.variables
            alone = runs.build(each, strategy, dataset).model.variables
        for variable, wanted in zip(got, alone, strict=True):
            np.testing.assert_array_equal(variable, wanted)


def test_a_program_is_traced_once_for_all_scales_and_seeds(dataset):
    settings = [
        config.Config(**ONE, reg="l2", scale=scale, seed=seed, train_examples=70)
        for scale in (1e-4, 1e-1)
        for seed in (0, 1)
    ]
    made = programs.Lanes(settings, dataset, tf.distribute.get_strategy())
    for each in settings:
        with made.take(each) as lane:
            run = lane.start(each)
            for epoch in range(2):
                run.loop.train(epoch)
    # One for full batches, one for the smaller last one.
    assert run.loop.blocks._step.experimental_get_tracing_count() == 2


def test_lanes_of_one_program_at_once_are_different_ones(dataset):
    settings = config.Config(**ONE)
    made = programs.Lanes([settings], dataset, tf.distribute.get_strategy())
    with made.take(settings) as one, made.take(settings) as other:
        assert one is not other


def test_a_rule_that_matches_nothing_is_refused_when_lanes_are_made(dataset):
    settings = config.Config(**ONE, reg="l2(1e-4)@kernel:dense_7")
    with pytest.raises(ValueError, match="a rule must match a layer.*dense_7"):
        programs.Lanes([settings], dataset, tf.distribute.get_strategy())
