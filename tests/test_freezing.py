"""`trainable = False`: no gradient, no moving statistics, no penalty; and back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import layers, models, tf1

l2 = tfreg.l2_regularizer
total_loss = tfreg.losses.total_loss


class Holder(tf.Module):
    """A plain module around layers of ours."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = {"parts": list(parts)}

    def __call__(self, x):
        for part in self.parts["parts"]:
            x = part(x)
        return x


def make_pair():
    """Returns layers of ours and Keras's, of the same weights and penalties."""
    ours = layers.Sequential(
        [
            layers.Dense(4, kernel_regularizer=l2(0.2), bias_regularizer=l2(0.4)),
            layers.BatchNorm(gamma_regularizer=l2(0.6)),
            layers.Dense(2, kernel_regularizer=l2(0.8)),
        ]
    )
    half = keras.regularizers.L2
    theirs = keras.Sequential(
        [
            keras.layers.Dense(
                4, kernel_regularizer=half(0.1), bias_regularizer=half(0.2)
            ),
            keras.layers.BatchNormalization(gamma_regularizer=half(0.3)),
            keras.layers.Dense(2, kernel_regularizer=half(0.4)),
        ]
    )
    ours(tf.zeros([2, 3])), theirs(tf.zeros([2, 3]))
    names = ["kernel", "bias"], ["gamma", "beta", "moving_mean", "moving_variance"]
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        for name in names[hasattr(mine, "gamma")]:
            getattr(other, name).assign(tf.convert_to_tensor(getattr(mine, name)) + 0.5)
            getattr(mine, name).assign(getattr(mine, name) + 0.5)
    return ours, theirs


def compare(ours, theirs, rng):
    x = rng.normal(size=(6, 3)).astype("float32")
    with tfreg.step_scope(), tf.GradientTape() as tape:
        outputs = ours(x, training=True)
        total = total_loss(tf.reduce_sum(outputs**2, 1), ours)
    with tf.GradientTape() as other:
        truth = theirs(x, training=True)
        losses = theirs.losses
        wanted = tf.reduce_mean(tf.reduce_sum(truth**2, 1))
        wanted = tf.add_n([wanted, *losses]) if losses else wanted
    np.testing.assert_allclose(outputs, truth, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    variables = theirs.trainable_variables
    assert len(ours.trainable_variables) == len(variables)
    got = tape.gradient(total, ours.trainable_variables)
    want = other.gradient(wanted, [v.value for v in variables])
    # Keras lists a layer's variables as they are made, a tf.Module by name.
    got = sorted((tuple(g.shape), float(tf.norm(g))) for g in got)
    want = sorted((tuple(g.shape), float(tf.norm(g))) for g in want)
    for (shape, one), (other_shape, two) in zip(got, want, strict=True):
        assert shape == other_shape
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)
    for mine, other_layer in zip(ours.layers, theirs.layers, strict=True):
        if hasattr(mine, "gamma"):
            for name in ("moving_mean", "moving_variance"):
                one, two = getattr(mine, name), getattr(other_layer, name)
                np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", [0, 1, 2, None])
def test_freezing_a_layer_or_a_model_is_kerass(place, rng):
    ours, theirs = make_pair()
    for value in (True, False, True):
        for model in (ours, theirs):
            (model if place is None else model.layers[place]).trainable = value
        compare(ours, theirs, rng)


def test_a_layer_of_a_frozen_model_can_be_brought_back(rng):
    ours, theirs = make_pair()
    for model in (ours, theirs):
        model.trainable = False
        model.trainable = True
        for layer in model.layers[:2]:
            layer.trainable = False
        assert [layer.trainable for layer in model.layers] == [False, False, True]
    compare(ours, theirs, rng)


@pytest.mark.parametrize("built", [False, True])
def test_every_module_around_sees_it_whenever_the_variables_are_made(built):
    dense = layers.Dense(3, kernel_regularizer=l2(2.0))
    model = Holder(layers.Sequential([layers.Sequential([dense])]), layers.Dense(1))
    if built:
        model(tf.ones([1, 2]))
    model.parts["parts"][0].trainable = False
    model(tf.ones([1, 2]))
    assert not dense.trainable and dense.trainable_variables == ()
    assert len(model.trainable_variables) == 2 and len(model.variables) == 4
    assert float(total_loss(tf.zeros([1]), model)) == 0
    assert float(total_loss(tf.zeros([1]))) == 0
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(tf.ones([1, 2])))
    assert len(tape.watched_variables()) == 2
    assert tape.gradient(total, dense.kernel) is None
    dense.trainable = True
    assert len(model.trainable_variables) == 4
    want = np.sum(dense.kernel.numpy() ** 2)
    np.testing.assert_allclose(total_loss(tf.zeros([1]), model), want, rtol=1e-6)
    np.testing.assert_allclose(total_loss(tf.zeros([1])), want, rtol=1e-6)


