"""Losses of the data against TF1, Keras and NumPy, and their total on one device."""

import functools
import re

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import scipy.special
import sklearn.linear_model
import tensorflow as tf
import tf_slim

import tfreg
from tfreg import losses

DTYPES = [tf.float16, tf.bfloat16, tf.float32, tf.float64]
# Half a unit in the last place, twice; in float32 of a chain of about ten operations.
ROUNDING = {tf.float16: 2**-10, tf.bfloat16: 2**-7, tf.float32: 1e-6, tf.float64: 1e-14}

tf1 = tf.compat.v1.losses


def softmax_of(y, z):
    probabilities = scipy.special.softmax(z, -1)
    loss = -np.sum(y * scipy.special.log_softmax(z, -1), -1)
    return loss, probabilities - y


def sparse_softmax_of(y, z):
    return softmax_of(np.eye(z.shape[-1])[y], z)


def sigmoid_of(y, z):
    return np.logaddexp(0, z) - y * z, scipy.special.expit(z) - y


def square_of(y, z):
    return (z - y) ** 2, 2 * (z - y)


def magnitude_of(y, z):
    return np.abs(z - y), np.sign(z - y)


def huber_of(y, z, delta=1.0):
    error = np.abs(z - y)
    line = delta * error - delta**2 / 2
    loss = np.where(error <= delta, error**2 / 2, line)
    return loss, np.clip(z - y, -delta, delta)


def hinge_of(y, z):
    margin = 1 - (2 * y - 1) * z
    return np.maximum(0, margin), np.where(margin > 0, 1 - 2 * y, 0)


# Ours, TF1's, Keras's, the closed form (loss and gradient of each element in float64)
# and the kind of the labels.
FAMILY = {
    "sparse softmax": (
        losses.sparse_softmax_cross_entropy,
        tf1.sparse_softmax_cross_entropy,
        functools.partial(
            keras.losses.sparse_categorical_crossentropy, from_logits=True
        ),
        sparse_softmax_of,
        "class",
    ),
    "softmax": (
        losses.softmax_cross_entropy,
        tf1.softmax_cross_entropy,
        functools.partial(keras.losses.categorical_crossentropy, from_logits=True),
        softmax_of,
        "distribution",
    ),
    "sigmoid": (
        losses.sigmoid_cross_entropy,
        tf1.sigmoid_cross_entropy,
        functools.partial(keras.losses.binary_crossentropy, from_logits=True),
        sigmoid_of,
        "share",
    ),
    "squared": (
        losses.mean_squared_error,
        tf1.mean_squared_error,
        keras.losses.mean_squared_error,
        square_of,
        "value",
    ),
    "absolute": (
        losses.mean_absolute_error,
        tf1.absolute_difference,
        keras.losses.mean_absolute_error,
        magnitude_of,
        "value",
    ),
    "huber": (
        losses.huber,
        tf1.huber_loss,
        keras.losses.huber,
        huber_of,
        "value",
    ),
    "huber 0.25": (
        functools.partial(losses.huber, delta=0.25),
        functools.partial(tf1.huber_loss, delta=0.25),
        functools.partial(keras.losses.huber, delta=0.25),
        functools.partial(huber_of, delta=0.25),
        "value",
    ),
    "hinge": (
        losses.hinge,
        tf1.hinge_loss,
        keras.losses.hinge,
        hinge_of,
        "binary",
    ),
}
SOFTMAX = ("sparse softmax", "softmax")


def make_pair(rng, member, ndim, dtype):
    """Returns labels and logits, `ndim` dimensions and classes where there are any.

    The labels are multiples of 1/8, exact in every dtype.
    """
    kind = FAMILY[member][4]
    shape = (4, 2, 3)[:ndim]
    full = (*shape, 5) if member in SOFTMAX else shape
    logits = tf.cast(rng.normal(size=full) * 2, dtype)
    if kind == "class":
        return tf.constant(rng.integers(0, 5, shape)), logits
    values = {
        "distribution": lambda: rng.multinomial(8, np.full(5, 1 / 5), shape) / 8,
        "share": lambda: rng.integers(0, 9, shape) / 8,
        "value": lambda: rng.integers(-16, 17, shape) / 8,
        "binary": lambda: rng.integers(0, 2, shape),
    }[kind]()
    return tf.cast(values, dtype), logits


