"""Keras's layers among ours and ours in Keras's models: trained, or a sentence."""

import re

import keras
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

import tfreg
from tfreg import layers
from tfreg.collections import ownership, totals
from tfreg.models import stateless

# NAME must be ALLOWED, got VALUE: DO THIS.
HOUSE = re.compile(r".+ must .+, got .+: .+", re.DOTALL)
l2 = keras.regularizers.L2

TRAINED = {
    "dense": lambda: keras.layers.Dense(2),
    "built": lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
    "unbuilt": lambda: keras.Sequential([keras.layers.Dense(2)]),
    "norm": lambda: keras.layers.BatchNormalization(),
    "prelu": lambda: keras.layers.PReLU(),
    "distributed": lambda: keras.layers.TimeDistributed(keras.layers.Dense(2)),
    "lstm": lambda: keras.layers.LSTM(2, return_sequences=True),
}


@pytest.mark.parametrize("kind", list(TRAINED))
@pytest.mark.parametrize("nested", [False, True])
def test_a_sequential_lists_and_trains_keras_layers(kind, nested, rng):
    ranks = {"distributed": (4, 5, 3), "lstm": (4, 5, 3)}
    x = tf.constant(rng.normal(size=ranks.get(kind, (4, 3))), tf.float32)
    theirs, ours = TRAINED[kind](), layers.Dense(3)
    flat = [ours, theirs]
    model = layers.Sequential([layers.Sequential(flat)] if nested else flat)
    model(x)
    listed = [ours.bias, ours.kernel, *(v.value for v in theirs.trainable_variables)]
    got = model.trainable_variables
    assert all(a is b for a, b in zip(got, listed, strict=True))
    assert len(model.variables) == 2 + len(theirs.variables)
    with tf.GradientTape() as tape:
        per_example = tf.reduce_sum((model(x, training=True) - 1) ** 2, 1)
        loss = tfreg.losses.total_loss(per_example, model)
    optimizer = tfreg.optimizers.sgd(0.1)
    before = [v.numpy() for v in theirs.trainable_variables]
    optimizer.apply(tape.gradient(loss, got), got)
    pairs = zip(theirs.trainable_variables, before, strict=True)
    assert any(np.abs(v.numpy() - old).max() > 0 for v, old in pairs)
    model.trainable = False
    assert model.trainable_variables == () and theirs.trainable_variables == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.Dense(3, kernel_regularizer=l2(0.5)),
        lambda: keras.layers.ActivityRegularization(l2=0.1),
        lambda: keras.layers.ReLU(activity_regularizer="l2"),
    ],
)
def test_a_penalty_of_keras_in_a_sequential_is_missed_in_a_loop_of_ones_own(make):
    model = layers.Sequential([layers.Sequential([layers.Dense(3), make()])])
    with tfreg.step_scope():
        outputs = model(tf.ones([4, 3]))
        with pytest.raises(ValueError, match="penalties of .* must be added"):
            tfreg.losses.total_loss(tf.reduce_mean(outputs, 1), model)