def test_what_was_never_trained_stays_so():
    model = models.MLP([3, 2])
    norm = layers.BatchNorm()
    both = layers.Sequential([model, norm])
    both(tf.ones([2, 2]))
    both.trainable = False
    both.trainable = True
    assert not norm.moving_mean.trainable and norm.gamma.trainable
    assert len(both.trainable_variables) == 6


def test_a_tf1_model_is_frozen_and_trainable_false_keeps_its_penalty():
    def forward(x):
        a = tf1.get_variable("a", [2], regularizer=l2(2.0), initializer=tf.ones)
        b = tf1.get_variable(
            "b", [3], regularizer=l2(2.0), initializer=tf.ones, trainable=False
        )
        return x * tf.reduce_sum(a) * tf.reduce_sum(b)

    net = tf1.Model(forward)
    net(tf.ones([]))
    assert float(total_loss(tf.zeros([1]), net)) == 5  # As TF1: b is penalized.
    net.trainable = False
    assert net.trainable_variables == () == tuple(tf1.trainable_variables())
    assert float(total_loss(tf.zeros([1]), net)) == 3
    net.trainable = True
    assert [v.name for v in tf1.trainable_variables()] == ["a:0"]
    assert float(total_loss(tf.zeros([1]), net)) == 5


def test_the_penalty_of_a_frozen_keras_weight_leaves_the_total():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    tfreg.apply_regularization(l2(2.0), [model.layers[0].kernel])
    want = np.sum(model.layers[0].kernel.numpy() ** 2)
    for value in (True, False, True):
        model.layers[0].trainable = value
        got = total_loss(tf.zeros([1]), model)
        np.testing.assert_allclose(got, want * value, rtol=1e-6)


def test_it_holds_on_replicas(two_replicas):
    with two_replicas.scope():
        model = layers.Sequential(
            [layers.BatchNorm(), layers.Dense(2, kernel_regularizer=l2(2.0))]
        )
        model(tf.ones([2, 3]))
        model.layers[1].trainable = False
        late = layers.Dense(1)
        late.trainable = False
        late(tf.ones([2, 3]))
    assert late.trainable_variables == () and len(model.trainable_variables) == 2

    def step():
        with tf.GradientTape(persistent=True) as tape:
            y = model(tf.ones([2, 3]), training=True)
            total = total_loss(tf.reduce_sum(y, 1), model)
        assert tape.gradient(total, [model.layers[1].kernel]) == [None]
        return tf.add_n(
            [tf.norm(g) for g in tape.gradient(total, model.trainable_variables)]
        )

    tf.function(lambda: two_replicas.run(step))()


def test_a_total_traced_again_notices():
    model = layers.Sequential([layers.Dense(2, kernel_regularizer=l2(2.0))])
    model(tf.ones([1, 2]))
    counts = []

    @tf.function
    def total(key):
        counts.append(key)
        return total_loss(tf.zeros([1]), model)

    values = []
    for value in (True, False, True):
        model.trainable = value
        values.append(float(total(tuple(map(id, model.trainable_variables)))))
    assert values[0] == values[2] > 0 == values[1] and len(counts) == 2


@pytest.mark.parametrize("value", [0, None, "no", np.bool_(False)])
def test_trainable_is_a_bool(value):
    with pytest.raises(TypeError, match="trainable must be a bool, got .*: write True"):
        layers.Dense(2).trainable = value


def test_a_plain_module_that_is_told_to_freeze_is_refused():
    model = Holder(layers.Dense(2))
    model(tf.ones([1, 2]))
    model.trainable = False
    with pytest.raises(ValueError, match="trainable must be set on a layer of tfreg"):
        total_loss(tf.zeros([1]), model)
    model.parts["parts"][0].trainable = False
    assert float(total_loss(tf.zeros([1]), model)) == 0