def widen(tensor):
    array = tensor.numpy()
    return array if array.dtype.kind == "i" else array.astype(np.float64)


def mean_per_example(array):
    return array.reshape(len(array), -1).mean(1)


def loss_and_gradient(loss, labels, logits):
    """Returns the losses, and the gradient of their sum with weights 1, 2, ..."""
    with tf.GradientTape() as tape:
        tape.watch(logits)
        per_example = loss(labels, logits)
        weights = tf.range(1, len(per_example) + 1)
        total = tf.reduce_sum(per_example * tf.cast(weights, per_example.dtype))
    return per_example, tape.gradient(total, logits)


def closed_form(member, labels, logits):
    """Returns what `loss_and_gradient` should, in float64."""
    loss, slope = FAMILY[member][3](widen(labels), widen(logits))
    weights = np.arange(1, len(loss) + 1).reshape(-1, *[1] * (slope.ndim - 1))
    return mean_per_example(loss), slope * weights * len(loss) / loss.size


def assert_close(got, want, tolerance):
    # Losses and gradients are of order 1; near 0 they are differences of such numbers.
    got = got.numpy().astype(np.float64)
    np.testing.assert_allclose(got, want, tolerance, atol=tolerance)


def with_term(value, name="w", scale=2.0, dtype=tf.float32):
    """Returns a variable with a term `scale * value ** 2 / 2`, kept by the store."""
    variable = tf.Variable([value], dtype=dtype)
    regularizer = tfreg.l2_regularizer(scale)
    tfreg.get_default_store().add_term(name, regularizer, [variable])
    tfreg.add_to_collection("kept", variable)  # The term goes with the variable.
    return variable


