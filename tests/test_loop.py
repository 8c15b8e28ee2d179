"""Many steps in one graph: the same numbers as Keras's, every example once."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, layers, losses, models, optimizers, rules
from tfreg.training import blocks, loop, step

SCALE = 1e-3


@pytest.fixture(scope="module")
def mnist5k():
    return data.load("mnist5k")


def make_loop(split, regularizer=None, widths=(16, 10), optimizer=None, **options):
    """Returns a loop around a small MLP; `options` are those of Loop."""
    model = models.MLP(list(widths), kernel_regularizer=regularizer, seed=0)
    loss = losses.sparse_softmax_cross_entropy
    made = step.Step(model, loss, optimizer or optimizers.adam(1e-3))
    return loop.Loop(made, split, **options)


def take(split, count):
    return data.Split(split.x[:count], split.y[:count], pixels=split.pixels)


def get_weights(made):
    return [v.numpy() for v in made.step.model.variables]


def make_keras_twin(model, scale):
    """Returns the same Keras model with the same weights; Keras's L2 has no half."""
    l2 = keras.regularizers.L2(scale / 2)
    units = model.layers[1].units
    twin = keras.Sequential(
        [
            keras.layers.Input([28, 28]),
            keras.layers.Flatten(),
            keras.layers.Dense(units, "relu", kernel_regularizer=l2),
            keras.layers.Dense(10, kernel_regularizer=l2),
        ]
    )
    named = {v.name: v.numpy() for v in model.variables}
    order = ("dense_0/kernel:0", "dense_0/bias:0", "dense_1/kernel:0", "dense_1/bias:0")
    twin.set_weights([named[name] for name in order])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.Adam(1e-3), loss)
    return twin


def test_first_hundred_losses_are_those_of_keras(mnist5k):
    split = mnist5k.train
    made = make_loop(split, tfreg.l2_regularizer(SCALE), (128, 10), steps_per_call=1)
    twin = make_keras_twin(made.step.model, SCALE)
    order = data.permute(len(split), 0, 0)
    before, reports = 0.0, made.iterate(0)
    for i in range(100):
        report = next(reports)
        ours = report.loss * (i + 1) - before
        before += ours
        rows = order[i * 32 : (i + 1) * 32]
        x, y = split.x[rows] / np.float32(255), split.y[rows]
        logits = twin(x)
        theirs = keras.losses.sparse_categorical_crossentropy(y, logits, True)
        # Keras's Adam corrects its bias in float32.
        np.testing.assert_allclose(ours, np.mean(theirs), rtol=1e-4)
        twin.train_on_batch(x, y)
        penalty = float(tf.add_n(twin.losses)) if i < 1 else None
        if penalty is not None:
            assert report.regularization == pytest.approx(penalty, rel=0.05)


def test_every_example_counts_once_an_epoch_the_smaller_batch_too(mnist5k):
    split = take(mnist5k.train, 101)
    # Steps too small to change a weight, so that the epoch's mean is the model's.
    made = make_loop(split, batch_size=25, optimizer=optimizers.sgd(1e-30))
    report, want = made.train(0), made.evaluate(split)
    assert report.num_steps == made.steps_per_epoch == 5
    assert report.loss == pytest.approx(want.loss, rel=1e-6)
    assert report.metrics["accuracy"] == pytest.approx(
        want.metrics["accuracy"], rel=1e-6
    )


@pytest.mark.parametrize("count", [1, 999, 1000, 2345])
def test_evaluation_counts_every_example(mnist5k, count):
    split = take(mnist5k.train, count)
    made = make_loop(split, tfreg.l2_regularizer(SCALE))
    report = made.evaluate(split)
    k0, b0, k1, b1 = (
        made.step.model.variables[i].numpy().astype(np.float64) for i in (1, 0, 3, 2)
    )
    hidden = np.maximum(split.x.reshape(count, -1) / 255.0 @ k0 + b0, 0)
    logits = hidden @ k1 + b1
    top = logits.max(-1, keepdims=True)
    log_sum = np.log(np.sum(np.exp(logits - top), -1)) + top[:, 0]
    loss = np.mean(log_sum - logits[np.arange(count), split.y])
    penalty = SCALE * (np.sum(k0**2) + np.sum(k1**2)) / 2
    # Float32 products.
    assert report.loss == pytest.approx(loss, rel=1e-5)
    assert report.total == pytest.approx(loss + penalty, rel=1e-5)
    assert report.metrics["accuracy"] == np.mean(logits.argmax(-1) == split.y)


def test_nothing_is_traced_after_the_first_epoch(mnist5k, monkeypatch):
    monkeypatch.setattr(blocks, "FEW_STEPS", 100)
    monkeypatch.setattr(blocks, "FAST", 0.0)  # On a busy machine, too.
    made = make_loop(take(mnist5k.train, 1010), batch_size=8, steps_per_call=7)
    counts = []
    for epoch in range(3):
        made.train(epoch)
        made.evaluate(mnist5k.validation)
        compiled = made.blocks._step, made.blocks._block
        traced = *compiled, made._one, made._evaluate._held, made._evaluate._streamed
        counts.append([f.experimental_get_tracing_count() for f in traced])
    assert counts[0] == counts[1] == counts[2] == [2, 1, 2, 1, 1]