def test_a_module_that_lists_no_keras_variables_is_told():
    model, x = Holder(), tf.ones([4, 3])
    model(x)

    def train(owner):
        with tf.GradientTape() as tape:
            per_example = tf.reduce_sum(model(x), 1)
            tfreg.losses.total_loss(per_example, owner)
        return tape

    with pytest.warns(UserWarning, match="none of the Keras variables.*kernel") as info:
        train(model)
    assert HOUSE.fullmatch(str(info[0].message))
    train([model, model.dense])  # Nothing is said of what lists nothing.
    model.dense.trainable = False
    train(model)


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
    # Keras divides an activity penalty by the batch, as we do, from 3.14 on.
    batch = 4 if stateless.divides_activity() else 1
    parts = {
        "kernel_regularizer": tf.reduce_sum(model.dense.kernel**2),
        "bias_regularizer": tf.reduce_sum(model.dense.bias**2),
        "activity_regularizer": tf.reduce_sum(outputs**2) / batch,
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


def make_wrapped(rng):
    """Returns a functional model with a wrapped layer of ours, and a batch."""
    x = tf.constant(rng.normal(size=(6, 5)), tf.float32)
    own = layers.Dense(
        4,
        kernel_regularizer=tfreg.l2_regularizer(0.1),
        activity_regularizer=tfreg.l2_regularizer(0.2),
    )
    wrapped = layers.keras_layer(own)
    inputs = keras.Input((5,))
    hidden = wrapped(wrapped(inputs)[..., :1] * tf.ones([1, 5]))  # Called twice.
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    return model, own, x, tf.constant(np.arange(6) % 3)


def test_a_wrapped_layer_is_listed_by_keras_and_penalized_once(rng):
    model, own, x, y = make_wrapped(rng)
    assert model.output_shape == (None, 3)
    assert [v.value is own.kernel for v in model.trainable_variables].count(True) == 1
    assert len(model.trainable_variables) == 4
    with tfreg.step_scope():
        per_example = tfreg.losses.sparse_softmax_cross_entropy(y, model(x))
        total = tfreg.losses.total_loss(per_example, model)
    first = own(x)
    second = own(first[..., :1] * tf.ones([1, 5]))
    activity = 0.2 * (tf.nn.l2_loss(first) + tf.nn.l2_loss(second)) / 6
    want = tf.reduce_mean(per_example) + 0.1 * tf.nn.l2_loss(own.kernel) + activity
    np.testing.assert_allclose(total, want, rtol=1e-6)
    adapted = tfreg.models.adapt(model)
    with tfreg.step_scope(), adapted.step(None):
        losses = tfreg.losses.sparse_softmax_cross_entropy(y, adapted(x))
        owner = ownership.Model(model, keras=True)
        parts = totals.split_total(losses, owner)
    np.testing.assert_allclose(parts.data + sum(parts.penalties.values()), want, 1e-6)
    # Keras's own loop has the same total.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), want, rtol=1e-6)
    before = own.kernel.numpy()
    model.fit(x, y, verbose=0)
    assert np.abs(own.kernel.numpy() - before).max() > 0
    names = tfreg.models.adapt(model).names
    assert names[id(own.kernel)] == f"{own.name}/kernel"


def test_a_rule_matches_a_wrapped_variable_once(rng):
    model, own, _, _ = make_wrapped(rng)
    tfreg.rules.apply("l2(1.0)@kernel:.*", model)
    assert len(own.get_regularizers("kernel")) == 2
    variables = [term.variables for term in ownership.Model(model).get_terms()]
    assert variables == [[own.kernel], [own.kernel], [model.layers[-1].kernel]]
    other = keras.Sequential([keras.Input((5,)), layers.keras_layer(snt.Linear(2))])
    tfreg.rules.apply("l2(1.0)@kernel:.*wrapped.*", other)
    assert len(ownership.Model(other).get_terms()) == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_a_subclassed_model_takes_a_wrapped_layer(compiled):
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.keras_layer(tfreg.models.MLP([4, 2], dropout=0.5))

        def call(self, x):
            return self.inner(x)

    model = Mine()
    call = tf.function(model) if compiled else model
    with tfreg.step_scope(step=0):
        outputs = call(tf.ones([3, 5]))
    assert outputs.shape == (3, 2) and len(model.trainable_variables) == 4
    model.trainable = False
    assert model.inner.module.trainable_variables == ()


def test_a_wrapped_norm_of_sonnet_gets_is_training(rng):
    layer = layers.keras_layer(snt.BatchNorm(True, True))
    model = keras.Sequential([keras.Input((3,)), layer])
    x = tf.constant(rng.normal(size=(5, 3)), tf.float32)
    got = model(x, training=True)
    want = (x - tf.reduce_mean(x, 0)) / tf.math.reduce_std(x, 0)
    np.testing.assert_allclose(got, want, atol=1e-4)  # epsilon is 1e-5
    assert len(model.trainable_variables) == 2


def test_what_keras_layer_cannot_do_is_told():
    with pytest.raises(TypeError, match="module must be a layer of tfreg") as info:
        layers.keras_layer(keras.layers.Dense(2))
    assert HOUSE.fullmatch(str(info.value))
    with pytest.raises(NotImplementedError, match="save_weights") as info:
        layers.keras_layer(layers.Dense(2)).get_config()
    assert HOUSE.fullmatch(str(info.value))

    class Mine(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = layers.keras_layer(inner)

        def call(self, x):
            return self.inner(x)

    with (
        pytest.warns(UserWarning),
        pytest.raises((ValueError, RuntimeError), match="call it once"),
    ):
        Mine(layers.Dense(2))(keras.Input((3,)))
    made = layers.Dense(2)
    made(tf.ones([1, 3]))
    model = Mine(made)
    assert model(keras.Input((3,))).shape == (None, 2)
    assert [v.value is made.kernel for v in model.trainable_variables] == [False, True]