# One loss per example


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("member", FAMILY)
def test_losses_and_gradients_are_the_closed_form(member, ndim, dtype, rng):
    labels, logits = make_pair(rng, member, ndim, dtype)
    got, gradient = loss_and_gradient(FAMILY[member][0], labels, logits)
    want, want_gradient = closed_form(member, labels, logits)
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    assert got.shape == (4,) and got.dtype == wide
    assert gradient.shape == logits.shape and gradient.dtype == dtype
    # What is float32 inside stays that sharp, whatever the logits were rounded to.
    assert_close(got, want, ROUNDING[wide])
    assert_close(gradient, want_gradient, ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("member", FAMILY)
def test_losses_and_gradients_are_those_of_tf1(member, ndim, dtype, rng):
    ours, theirs, *_ = FAMILY[member]
    labels, logits = make_pair(rng, member, ndim, dtype)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        y, z = tf.constant(labels.numpy()), tf.constant(logits.numpy())
        elements = theirs(y, z, reduction=tf1.Reduction.NONE)
        mean = theirs(y, z, reduction=tf1.Reduction.MEAN)
        slope = tf.gradients(mean, z)[0]
        elements, mean, slope = session.run([elements, mean, slope])
    # TF1 computes some in the logits' dtype, and the others in float32 for all dtypes.
    tolerance = max(2 * ROUNDING[dtype], 1e-6)
    got = ours(labels, logits)
    assert_close(got, mean_per_example(elements.astype(np.float64)), tolerance)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = losses.total_loss(ours(labels, logits))
    assert_close(total, mean.astype(np.float64), tolerance)
    gradient = tape.gradient(total, logits)
    assert_close(gradient, slope.astype(np.float64), tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("member", FAMILY)
def test_losses_and_gradients_are_those_of_keras(member, ndim, dtype, rng):
    ours, _, keras_loss, *_ = FAMILY[member]
    labels, logits = make_pair(rng, member, ndim, dtype)

    def theirs(y, z):
        # Keras reduces the last axis, which without classes is the batch here.
        if member not in SOFTMAX:
            y, z = y[..., None], z[..., None]
        elements = keras_loss(y, z)
        return tf.reduce_mean(tf.reshape(elements, [4, -1]), 1)

    want, want_gradient = loss_and_gradient(theirs, labels, logits)
    got, gradient = loss_and_gradient(ours, labels, logits)
    # Keras computes in the logits' dtype.
    assert_close(got, widen(want), 2 * ROUNDING[dtype])
    assert_close(gradient, widen(want_gradient), 2 * ROUNDING[dtype])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("member", FAMILY)
def test_a_function_and_xla_compute_what_eager_code_does(
    member, dtype, jit_compile, rng
):
    labels, logits = make_pair(rng, member, 2, dtype)
    compute = functools.partial(loss_and_gradient, FAMILY[member][0])
    got, gradient = tf.function(compute, jit_compile=jit_compile)(labels, logits)
    want, want_gradient = compute(labels, logits)
    assert got.dtype == want.dtype and gradient.dtype == want_gradient.dtype
    assert_close(got, widen(want), ROUNDING[got.dtype])
    assert_close(gradient, widen(want_gradient), ROUNDING[dtype])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("member", FAMILY)
def test_one_trace_serves_every_batch_size(member, jit_compile, rng):
    labels, logits = make_pair(rng, member, 2, tf.float32)
    specs = [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in (labels, logits)]
    compute = tf.function(FAMILY[member][0], specs, jit_compile=jit_compile)
    want = FAMILY[member][0](labels, logits).numpy()
    for size in (4, 3, 1, 0):
        got = compute(labels[:size], logits[:size])
        assert got.shape == (size,)
        assert_close(got, want[:size], ROUNDING[tf.float32])
    assert compute.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("label_dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (4, 3, 1), (4, 3, 2, 1)])
def test_classes_may_be_a_sequence_and_have_a_last_dimension_of_one(
    shape, label_dtype, dtype, rng
):
    steps = shape[1:-1] if shape[-1] == 1 else shape[1:]
    logits = tf.cast(rng.normal(size=(4, *steps, 5)), dtype)
    labels = tf.constant(rng.integers(0, 5, (4, *steps)), label_dtype)
    got = losses.sparse_softmax_cross_entropy(tf.reshape(labels, shape), logits)
    want, _ = closed_form("sparse softmax", labels, logits)
    assert_close(got, want, ROUNDING[got.dtype])


@pytest.mark.parametrize("member", ["softmax", "sigmoid", "squared", "hinge"])
@pytest.mark.parametrize("dtype", [tf.int32, tf.uint8, tf.float64, tf.float16])
def test_labels_may_have_another_dtype_than_the_logits(member, dtype, rng):
    labels = rng.integers(0, 2, (4, 5))
    logits = tf.constant(rng.normal(size=(4, 5)), tf.float32)
    loss = FAMILY[member][0]
    got = loss(tf.cast(labels, dtype), logits)
    assert got.dtype == tf.float32
    np.testing.assert_array_equal(got, loss(tf.cast(labels, tf.float32), logits))


def test_sparse_classes_are_one_hot_rows(rng):
    labels, logits = make_pair(rng, "sparse softmax", 2, tf.float64)
    sparse = losses.sparse_softmax_cross_entropy(labels, logits)
    dense = losses.softmax_cross_entropy(tf.one_hot(labels, 5), logits)
    assert_close(sparse, dense.numpy(), ROUNDING[tf.float64])


@pytest.mark.parametrize("member", FAMILY)
def test_losses_and_gradients_are_finite_for_large_logits(member):
    for value in (1e4, -1e4):
        logits = tf.constant([[value, 0.0]] * 2, tf.float32)
        labels = tf.constant([[0.0, 1.0], [1.0, 0.0]])
        if member == "sparse softmax":
            labels = tf.constant([1, 0])
        got, gradient = loss_and_gradient(FAMILY[member][0], labels, logits)
        want, want_gradient = closed_form(member, labels, logits)
        assert_close(got, want, ROUNDING[tf.float32])
        assert_close(gradient, want_gradient, ROUNDING[tf.float32])


def test_float16_losses_do_not_overflow():
    labels, predictions = tf.zeros([1, 4]), tf.fill([1, 4], tf.constant(1000.0, "half"))
    got = losses.mean_squared_error(labels, predictions)
    assert got.dtype == tf.float32 and got.numpy() == [1e6]


def test_huber_has_tf1s_gradient_where_the_square_becomes_a_line():
    labels, predictions = tf.zeros([5]), tf.constant([-2.0, -1.0, 0.0, 1.0, 2.0])
    got, gradient = loss_and_gradient(losses.huber, labels, predictions)
    np.testing.assert_array_equal(got, [1.5, 0.5, 0.0, 0.5, 1.5])
    np.testing.assert_array_equal(gradient, [-1.0, -2.0, 0.0, 4.0, 5.0])


@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        np.float64, (6, 3), elements=st.integers(-1000, 1000).map(lambda k: k / 64)
    ),
    st.permutations(range(6)),
    st.sampled_from(["squared", "absolute", "huber", "huber 0.25"]),
)
def test_permuted_examples_have_permuted_losses_and_the_same_total(array, order, name):
    loss = FAMILY[name][0]
    labels, predictions = array[:, :1].repeat(3, 1), array
    want = loss(labels, predictions).numpy()
    got = loss(labels[order], predictions[order]).numpy()
    np.testing.assert_array_equal(got, want[order])
    # Thirds round: sums of six of them in another order.
    total = losses.total_loss(got).numpy()
    np.testing.assert_allclose(total, losses.total_loss(want), rtol=1e-15 * 6)


# One loss per position


@pytest.mark.parametrize("how", ["eager", "function", "xla"])
@pytest.mark.parametrize("member", FAMILY)
def test_each_position_has_its_loss_whose_mean_is_that_of_the_example(member, how, rng):
    labels, logits = make_pair(rng, member, 3, tf.float64)
    each = losses.take_each(FAMILY[member][0])
    if how != "eager":
        each = tf.function(each, jit_compile=how == "xla")
    got = each(labels, logits)
    want, _ = FAMILY[member][3](labels.numpy(), logits.numpy())
    assert got.shape == (4, 2, 3)
    assert_close(got, want, ROUNDING[tf.float64])
    per_example = FAMILY[member][0](labels, logits)
    np.testing.assert_allclose(per_example, mean_per_example(want), rtol=1e-14)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", None])
def test_a_keras_loss_is_taken_before_it_is_reduced(reduction, rng):
    y, outputs = rng.normal(size=(2, 4, 3, 2)).astype(np.float32)
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    for given in (loss, functools.partial(loss)):
        got = losses.take_each(given)(y, outputs)
        np.testing.assert_allclose(got, ((y - outputs) ** 2).mean(-1), rtol=1e-6)


def test_other_losses_are_taken_as_they_are():
    class Own:
        def __call__(self, y, outputs):
            return outputs

    for loss in (Own(), lambda y, outputs: outputs, keras.losses.mean_squared_error):
        assert losses.take_each(loss) is loss
        assert losses.find_targets(loss) == (None, 0.0)
    huber = functools.partial(losses.huber, delta=0.25)
    assert losses.find_targets(huber) == ("numbers", 0.0)


# Shapes that don't fit


@pytest.mark.parametrize(
    "labels, predictions",
    [((4,), (4, 1)), ((4, 1), (4,)), ((4, 3), (4, 2)), ((3, 2), (4, 2)), ((2,), (3, 2))]
    + [((), (4,)), ((1, 3), (4, 3)), ((4, 3), (4, 2, 3))],
)
@pytest.mark.parametrize("member", sorted(set(FAMILY) - {"sparse softmax"}))
@pytest.mark.parametrize("traced", [False, True])
def test_labels_of_another_shape_than_the_predictions_are_refused(
    member, labels, predictions, traced
):
    loss = FAMILY[member][0]
    if traced:
        loss = tf.function(loss, autograph=False)
    message = f"labels must have the shape of the predictions {predictions}, got "
    message += f"{labels}: reshape one of them"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loss(tf.zeros(labels), tf.zeros(predictions))


@pytest.mark.parametrize(
    "labels, logits",
    [((4, 5), (4, 5)), ((3,), (4, 5)), ((), (4, 5)), ((4, 3), (4, 5))]
    + [((4,), (4, 3, 5)), ((4, 1), (4, 3, 5)), ((4, 3, 5), (4, 3, 5))],
)
@pytest.mark.parametrize("traced", [False, True])
def test_classes_of_another_shape_than_the_examples_are_refused(labels, logits, traced):
    loss = losses.sparse_softmax_cross_entropy
    if traced:
        loss = tf.function(loss, autograph=False)
    message = f"labels must have shape {logits[:-1]}, got {labels}: "
    message += "pass one integer class per example, or use softmax_cross_entropy"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loss(tf.zeros(labels, tf.int32), tf.zeros(logits))


# The regularization losses


@pytest.mark.parametrize("scope", [None, "", "a", "a/", "b", ".*bias", "kernel", "c/"])
def test_a_scope_filters_regularization_losses_as_in_tf1(scope):
    slim = tf_slim.l2_regularizer(2.0)
    names = ["a/kernel", "a/bias", "ab/kernel", "b/bias"]
    for k, name in enumerate(names, 1):
        with_term(float(k), name)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for k, name in enumerate(names, 1):
            with tf.compat.v1.variable_scope(name.split("/")[0], reuse=False):
                tf.compat.v1.get_variable(
                    name.split("/")[1],
                    initializer=tf.constant([float(k)]),
                    regularizer=slim,
                )
        each = tf1.get_regularization_losses(scope)
        total = tf1.get_regularization_loss(scope)
        session.run(tf.compat.v1.global_variables_initializer())
        want, want_total = session.run([each, total])
    got = losses.get_regularization_losses(scope)
    assert [loss.numpy() for loss in got] == want
    assert losses.get_regularization_loss(scope).numpy() == want_total
    data = losses.total_loss(tf.constant([0.5, 1.5]), scope=scope)
    assert data.numpy() == 1.0 + want_total


def test_without_penalties_the_regularization_loss_is_zero_as_in_tf1():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        want = session.run(tf1.get_regularization_loss())
    for scope in (None, "a"):
        got = losses.get_regularization_loss(scope)
        assert got.dtype == tf.float32 and got.numpy() == want == 0.0
        assert losses.get_regularization_losses(scope) == []


def test_regularization_losses_are_terms_and_what_this_step_added():
    weights = with_term(3.0)
    with tfreg.step_scope():
        tfreg.add_loss(tf.constant(0.5), name="energy")
        got = losses.get_regularization_losses()
        assert [loss.numpy() for loss in got] == [9.0, 0.5]
        assert losses.get_regularization_loss().numpy() == 9.5
        assert losses.get_regularization_loss("energy").numpy() == 0.5
    weights.assign([1.0])
    assert losses.get_regularization_loss().numpy() == 1.0


def test_penalties_of_several_dtypes_have_one_sum():
    dtypes = (tf.float16, tf.float32, tf.float64)
    for dtype in dtypes:
        with_term(2.0, dtype.name, dtype=dtype)
    each = losses.get_regularization_losses()
    assert [loss.dtype for loss in each] == list(dtypes)
    total = losses.get_regularization_loss()
    assert total.dtype == tf.float32 and total.numpy() == 12.0


# total_loss on one device


def test_total_loss_is_tf1s_total_loss():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf1.mean_squared_error(tf.constant([[0.0], [0.0]]), tf.constant([[1.0], [2.0]]))
        with tf.compat.v1.variable_scope("a"):
            tf.compat.v1.get_variable(
                "kernel",
                initializer=tf.constant([3.0]),
                regularizer=tf_slim.l2_regularizer(0.5),
            )
        tf1.add_loss(tf.constant(0.25), tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
        total = tf1.get_total_loss()
        session.run(tf.compat.v1.global_variables_initializer())
        want = session.run(total)
    with_term(3.0, "a/kernel", 0.5)
    with tfreg.step_scope():
        tfreg.add_loss(tf.constant(0.25))
        per_example = losses.mean_squared_error([[0.0], [0.0]], [[1.0], [2.0]])
        assert losses.total_loss(per_example).numpy() == want


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2), (6, 2, 3), (1,), (1, 4)])
def test_the_mean_over_every_element_is_taken(shape, rng):
    data = rng.normal(size=shape)
    total = losses.total_loss(tf.constant(data))
    assert total.shape == () and total.dtype == tf.float64
    np.testing.assert_allclose(total, data.mean(), rtol=1e-14)  # sums of 36 at most