def test_calls_of_any_length_give_the_same_bits(mnist5k):
    split = take(mnist5k.train, 1000)
    weights = []
    for steps_per_call in (1, 7, 250):
        with tfreg.Store().as_default():
            made = make_loop(
                split, tfreg.l2_regularizer(SCALE), steps_per_call=steps_per_call
            )
            made.train(0)
            weights.append(get_weights(made))
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_streamed_data_give_the_same_numbers_as_held(mnist5k):
    split = take(mnist5k.train, 1010)
    reports = []
    for device_bytes in (0, 2**30):
        with tfreg.Store().as_default():
            made = make_loop(split, steps_per_call=9, device_bytes=device_bytes)
            reports.append((made.train(0), made.evaluate(split)))
    for ours, theirs in zip(*reports, strict=True):
        assert ours.get_scalars() == pytest.approx(theirs.get_scalars(), rel=1e-6)


def test_batch_larger_than_the_data_is_all_of_them(mnist5k):
    made = make_loop(take(mnist5k.train, 50), batch_size=64)
    assert made.steps_per_epoch == 1
    assert made.train(0).num_steps == 1


def test_penalties_add_up_to_the_total(mnist5k):
    regularizer = tfreg.l2_regularizer(SCALE)
    model = layers.Sequential(
        [
            layers.Flatten(),
            layers.Dense(8, tf.nn.relu, activity_regularizer=regularizer),
            layers.Dense(10, kernel_regularizer=regularizer),
        ]
    )
    loss = losses.sparse_softmax_cross_entropy
    made = loop.Loop(step.Step(model, loss, optimizers.adam()), mnist5k.validation)
    for report in (made.train(0), made.evaluate(mnist5k.test)):
        parts = list(report.penalties.values())
        assert len(parts) == 2
        assert report.regularization == pytest.approx(sum(parts), rel=1e-6)
        total = report.loss + report.regularization
        assert report.total == pytest.approx(total, rel=1e-6)


def test_regression_has_its_metrics_and_no_accuracy(rng):
    x = rng.normal(size=(200, 3)).astype(np.float32)
    y = (x @ np.float32([[1.0], [-2.0], [0.5]])).astype(np.float32)
    split = data.Split(x, y)
    model = layers.Sequential([layers.Dense(1)])
    made = loop.Loop(
        step.Step(model, losses.mean_squared_error, optimizers.adam(0.05)), split
    )
    for epoch in range(40):
        report = made.train(epoch)
    assert set(report.metrics) == {"mean_absolute_error", "r2"}
    assert report.metrics["r2"] > 0.99
    assert report.loss < 1e-2


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("epochs", [0, 1], ids=["before", "after"])
def test_a_penalty_that_is_added_later_counts(mnist5k, two_replicas, replicas, epochs):
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    split = take(mnist5k.train, 64)
    with strategy.scope():
        made = make_loop(split, batch_size=32)
        for epoch in range(epochs):
            made.train(epoch)
        rules.apply("l2(10)@kernel", made.step.model)
    kernels = [v for v in made.step.model.trainable_variables if v.shape.rank > 1]
    before = sum(float(tf.nn.l2_loss(v)) for v in kernels)
    assert made.evaluate(split).regularization == pytest.approx(10 * before, rel=1e-5)
    made.train(epochs)
    assert sum(float(tf.nn.l2_loss(v)) for v in kernels) < before


def test_scale_changes_without_a_retrace(mnist5k):
    scale = tf.Variable(0.0)
    made = make_loop(mnist5k.validation, tfreg.l2_regularizer(scale))
    assert made.train(0).regularization == 0
    scale.assign(1.0)
    assert made.train(1).regularization > 1
    assert made.blocks._step.experimental_get_tracing_count() == 2


@pytest.mark.parametrize("name", ["batch_size", "steps_per_call"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_sizes_are_positive_ints(mnist5k, name, value):
    with pytest.raises(ValueError, match=f"{name} must be an int >= 1, got {value!r}"):
        make_loop(mnist5k.validation, **{name: value})


def test_what_is_no_split_and_no_optimizer_is_refused(mnist5k):
    made = make_loop(mnist5k.validation).step
    with pytest.raises(
        TypeError, match=r"source must be a Split, Indexed .* got a tup"
    ):
        loop.Loop(made, (mnist5k.validation.x, mnist5k.validation.y))
    with pytest.raises(TypeError, match="optimizer must be of tfreg.*, got a str"):
        step.Step(made.model, losses.mean_squared_error, "sgd")


COUNT_PROGRAMS = """
import numpy as np

from tfreg import data, losses, models, optimizers
from tfreg.training import blocks, loop, step

split = data.Split(np.ones((40, 3), np.float32), np.zeros(40, np.int32))
made = step.Step(
    models.MLP([2]), losses.sparse_softmax_cross_entropy, optimizers.sgd(0.1)
)
made = loop.Loop(made, split, batch_size=4, steps_per_call=3)
made.train(0)
"""


@pytest.mark.slow
def test_calls_that_start_elsewhere_are_the_same_program(tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    environment = {**os.environ, "XLA_FLAGS": flags}
    subprocess.run([sys.executable, "-c", COUNT_PROGRAMS], env=environment, check=True)
    # Calls of 3, 3, 3 and 1 steps: XLA writes each program that it compiles.
    programs = list(tmp_path.glob("*run_step*before_optimizations.txt"))
    assert len(programs) == 1


def test_a_loop_starts_again_with_examples_of_the_same_shapes_only(mnist5k):
    made = make_loop(take(mnist5k.train, 40))
    with pytest.raises(ValueError, match="source must have the shapes.*40.*got.*30"):
        made.restart(take(mnist5k.train, 30), 0)
    with pytest.raises(ValueError, match="seed must be an int from 0"):
        made.restart(take(mnist5k.train, 40), -1)
