"""Half precision: penalties that the loss scale can't change, and skipped updates."""

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, layers, losses, models, optimizers
from tfreg.training import loop, precision, step

SCALE = 0.5


def make_step(name, regularizer=None, rate=0.1, units=1):
    model = layers.Sequential([layers.Dense(units, kernel_regularizer=regularizer)])
    loss = losses.mean_squared_error
    return step.Step(model, loss, optimizers.sgd(rate), precision=name)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_an_update_of_the_penalty_alone_is_exact_in_every_precision(name):
    made = make_step(name, tfreg.l2_regularizer(SCALE))
    x, y = tf.zeros([4, 3]), tf.zeros([4, 1])
    made.evaluate(x, y)
    kernel = made.model.layers[0].kernel
    before = kernel.numpy()
    report = tf.function(made, jit_compile=True)(x, y)
    # With inputs of zero the gradient is the penalty's, SCALE * w, in float32.
    np.testing.assert_allclose(kernel, before * (1 - 0.1 * SCALE), rtol=1e-6)
    penalty = SCALE * np.sum(before.astype(np.float64) ** 2) / 2
    np.testing.assert_allclose(report.regularization, penalty, rtol=1e-6)
    assert report.regularization.dtype == tf.float32


def test_an_update_that_overflows_is_skipped_and_counted_and_halves_the_scale():
    made = make_step("float16")
    x, y = tf.fill([2, 3], 6e4), tf.zeros([2, 1])
    made.evaluate(x, y)
    before = made.model.layers[0].kernel.numpy()
    report = tf.function(made, jit_compile=True)(x, y)
    np.testing.assert_array_equal(made.model.layers[0].kernel, before)
    assert made.optimizer.step.numpy() == 0
    assert report.skipped_updates.numpy() == 1
    assert report.loss_scale.numpy() == 2.0**14
    assert report.gradient_norm.numpy() == 0


def test_the_scale_doubles_after_growth_steps_without_overflow():
    scale = precision.LossScale(initial_scale=8.0, growth_steps=3)
    seen = []
    for finite in (True, True, True, True, False, True):
        scale.update(tf.constant(finite))
        seen.append(float(scale.scale))
    assert seen == [8.0, 8.0, 16.0, 16.0, 8.0, 8.0]
    assert scale.num_skipped.numpy() == 1


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_learns_what_float32_does(name):
    split = data.load("mnist5k").train
    found = {}
    for each in ("float32", name):
        with tfreg.Store().as_default():
            model = models.MLP([32, 10], kernel_regularizer=tfreg.l2_regularizer(1e-4))
            loss = losses.sparse_softmax_cross_entropy
            made = step.Step(model, loss, optimizers.adam(1e-3), precision=each)
            found[each] = loop.Loop(made, split).train(0).loss
    # bfloat16 has three digits.
    assert found[name] == pytest.approx(found["float32"], rel=1e-2)


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of float32.*'half'"):
        make_step("half")
