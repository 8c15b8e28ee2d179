"""Keras's layers among ours and ours in Keras's models: a sentence, not silence."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import layers

# NAME must be ALLOWED, got VALUE: DO THIS.
HOUSE = re.compile(r".+ must .+, got .+: .+", re.DOTALL)
l2 = keras.regularizers.L2

TRAINED = {
    "dense": lambda: keras.layers.Dense(2, name="mine"),
    "built": lambda: keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="mine")]
    ),
    "unbuilt": lambda: keras.Sequential([keras.layers.Dense(2, name="mine")]),
    "norm": lambda: keras.layers.BatchNormalization(name="mine"),
    "prelu": lambda: keras.layers.PReLU(name="mine"),
    "penalty": lambda: keras.layers.ActivityRegularization(l2=0.1, name="mine"),
    "penalized": lambda: keras.layers.ReLU(activity_regularizer="l2", name="mine"),
}


@pytest.mark.parametrize("kind", list(TRAINED))
@pytest.mark.parametrize("nested", [False, True])
def test_a_sequential_refuses_what_it_would_not_train(kind, nested):
    members = [layers.Dense(3), TRAINED[kind]()]
    with pytest.raises(TypeError, match="Keras layer mine.*neither be trained") as info:
        layers.Sequential([layers.Sequential(members)] if nested else members)
    assert HOUSE.fullmatch(str(info.value))


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.TimeDistributed(keras.layers.Dense(2), name="mine"),
        lambda: keras.layers.LSTM(2, name="mine"),
    ],
)
def test_what_makes_its_weights_later_is_refused_at_the_first_call(make):
    with pytest.raises(TypeError, match="Keras layer mine"):
        layers.Sequential([make()])(tf.ones([1, 2, 3]))


def test_what_has_nothing_to_train_is_taken(rng):
    frozen = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    frozen.trainable = False
    normal = keras.layers.Normalization(mean=1.0, variance=4.0)
    lazy = keras.layers.Dense(3)
    lazy.trainable = False
    kinds = [
        keras.layers.Flatten(),
        normal,
        lazy,
        frozen,
        keras.layers.ReLU(),
        keras.layers.Dropout(0.5),
        keras.layers.Reshape((2, 1)),
        keras.activations.relu,
    ]
    x = rng.normal(size=(5, 3)).astype("float32")
    got = layers.Sequential(kinds)(x)
    want = keras.ops.relu(frozen(lazy((x - 1) / 2)))
    np.testing.assert_allclose(tf.reshape(got, [5, 2]), want, rtol=1e-5, atol=1e-6)


INSIDE = {
    "dense": lambda: layers.Dense(2),
    "flatten": lambda: layers.Flatten(),
    "dropout": lambda: layers.Dropout(0.5),
    "embedding": lambda: layers.Embedding(3, 2),
    "mlp": lambda: tfreg.models.MLP([2]),
    "norm": lambda: layers.BatchNorm(),
}


@pytest.mark.parametrize("kind", list(INSIDE))
def test_a_functional_model_refuses_our_layers(kind):
    with pytest.raises(TypeError, match="got a KerasTensor") as info:
        INSIDE[kind]()(keras.Input((3,)))
    assert HOUSE.fullmatch(str(info.value))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("base", [keras.Model, keras.layers.Layer])
def test_a_keras_call_refuses_to_make_our_variables(base, compiled):
    class Mine(base):
        def __init__(self):
            super().__init__(name="mine")
            self.inner = layers.Dense(2)

        def call(self, x):
            return self.inner(x)

    model = Mine()
    call = tf.function(lambda x: model(x)) if compiled else model
    with pytest.raises(TypeError, match="got a call in the Keras mine") as info:
        call(tf.ones([1, 3]))
    assert HOUSE.search(str(info.value))
    assert model.inner.variables == ()


def test_a_function_of_a_keras_model_may_call_our_layers():
    def call(keras_model, layer):
        return layer(keras_model(tf.ones([1, 3])))

    model = keras.Sequential([keras.layers.Dense(2)])
    assert call(model, layers.Dense(4)).shape == (1, 4)


class Holder(tf.Module):
    def __init__(self, **options):
        super().__init__()
        self.dense = keras.layers.Dense(2, **options)
        self.weight = tf.Variable(1.0)

    def __call__(self, x):
        return self.weight * self.dense(x)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_regularizer": l2(0.5)},
        {"bias_regularizer": l2(0.5)},
        {"activity_regularizer": l2(0.5)},
    ],
)
def test_a_module_with_a_keras_penalty_is_told(options):
    model, x = Holder(**options), tf.ones([4, 3])
    model(x)
    with tfreg.step_scope():
        outputs = model(x)
        with pytest.raises(ValueError, match="penalties of .*dense.* must be added"):
            tfreg.losses.total_loss(tf.zeros([4]), model)
        # What the message advises.
        for penalty in model.dense.losses:
            tfreg.add_loss(penalty)
        got = tfreg.losses.total_loss(tf.zeros([4]), model)
    # Keras divides an activity penalty by the batch, as we do.
    parts = {
        "kernel_regularizer": tf.reduce_sum(model.dense.kernel**2),
        "bias_regularizer": tf.reduce_sum(model.dense.bias**2),
        "activity_regularizer": tf.reduce_sum(outputs**2) / 4,
    }
    want = 0.5 * sum(float(parts[name]) for name in options)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    model.dense.trainable = False
    if "activity_regularizer" not in options:
        assert float(tfreg.losses.total_loss(tf.zeros([4]), model)) == 0


def test_penalties_that_nobody_misses_are_no_alarm():
    plain = Holder()
    plain(tf.ones([1, 3]))
    assert float(tfreg.losses.total_loss(tf.zeros([1]), plain)) == 0


def test_a_keras_model_with_penalties_of_its_own_is_told():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu", True)])
    model.layers[0].kernel.regularizer = l2(0.5)
    with pytest.raises(ValueError, match="penalties of .*dense.* must be added"):
        tfreg.losses.total_loss(tf.zeros([1]), model)
    with tfreg.step_scope():
        for penalty in model.losses:
            tfreg.add_loss(penalty)
        total = tfreg.losses.total_loss(tf.zeros([1]), model)
    want = 0.5 * np.sum(model.layers[0].kernel.numpy() ** 2)
    np.testing.assert_allclose(total, want, rtol=1e-6)  # float32 sums
