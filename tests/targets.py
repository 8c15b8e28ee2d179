"""Targets, outputs and weights for the tests of metrics."""

import numpy as np
import tensorflow as tf

SIZES = (6, 6, 1)  # Ragged batches.


def make_data(kind, rng, size=13):
    """Returns targets and outputs; outputs of classes are probabilities."""
    classes = rng.integers(0, 3, size)
    if kind == "binary":
        y, outputs = classes[:, None] % 2, rng.random((size, 1))
    elif kind == "numbers":
        y, outputs = rng.random((2, size, 3)) + 0.1
        outputs[::3] = y[::3]
    else:
        outputs = rng.dirichlet(np.ones(3), size)
        y = np.eye(3)[classes] if kind == "one-hot" else classes
    dtype = tf.int32 if kind == "classes" else tf.float32
    return tf.constant(y, dtype), tf.constant(outputs, tf.float32)


def make_weights(rng, size=13):
    return tf.constant(rng.integers(0, 3, size), tf.float32)


def split(*values, sizes=SIZES):
    bounds = np.cumsum((0, *sizes))
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        yield [None if v is None else v[first:last] for v in values]


def add(sums, increments):
    return tf.nest.map_structure(
        lambda a, b: a + np.asarray(b, np.float64), sums, increments
    )


def sum_up(metrics, how, *batch):
    """Returns a metric's sums over ragged batches, eagerly, in a function or XLA."""
    update = metrics.update
    if how != "eager":
        update = tf.function(update, jit_compile=how == "xla", autograph=False)
    sums = metrics.zeros(*batch)
    for part in split(*batch):
        sums = add(sums, update(*part))
    return sums


def assert_equal(got, want, rtol=1e-6):  # Keras computes in float32.
    assert list(got) == list(want)
    for name, value in got.items():
        np.testing.assert_allclose(value, want[name], rtol, 1e-6, err_msg=name)
