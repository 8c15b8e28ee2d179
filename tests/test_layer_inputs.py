"""Inputs of every kind: float64, ragged, sparse, small integers, out of range."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.signal import correlate

import tfreg
from tfreg import layers, models

MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
COMPILED = ["graph", "xla"]
total_loss = tfreg.losses.total_loss


# float64: NumPy's closed forms.


@pytest.mark.parametrize("mode", list(MODES))
def test_a_dense_model_is_numpys_to_1e_12(mode, rng):
    l1, l2 = tfreg.l1_regularizer(0.3), tfreg.l2_regularizer(0.7)
    model = models.MLP([5, 3], tf.tanh, kernel_regularizer=l2, bias_regularizer=l1)
    x = rng.normal(size=(7, 4))
    assert model(x).dtype == tf.float64
    assert {v.dtype for v in model.variables} == {tf.float64}
    for variable in model.variables:
        variable.assign(rng.normal(size=variable.shape))
    dense = [model.layers[i] for i in (1, 2)]
    (k1, b1), (k2, b2) = [(d.kernel.numpy(), d.bias.numpy()) for d in dense]
    hidden = np.tanh(x @ k1 + b1)
    outputs = hidden @ k2 + b2
    kernels, biases = np.sum(k1**2) + np.sum(k2**2), abs(b1).sum() + abs(b2).sum()
    want = (outputs**2).sum(1).mean() + 0.7 * kernels / 2 + 0.3 * biases

    @MODES[mode]
    def step(x):
        with tf.GradientTape() as tape:
            y = model(x)
            total = total_loss(tf.reduce_sum(y**2, 1), model)
        return y, total, tape.gradient(total, dense[1].kernel)

    y, total, gradient = step(x)
    np.testing.assert_allclose(y, outputs, rtol=1e-12)
    np.testing.assert_allclose(total, want, rtol=1e-12)
    truth = 2 * hidden.T @ outputs / 7 + 0.7 * k2
    np.testing.assert_allclose(gradient, truth, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_convolution_is_scipys_to_1e_12(padding, separable, rng):
    kind = layers.SeparableConv2D if separable else layers.Conv2D
    layer, x = kind(4, 3, padding=padding), rng.normal(size=(2, 6, 5, 3))
    layer(x)
    for variable in layer.variables:
        assert variable.dtype == tf.float64
        variable.assign(rng.normal(size=variable.shape))
    if separable:
        kernel = layer.depthwise_kernel.numpy() * layer.pointwise_kernel.numpy()
    else:
        kernel = layer.kernel.numpy()
    want = np.stack(
        [
            [
                sum(
                    correlate(p[..., c], kernel[..., c, f], padding.lower())
                    for c in range(3)
                )
                for f in range(4)
            ]
            for p in x
        ]
    )
    want = want.transpose(0, 2, 3, 1) + layer.bias.numpy()
    np.testing.assert_allclose(layer(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", list(MODES))
def test_batch_norm_is_numpys_to_1e_12(mode, rng):
    layer, x = layers.BatchNorm(0.9, 0.01), 3 + rng.normal(size=(40, 5))
    layer(x)
    assert {v.dtype for v in layer.variables} == {tf.float64}
    layer.gamma.assign(rng.normal(size=5))
    layer.beta.assign(rng.normal(size=5))
    got = MODES[mode](lambda x: layer(x, training=True))(x)
    mean, variance = x.mean(0), x.var(0)
    scaled = (x - mean) / np.sqrt(variance + 0.01) * layer.gamma.numpy()
    np.testing.assert_allclose(got, scaled + layer.beta.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-12)


def test_an_activity_penalty_in_float64_is_numpys(rng):
    layer = layers.Dense(3, activity_regularizer=tfreg.l2_regularizer(0.6))
    x = rng.normal(size=(5, 4))
    with tfreg.step_scope():
        y = layer(x)
        got = total_loss(tf.zeros([5], tf.float64), layer)
    np.testing.assert_allclose(got, 0.3 * np.sum(y.numpy() ** 2) / 5, rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_other_inputs_make_float32_variables(dtype):
    model = layers.Sequential([layers.Dense(2), layers.BatchNorm()])
    assert model(tf.ones([2, 3], dtype)).dtype == dtype
    assert {v.dtype for v in model.variables} == {tf.float32}
    # Made once: a later float64 input finds them.
    assert model(tf.ones([2, 3], tf.float64)).dtype == tf.float64


def test_float64_starts_where_float32_does():
    one, other = (layers.Dense(4, seed=1) for _ in range(2))
    one(tf.ones([1, 3])), other(tf.ones([1, 3], tf.float64))
    np.testing.assert_array_equal(one.kernel, other.kernel)


def test_a_step_trains_a_float64_model(rng):
    x, y = rng.normal(size=(8, 4)), rng.integers(0, 3, 8)
    model = models.MLP([3], kernel_regularizer=tfreg.l2_regularizer(0.1))
    model(x)
    before = [v.numpy() for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tfreg.losses.sparse_softmax_cross_entropy(y, model(x))
        total = total_loss(loss, model)
    gradients = tape.gradient(total, model.trainable_variables)
    step = tfreg.Step(
        model, tfreg.losses.sparse_softmax_cross_entropy, tfreg.optimizers.sgd(0.5)
    )
    step(tf.constant(x), tf.constant(y))
    for old, new, g in zip(before, model.trainable_variables, gradients, strict=True):
        np.testing.assert_allclose(new, old - 0.5 * g, rtol=1e-6, atol=1e-9)


# Ragged and sparse.

ROWS = [[1, 2, 4], [], [3]]


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_an_embedding_of_ragged_ids_is_that_of_each_row(mode):
    layer = layers.Embedding(5, 3, activity_regularizer=tfreg.l2_regularizer(2.0))
    ids = tf.ragged.constant(ROWS, dtype=tf.int32)
    layer(tf.zeros([1], tf.int32))

    @MODES[mode]
    def call(ids):
        with tfreg.step_scope():
            rows = layer(ids)
            return rows, total_loss(tf.zeros([3]), layer)

    rows, total = call(ids)
    table = layer.embeddings.numpy()
    for got, row in zip(rows, ROWS, strict=True):
        np.testing.assert_array_equal(got, table[np.array(row, int)].reshape(-1, 3))
    want = sum(np.sum(table[i] ** 2) for row in ROWS for i in row) / 3
    np.testing.assert_allclose(total, want, rtol=1e-5)
    # penalize_activity of one's own takes them too.
    with tfreg.step_scope():
        tfreg.penalize_activity(tfreg.l2_regularizer(2.0), layer(ids))
        assert float(tfreg.losses.get_regularization_loss()) == pytest.approx(2 * want)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_dense_of_ragged_inputs_is_that_of_each_row(mode, rng):
    layer = layers.Dense(2, tf.tanh, seed=0)
    rows = [rng.normal(size=(n, 4)).astype("float32") for n in (3, 0, 2)]
    flat = np.concatenate(rows)
    ragged = tf.RaggedTensor.from_row_lengths(flat, [3, 0, 2])
    layer(flat)
    got = MODES[mode](lambda x: layers.Sequential([layer, layers.Dropout(0.5)])(x))(
        ragged
    )
    assert got.shape.as_list() == [3, None, 2]
    for one, row in zip(got, rows, strict=True):
        np.testing.assert_allclose(one, layer(row), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="inputs of dense.* must have rank 2 or more"):
        layers.Dense(2)(tf.ragged.constant([[1.0, 2.0], [3.0]]))


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_dense_of_sparse_inputs_is_kerass_and_that_of_dense_ones(mode, dtype, rng):
    x = rng.normal(size=(6, 5)) * (rng.uniform(size=(6, 5)) < 0.4)
    x = tf.cast(x, dtype)
    layer = layers.Dense(3, activity_regularizer=tfreg.l2_regularizer(1.0))
    sparse = tf.sparse.from_dense(x)

    @MODES[mode]
    def call(x):
        with tfreg.step_scope(), tf.GradientTape() as tape:
            y = layer(x)
            total = total_loss(tf.reduce_sum(y, 1), layer)
        return y, total, tape.gradient(total, layer.kernel)

    with tfreg.step_scope():
        layer(sparse)
    for got, want in zip(call(sparse), call(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    theirs = keras.layers.Dense(3, dtype=dtype.name)
    theirs(x)
    theirs.kernel.assign(tf.convert_to_tensor(layer.kernel))
    np.testing.assert_allclose(layer(sparse), theirs(sparse), rtol=1e-5, atol=1e-6)


def test_sparse_inputs_that_do_not_fit_get_a_sentence():
    with pytest.raises(ValueError, match="must have rank 2, got shape"):
        layers.Dense(2)(tf.sparse.from_dense(tf.ones([1, 2, 3])))
    with pytest.raises(TypeError, match="must be floating, got int32"):
        layers.Dense(2)(tf.sparse.from_dense(tf.ones([1, 2], tf.int32)))


# Integers.


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "uint32", "uint64"])
def test_an_embedding_takes_all_integers(mode, dtype):
    layer = layers.Embedding(300, 2)
    ids = np.array([[0, 100], [7, 3]], dtype)
    got = MODES[mode](lambda ids: layer(ids))(tf.constant(ids))
    np.testing.assert_array_equal(got, layer.embeddings.numpy()[ids.astype(int)])


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8"])
@pytest.mark.parametrize("ids", [[0, 5], [3, 120]])
def test_an_id_out_of_range_is_named_in_eager_code(ids, dtype):
    with pytest.raises(ValueError) as info:
        layers.Embedding(5, 2, name="words")(np.array(ids, dtype))
    assert str(info.value) == (
        f"inputs of words must be from 0 to 4, got {ids[1]}: give the Embedding more "
        "rows, or map what is unknown to a row of its own"
    )
    with pytest.raises(ValueError, match="got -2: give"):
        layers.Embedding(5, 2)(np.array([[1, -2]]))
    with pytest.raises(ValueError, match="got 9: give"):
        layers.Embedding(5, 2)(tf.ragged.constant([[1], [9, 2]]))


@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64, tf.int8])
def test_an_id_out_of_range_has_a_row_of_nan_in_a_trace(mode, dtype):
    layer = layers.Embedding(5, 2)

    @MODES[mode]
    def call(ids):
        with tf.GradientTape() as tape:
            rows = layer(ids)
        return rows, tf.convert_to_tensor(tape.gradient(rows, layer.embeddings))

    ids = np.array([4, 5, -1, 0, 100])
    rows, _ = call(tf.cast(ids, dtype))
    known = (ids >= 0) & (ids < 5)
    np.testing.assert_array_equal(np.isnan(rows).all(1), ~known)
    np.testing.assert_array_equal(rows[known], layer.embeddings.numpy()[ids[known]])
    rows, gradient = call(tf.constant([1, 1, 4], dtype))
    np.testing.assert_array_equal(gradient[:, 0], [0, 2, 0, 0, 1])


def test_the_gradient_of_a_traced_embedding_is_sparse():
    layer = layers.Embedding(5, 2)
    kinds = []

    @tf.function
    def call(ids):
        with tf.GradientTape() as tape:
            rows = layer(ids)
        kinds.append(type(tape.gradient(rows, layer.embeddings)))

    call(tf.constant([1, 2]))
    assert set(kinds) == {tf.IndexedSlices}


def test_no_bit_of_a_row_is_changed_in_a_trace():
    layer = layers.Embedding(2, 3)
    layer(tf.constant([0]))
    layer.embeddings.assign([[-0.0, 1e-30, math.inf], [0.0, -1.0, math.nan]])
    rows = tf.function(lambda ids: layer(ids))(tf.constant([0, 1])).numpy()
    want = layer.embeddings.numpy()
    np.testing.assert_array_equal(rows.view(np.uint32), want.view(np.uint32))


def test_a_loop_stops_at_an_id_out_of_range():
    model = layers.Sequential(
        [layers.Embedding(5, 3), lambda x: tf.reduce_mean(x, 1), layers.Dense(2)]
    )
    ids = np.array([[0, 1], [2, 3], [4, 5], [1, 1]], "int32")
    split = tfreg.data.Split(ids, np.array([0, 1, 0, 1]))
    step = tfreg.Step(
        model, tfreg.losses.sparse_softmax_cross_entropy, tfreg.optimizers.sgd(0.1)
    )
    loop = tfreg.Loop(step, split, batch_size=1)
    with pytest.raises(ArithmeticError, match="must be finite, got nan"):
        loop.train(0)


# Replicas


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_in_a_strategys_scope_is_that_of_one_device(
    training, rng, two_replicas
):
    x = rng.normal(size=(6, 3)).astype("float32")
    alone = layers.BatchNorm()
    want = alone(x, training=training)
    with two_replicas.scope():
        layer = layers.BatchNorm()
        got = layer(x, training=training)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for name in ("moving_mean", "moving_variance"):
        for copy in two_replicas.experimental_local_results(getattr(layer, name)):
            np.testing.assert_allclose(copy, getattr(alone, name), rtol=1e-6)