def test_a_scalar_data_loss_is_a_mean_already():
    with_term(3.0)
    for data in (0.5, np.float32(0.5), tf.constant(0.5)):
        assert losses.total_loss(data).numpy() == 9.5
    assert losses.total_loss(tf.constant(0.5), num_examples=7).numpy() == 9.5


def test_with_an_empty_store_the_total_is_the_data_loss():
    assert losses.total_loss(tf.constant([1.0, 2.0])).numpy() == 1.5
    with tf.GradientTape() as tape:
        data = tf.Variable([1.0, 2.0])
        total = losses.total_loss(data)
    np.testing.assert_array_equal(tape.gradient(total, data), [0.5, 0.5])


def test_without_examples_the_total_is_the_terms_and_its_gradient_theirs():
    weights = with_term(3.0)
    with tf.GradientTape() as tape:
        total = losses.total_loss(tf.reshape(weights, [1])[:0])
    assert total.numpy() == 9.0
    assert tape.gradient(total, weights).numpy() == [6.0]
    assert losses.total_loss(tf.zeros([0, 3])).numpy() == 9.0


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("penalty_dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_the_total_has_the_dtype_of_the_data_loss(dtype, penalty_dtype):
    weights = with_term(2.0, dtype=penalty_dtype)
    with tf.GradientTape() as tape:
        total = losses.total_loss(tf.constant([0.5, 1.5], dtype))
    assert total.dtype == (tf.float64 if dtype == tf.float64 else tf.float32)
    assert total.numpy() == 5.0
    gradient = tape.gradient(total, weights)
    assert gradient.dtype == penalty_dtype and gradient.numpy() == [4.0]


def test_a_float16_mean_does_not_overflow():
    data = tf.fill([1000], tf.constant(1000.0, tf.float16))
    assert losses.total_loss(data).numpy() == 1000.0


def test_losses_of_one_name_count_each():
    with tfreg.step_scope():
        tfreg.add_loss(tf.constant(0.25))
        tfreg.add_loss(tf.constant(0.5))
        tfreg.add_loss(tf.constant(2.0), name="other")
        assert losses.total_loss(tf.constant([1.0])).numpy() == 3.75


def test_integer_penalties_of_any_callable_are_counted():
    weights = tf.Variable([1.0])
    tfreg.get_default_store().add_term("w", lambda w: 5, [weights])
    assert losses.total_loss(tf.constant([1.0])).numpy() == 6.0
    assert losses.get_regularization_loss().numpy() == 5.0


def test_weights_are_averaged_as_by_tf1_over_those_that_are_not_zero(rng):
    data, weights = rng.normal(size=6), np.array([1.0, 0.0, 2.0, 0.0, 0.5, 3.0])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        want = session.run(tf1.compute_weighted_loss(data, weights))
    with_term(3.0)
    got = losses.total_loss(tf.constant(data), weights=weights)
    np.testing.assert_allclose(got, want + 9.0, rtol=1e-6)  # TF1 computes in float32
    got = losses.total_loss(tf.constant(data), weights=np.zeros(6))
    assert got.numpy() == 9.0


@pytest.mark.parametrize("how", ["eager", "function", "xla"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_weights_per_position_are_averaged_as_by_tf1(ndim, how, rng):
    data = rng.normal(size=(4, 2, 3))
    weights = rng.integers(0, 3, data.shape[:ndim]).astype(np.float64)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        wide = weights.reshape(*weights.shape, *[1] * (3 - ndim))
        want = session.run(tf1.compute_weighted_loss(data, wide))

    def total(data, weights):
        return losses.total_loss(data, weights=weights)

    total = total if how == "eager" else tf.function(total, jit_compile=how == "xla")
    got = total(tf.constant(data), tf.constant(weights))
    np.testing.assert_allclose(got, want, rtol=1e-6)  # TF1 computes in float32
    assert 0 in weights and got != data.mean()


@pytest.mark.parametrize(
    "weights, want",
    [((3,), (4,)), ((3, 2), (4, 2)), ((4, 3), (4, 2)), ((4, 1), (4, 2))]
    + [((4, 2, 1), (4, 2)), ((), (4,))],
)
def test_weights_that_do_not_fit_the_data_loss_are_refused(weights, want):
    message = f"weights must have shape {want}, got {weights}: pass one weight per"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        losses.total_loss(tf.zeros([4, 2]), weights=tf.zeros(weights))


def test_weights_of_ragged_rows_do_not_fit_a_tensor():
    ragged = tf.ragged.constant([[1.0], [1.0, 2.0]])
    message = r"^weights must have shape \(2, 2\), got \(2, None\): pass one weight per"
    with pytest.raises(ValueError, match=message):
        losses.total_loss(tf.zeros([2, 2]), weights=ragged)


def test_weights_need_losses_per_example_and_a_scalar_its_number():
    message = "^data_loss must be per example where there are weights, got a scalar"
    with pytest.raises(ValueError, match=message):
        losses.total_loss(tf.constant(1.0), weights=tf.zeros([3]))
    message = "^num_examples must be given for a scalar data_loss where "
    with pytest.raises(ValueError, match=f"{message}global_batch_size is, got None"):
        losses.total_loss(tf.constant(1.0), global_batch_size=4)


def test_an_activity_penalty_that_cannot_be_counted_is_refused():
    layer = tfreg.layers.Dense(2, activity_regularizer=tfreg.l2_regularizer(0.1))
    layer(tf.ones([1, 3]))
    for model in (None, layer):
        with pytest.raises(ValueError, match="dense/activity.*step_scope"):
            losses.total_loss(tf.zeros([1]), model)


def test_a_penalty_that_would_be_counted_twice_is_refused():
    with tfreg.step_scope():
        tfreg.add_loss(tf.constant(0.25), name="first")
        losses.total_loss(tf.zeros([1]))
        tfreg.add_loss(tf.constant(0.25), name="second")
        with pytest.raises(ValueError, match="second total_loss after another"):
            losses.total_loss(tf.zeros([1]))


# The gradient of the total


@pytest.mark.parametrize("how", ["eager", "function", "xla"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("examples", [8, 1])
def test_gradients_of_a_linear_model_are_the_closed_form(examples, dtype, how, rng):
    x = tf.cast(rng.normal(size=(examples, 3)), dtype)
    y = tf.cast(rng.integers(-16, 17, (examples, 2)) / 8, dtype)
    layer = tfreg.layers.Dense(
        2,
        kernel_regularizer=tfreg.l2_regularizer(0.3),
        bias_regularizer=tfreg.l1_regularizer(0.2),
        activity_regularizer=tfreg.l2_regularizer(0.1),
    )
    with tfreg.step_scope():
        layer(x)
    layer.bias.assign([0.5, -0.25])

    def step():
        with tf.GradientTape() as tape:
            total = losses.total_loss(losses.mean_squared_error(y, layer(x)))
        return total, tape.gradient(total, [layer.kernel, layer.bias])

    if how == "eager":
        with tfreg.step_scope():
            total, gradients = step()
    else:
        total, gradients = tf.function(step, jit_compile=how == "xla")()

    kernel, bias, x, y = map(widen, (layer.kernel, layer.bias, x, y))
    outputs = x @ kernel + bias
    want = ((outputs - y) ** 2).mean() + 0.3 * (kernel**2).sum() / 2
    want += 0.2 * np.abs(bias).sum() + 0.1 * (outputs**2).sum() / 2 / examples
    slope = (outputs - y) / examples + 0.1 * outputs / examples  # Two outputs.
    want_gradients = x.T @ slope + 0.3 * kernel, slope.sum(0) + 0.2 * np.sign(bias)
    # The model is computed in the inputs' dtype, a dozen roundings; kernels and bias
    # are float32 or float64, and so are their gradients.
    wide = dtype if dtype == tf.float64 else tf.float32
    tolerance = 12 * max(ROUNDING[dtype], ROUNDING[wide])
    np.testing.assert_allclose(total, want, tolerance)
    for got, wanted in zip(gradients, want_gradients, strict=True):
        assert got.dtype == wide
        np.testing.assert_allclose(got, wanted, tolerance, atol=tolerance)


def test_the_gradient_vanishes_at_the_ridge_and_lasso_optima_of_scikit_learn(rng):
    x, y = rng.normal(size=(50, 4)), rng.normal(size=50)
    ridge = sklearn.linear_model.Ridge(25.0, fit_intercept=False).fit(x, y)
    lasso = sklearn.linear_model.Lasso(0.05, fit_intercept=False, tol=1e-12)
    lasso.fit(x, y)
    # Ridge: |Xw - y|^2 + 25 |w|^2, here divided by 50: the half makes it l2(1.0).
    # Lasso: |Xw - y|^2 / 100 + 0.05 |w|, here doubled.
    for coefficients, regularizer in (
        (ridge.coef_, tfreg.l2_regularizer(1.0)),
        (lasso.coef_, tfreg.l1_regularizer(0.1)),
    ):
        with tfreg.Store().as_default():
            weights = tf.Variable(coefficients)
            tfreg.apply_regularization(regularizer, [weights])
            with tf.GradientTape() as tape:
                predictions = tf.linalg.matvec(x, weights)
                total = losses.total_loss(losses.mean_squared_error(y, predictions))
            gradient = tape.gradient(total, weights).numpy()
        # At a zero of the lasso the data's gradient stays within the scale.
        zero = coefficients == 0
        assert np.abs(gradient[~zero]).max() < 1e-6  # their stopping tolerance
        assert (np.abs(gradient[zero]) <= 0.1).all()
