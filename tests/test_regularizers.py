"""Penalties: contrib's numbers, what is refused, and what a scale may be."""

import functools
import gc
import re

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_slim

import tfreg

DTYPES = [tf.float16, tf.bfloat16, tf.float32, tf.float64]
# Two roundings by half a unit in the last place (one of a member, one of the sum); from
# float32 on the order of the sum matters too.
ROUNDING = {tf.float16: 2**-10, tf.bfloat16: 2**-7, tf.float32: 1e-6, tf.float64: 1e-14}
SHAPES = [(), (5,), (0, 3), (4, 3), (2, 3, 1, 4)]


def l1_of(scale):
    return lambda w: scale * np.abs(w).sum(), lambda w: scale * np.sign(w)


def l2_of(scale):
    return lambda w: scale * np.square(w).sum() / 2, lambda w: scale * w


def l1_l2_of(scale_l1, scale_l2):
    l1, l1_slope = l1_of(scale_l1)
    l2, l2_slope = l2_of(scale_l2)
    return lambda w: l1(w) + l2(w), lambda w: l1_slope(w) + l2_slope(w)


# Ours, contrib's, Keras's (L2 without the half), and in float64 value and gradient.
FAMILY = {
    "l1": (
        tfreg.l1_regularizer(0.3),
        tf_slim.l1_regularizer(0.3),
        keras.regularizers.L1(0.3),
        *l1_of(0.3),
    ),
    "l2": (
        tfreg.l2_regularizer(0.3),
        tf_slim.l2_regularizer(0.3),
        keras.regularizers.L2(0.15),
        *l2_of(0.3),
    ),
    "l1_l2": (
        tfreg.l1_l2_regularizer(0.3, 0.2),
        tf_slim.l1_l2_regularizer(0.3, 0.2),
        keras.regularizers.L1L2(0.3, 0.1),
        *l1_l2_of(0.3, 0.2),
    ),
    "l1_l2 by default": (
        tfreg.l1_l2_regularizer(),
        tf_slim.l1_l2_regularizer(),
        keras.regularizers.L1L2(1.0, 0.5),
        *l1_l2_of(1.0, 1.0),
    ),
    "l1_l2 without l1": (
        tfreg.l1_l2_regularizer(0.0, 0.2),
        tf_slim.l1_l2_regularizer(0.0, 0.2),
        keras.regularizers.L1L2(0.0, 0.1),
        *l2_of(0.2),
    ),
    "l1_l2 without l2": (
        tfreg.l1_l2_regularizer(0.3, 0.0),
        tf_slim.l1_l2_regularizer(0.3, 0.0),
        keras.regularizers.L1L2(0.3, 0.0),
        *l1_of(0.3),
    ),
    "sum": (
        tfreg.sum_regularizer(
            [
                tfreg.l1_regularizer(0.3),
                None,
                tfreg.no_regularizer,
                tfreg.l2_regularizer(0.2),
            ]
        ),
        tf_slim.sum_regularizer(
            [
                tf_slim.l1_regularizer(0.3),
                None,
                tf_slim.l1_regularizer(0.0),
                tf_slim.l2_regularizer(0.2),
            ]
        ),
        keras.regularizers.L1L2(0.3, 0.1),
        *l1_l2_of(0.3, 0.2),
    ),
    "sum of one": (
        tfreg.sum_regularizer((tfreg.l2_regularizer(0.3),)),
        tf_slim.sum_regularizer((tf_slim.l2_regularizer(0.3),)),
        keras.regularizers.L2(0.15),
        *l2_of(0.3),
    ),
}

FACTORIES = {
    "scale": tfreg.l1_regularizer,
    "scale of l2": tfreg.l2_regularizer,
    "scale_l1": lambda scale: tfreg.l1_l2_regularizer(scale, 0.1),
    "scale_l2": lambda scale: tfreg.l1_l2_regularizer(0.1, scale),
    "scale_l2 beside 0.0": lambda scale: tfreg.l1_l2_regularizer(0.0, scale),
}

# Whatever is called and returns a scalar; each is 0.3 * sum(w ** 2) / 2.
CALLABLES = {
    "ours": tfreg.l2_regularizer(0.3),
    "Keras": keras.regularizers.L2(0.15),
    "slim": tf_slim.l2_regularizer(0.3),
    "lambda": lambda w: 0.15 * tf.reduce_sum(w * w),
    "partial": functools.partial(lambda s, w: s * tf.nn.l2_loss(w), 0.3),
    "sum": tfreg.sum_regularizer([keras.regularizers.L2(0.1), lambda w: 0.1 * l2(w)]),
}


def l2(weights):
    return tf.nn.l2_loss(weights)


def make_weights(rng, shape, dtype):
    """Returns a tensor with a zero in it, and its values in float64."""
    weights = rng.normal(size=shape)
    if weights.size > 1:
        weights.flat[0] = 0.0
    weights = tf.cast(weights, dtype)
    return weights, weights.numpy().astype(np.float64)


def penalty_and_gradient(regularizer, weights):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        penalty = regularizer(weights)
    return penalty, tape.gradient(penalty, weights)


def assert_close(got, want, dtype, rtol=None):
    assert got.dtype == dtype
    rtol = rtol or ROUNDING[dtype]
    np.testing.assert_allclose(got.numpy().astype(np.float64), want, rtol, atol=0)


def total_gradient(variables):
    with tf.GradientTape() as tape:
        total = tfreg.losses.total_loss(tf.zeros([2]))
    return total, tape.gradient(total, variables)


def names_of_terms():
    return [term.name for term in tfreg.get_default_store().get_terms()]


# The numbers


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("member", FAMILY)
def test_penalty_and_gradient_are_the_closed_form(member, shape, dtype, rng):
    regularizer, _, _, value, slope = FAMILY[member]
    weights, wide = make_weights(rng, shape, dtype)
    penalty, gradient = penalty_and_gradient(regularizer, weights)
    assert penalty.shape == () and gradient.shape == shape
    assert_close(penalty, value(wide), dtype)
    assert_close(gradient, slope(wide), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("member", FAMILY)
def test_penalty_and_gradient_are_contribs(member, dtype, rng):
    ours, slim, *_ = FAMILY[member]
    weights, _ = make_weights(rng, (4, 3), dtype)
    penalty, gradient = penalty_and_gradient(ours, weights)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        w = tf.constant(weights.numpy())
        want = slim(w)
        want, want_gradient = session.run([want, tf.gradients(want, w)[0]])
    # Slim adds up in the weights' own dtype, and rounds at each of 12 weights.
    rtol = 12 * ROUNDING[dtype]
    assert_close(penalty, want.astype(np.float64), dtype, rtol)
    assert_close(gradient, want_gradient.astype(np.float64), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("member", FAMILY)
def test_penalty_and_gradient_are_those_of_keras_with_l2_halved(member, dtype, rng):
    ours, _, theirs, *_ = FAMILY[member]
    weights, _ = make_weights(rng, (4, 3), dtype)
    penalty, gradient = penalty_and_gradient(ours, weights)
    want, want_gradient = penalty_and_gradient(theirs, weights)
    # Keras adds up in the weights' own dtype, rounding at each of 12 weights and twice
    # in the gradient; its own scale is a float32 for every dtype.
    rtol = max(12 * ROUNDING[dtype], 1e-7)
    assert_close(penalty, want.numpy().astype(np.float64), dtype, rtol)
    rtol = max(2 * ROUNDING[dtype], 1e-7)
    assert_close(gradient, want_gradient.numpy().astype(np.float64), dtype, rtol)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("member", FAMILY)
def test_a_function_and_xla_compute_what_eager_code_does(
    member, dtype, jit_compile, rng
):
    weights, _ = make_weights(rng, (4, 3), dtype)
    compute = functools.partial(penalty_and_gradient, FAMILY[member][0])
    got, got_gradient = tf.function(compute, jit_compile=jit_compile)(weights)
    want, want_gradient = compute(weights)
    assert_close(got, want.numpy().astype(np.float64), dtype)
    assert_close(got_gradient, want_gradient.numpy().astype(np.float64), dtype)


def test_70000_float16_twos_do_not_overflow():
    weights = tf.fill([70_000], tf.constant(2.0, tf.float16))
    assert tfreg.l2_regularizer(0.01)(weights).numpy() == 1400.0
    # The scale with which Keras's L2(0.01), which has no half, would give 2800.
    assert np.isinf(keras.regularizers.L2(0.01)(weights))
    assert tfreg.l2_regularizer(0.02)(weights).numpy() == 2800.0
    # 0.02 isn't a float16: 0.02 * 70,000 * 2 = 2800 in float32, rounded at the end.
    assert tfreg.l1_regularizer(0.02)(weights).numpy() == 2800.0


@pytest.mark.parametrize("scale", [0.1, 1e-50, 1e300, np.float64(0.1)])
def test_a_float_scale_is_not_rounded_to_float32_for_float64_weights(scale):
    weights = tf.constant([2.0], tf.float64)
    assert tfreg.l1_regularizer(scale)(weights).numpy() == 2 * scale
    assert tfreg.l2_regularizer(scale)(weights).numpy() == 2 * scale
    with tfreg.step_scope(step=0):
        scheduled = tfreg.l2_regularizer(lambda step: scale)(weights)
    assert scheduled.numpy() == 2 * scale


def test_a_variable_numpy_values_and_lists_are_weights():
    for weights in (tf.Variable([1.0, -2.0]), keras.Variable([1.0, -2.0])):
        assert tfreg.l2_regularizer(0.5)(weights).numpy() == 1.25
    assert tfreg.l2_regularizer(0.5)([1.0, -2.0]).numpy() == 1.25
    assert tfreg.l2_regularizer(0.1)(np.array([1.0, -2.0])).numpy() == 0.25


# k / 64 with |k| <= 1000 and their squares add up exactly in float64: nothing rounds.
dyadic = hypothesis.extra.numpy.arrays(
    np.float64,
    hypothesis.extra.numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    elements=st.integers(-1000, 1000).map(lambda k: k / 64),
)
scales = st.floats(1e-6, 1e6)


@hypothesis.given(dyadic, scales, scales)
def test_l1_l2_is_l1_plus_l2(weights, scale_l1, scale_l2):
    l1, l2 = tfreg.l1_regularizer(scale_l1), tfreg.l2_regularizer(scale_l2)
    got = tfreg.l1_l2_regularizer(scale_l1, scale_l2)(weights).numpy()
    assert got == l1(weights).numpy() + l2(weights).numpy()
    assert got == tfreg.sum_regularizer([l1, l2])(weights).numpy()


@hypothesis.given(dyadic, scales)
def test_penalty_is_linear_in_the_scale_and_even_and_homogeneous(weights, scale):
    for factory, power in ((tfreg.l1_regularizer, 1), (tfreg.l2_regularizer, 2)):
        penalty = factory(scale)(weights).numpy()
        assert factory(2 * scale)(weights).numpy() == 2 * penalty
        assert factory(scale)(-weights).numpy() == penalty
        assert factory(scale)(2 * weights).numpy() == 2**power * penalty


@hypothesis.given(dyadic, scales, st.randoms(use_true_random=False))
def test_penalty_does_not_depend_on_order_or_shape(weights, scale, random):
    permuted = weights.ravel().tolist()
    random.shuffle(permuted)
    permuted = np.array(permuted, np.float64)
    regularizer = tfreg.l1_l2_regularizer(scale, scale)
    assert regularizer(permuted).numpy() == regularizer(weights).numpy()


# What the factories refuse


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize(
    "scale", [0, 1, -1, True, False, np.int32(1), np.int64(0), np.uint8(3)]
)
def test_an_integer_scale_is_refused_as_contrib_does(name, scale):
    parameter = name.split()[0]
    slim = tf_slim.l1_l2_regularizer if "_" in parameter else tf_slim.l2_regularizer
    with pytest.raises(ValueError, match=f"{parameter} cannot be an integer"):
        slim(**{parameter: scale})
    message = (
        f"{parameter} cannot be an integer, it must be a finite float >= 0, got "
        f"{scale!r}: write 1.0 for 1, and 0.0 for no penalty"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FACTORIES[name](scale)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize(
    "scale",
    [
        -1.0,
        -1e-300,
        np.float32(-0.5),
        float("nan"),
        np.float16("nan"),
        float("inf"),
        -float("inf"),
        np.float64("inf"),
    ],
)
def test_a_negative_or_infinite_scale_or_nan_is_refused(name, scale):
    parameter = name.split()[0]
    message = (
        f"{parameter} must be a finite float >= 0, got {scale!r}: "
        "write 0.0 for no penalty"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FACTORIES[name](scale)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("scale", ["0.1", None, [0.1], 1j, b"", np.bool_(True)])
def test_what_is_no_number_variable_or_function_is_refused(name, scale):
    message = (
        f"{name.split()[0]} must be a float, a tf.Variable or a function of the step, "
        f"got {scale!r}: write for example 1e-4"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        FACTORIES[name](scale)


@pytest.mark.parametrize("zero", [0.0, -0.0, np.float32(0), np.float16(0)])
def test_a_scale_of_zero_gives_a_function_of_none(zero):
    weights = tf.constant([1.0])
    for regularizer in (
        tfreg.l1_regularizer(zero),
        tfreg.l2_regularizer(zero),
        tfreg.l1_l2_regularizer(zero, zero),
        tfreg.no_regularizer,
    ):
        assert regularizer(weights) is None


def test_a_variable_scale_of_zero_is_a_penalty_of_zero():
    penalty = tfreg.l2_regularizer(tf.Variable(0.0))(tf.constant([1.0]))
    assert penalty.numpy() == 0.0


@pytest.mark.parametrize("factory", [tfreg.l1_regularizer, tfreg.l2_regularizer])
@pytest.mark.parametrize("weights", [[1, 2], [True], ["a"]], ids=str)
def test_weights_that_are_not_floating_are_refused(factory, weights):
    name = tf.constant(weights).dtype.name
    message = f"^weights must be floating, got {name}: cast them$"
    with pytest.raises(TypeError, match=message):
        factory(0.1)(tf.constant(weights))


def test_weights_that_are_not_dense_are_refused():
    ragged = tf.ragged.constant([[1.0], [2.0, 3.0]])
    sparse = tf.sparse.from_dense([[1.0, 0.0]])
    for name, weights in ("RaggedTensor", ragged), ("SparseTensor", sparse):
        message = f"^weights must be dense, got a {name}: pass its flat_values or "
        with pytest.raises(TypeError, match=message):
            tfreg.l1_regularizer(0.1)(weights)
    assert tfreg.l1_regularizer(0.5)(ragged.flat_values).numpy() == 3.0


# sum_regularizer


@pytest.mark.parametrize("members", [[], (), [None], [None, None], iter([None])])
def test_a_sum_without_members_is_none_as_contribs(members):
    assert tfreg.sum_regularizer(members) is None


def test_a_sum_of_which_every_member_returns_none_returns_none():
    members = [tfreg.l1_regularizer(0.0), tfreg.no_regularizer, lambda w: None]
    assert tfreg.sum_regularizer(members)(tf.constant([1.0])) is None


@pytest.mark.parametrize("member", [0.1, "l2", tf.constant(0.1)], ids=repr)
def test_a_member_that_is_not_callable_is_refused(member):
    message = f"regularizer_list must hold callables, got {member!r}: write for"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        tfreg.sum_regularizer([tfreg.l1_regularizer(0.1), member])


def test_a_sum_adds_members_of_different_dtypes_in_the_widest():
    for others in (lambda w: 1.0, lambda w: tf.constant(1.0, tf.float16), lambda w: 1):
        total = tfreg.sum_regularizer([tfreg.l2_regularizer(0.5), others])
        got = total(tf.constant([1.0], tf.float64))
        assert got.dtype == tf.float64 and got.numpy() == 1.25


def test_a_sum_may_be_a_member_of_a_sum():
    inner = tfreg.sum_regularizer([tfreg.l1_regularizer(0.5)])
    outer = tfreg.sum_regularizer([inner, tfreg.l2_regularizer(0.5), inner])
    assert outer(tf.constant([1.0, -2.0])).numpy() == 4.25


# A scale that changes


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("make", [tf.Variable, keras.Variable], ids=["tf", "keras"])
@pytest.mark.parametrize("factory", [tfreg.l1_regularizer, tfreg.l2_regularizer])
def test_a_variable_scale_counts_at_the_next_step_without_a_retrace(
    factory, make, jit_compile
):
    scale, weights = make(0.5), tf.Variable([1.0, 1.0])
    tfreg.apply_regularization(factory(scale), [weights])
    step = tf.function(lambda: total_gradient(weights), jit_compile=jit_compile)
    for value in (0.5, 2.0, 0.0, 8.0):
        scale.assign(value)
        total, gradient = step()
        assert total == (2 * value if factory is tfreg.l1_regularizer else value)
        np.testing.assert_array_equal(gradient, [value, value])
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_function_of_the_step_counts_at_the_next_step_without_a_retrace(jit_compile):
    step, weights = tf.Variable(0, dtype=tf.int64), tf.Variable([1.0, 1.0])
    regularizer = tfreg.l2_regularizer(lambda step: 0.5 * tf.cast(step, tf.float32))
    tfreg.get_default_store().add_term("w", regularizer, [weights])

    @tf.function(jit_compile=jit_compile)
    def train():
        with tfreg.step_scope(step=step):
            total, gradient = total_gradient(weights)
        step.assign_add(1)
        return total, gradient

    for number in range(4):
        total, gradient = train()
        assert total == number / 2
        np.testing.assert_array_equal(gradient, [number / 2, number / 2])
    assert train.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("kind", ["int", "tensor", "variable", "argument"])
def test_a_function_of_the_step_is_given_the_number_of_step_scope(kind):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 2.0])
    regularizer = tfreg.l2_regularizer(schedule)
    weights = tf.constant([1.0, 1.0])
    makers = {"int": int, "tensor": tf.constant, "variable": tf.Variable}
    if kind != "argument":
        for number in (1, 3):
            with tfreg.step_scope(step=makers[kind](number)):
                assert regularizer(weights).numpy() == (0.5 if number < 2 else 2.0)
        return

    @tf.function
    def penalty(number):
        with tfreg.step_scope(step=number):
            return regularizer(weights)

    assert [penalty(tf.constant(n)).numpy() for n in (1, 3)] == [0.5, 2.0]
    assert penalty.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("scale_dtype", [tf.float64, tf.float16, tf.int32])
def test_a_variable_scale_may_have_another_dtype_than_the_weights(dtype, scale_dtype):
    scale = tf.Variable(2, dtype=scale_dtype)
    penalty = tfreg.l2_regularizer(scale)(tf.constant([1.0, 1.0], dtype))
    assert penalty.dtype == dtype and penalty.numpy() == 2.0


def test_a_function_of_the_step_without_a_step_is_refused():
    def rising(step):
        return 0.1 * step

    weights = tf.Variable([1.0])
    regularizer = tfreg.l2_regularizer(rising)
    message = (
        "scale must be known in this step, got the function rising and no step to call "
        "it with: put the step into `with tfreg.step_scope(step=optimizer.step):`"
    )
    message = f"^{re.escape(message)}$"
    with pytest.raises(ValueError, match=message):
        regularizer(weights)
    with pytest.raises(ValueError, match=message), tfreg.step_scope():
        regularizer(weights)
    with pytest.raises(ValueError, match=message):
        tf.function(lambda: regularizer(weights), autograph=False)()
    with pytest.raises(ValueError, match=message):
        tfreg.apply_regularization(regularizer, [weights])
    assert names_of_terms() == []


def test_a_regularizer_says_what_it_is():
    variable = tf.Variable(0.5, name="decay")
    shown = {
        "l1_regularizer(0.0001)": tfreg.l1_regularizer(1e-4),
        "l2_regularizer(variable decay:0)": tfreg.l2_regularizer(variable),
        "l2_regularizer(l2)": tfreg.l2_regularizer(l2),
        "l1_regularizer(0.1) + l2_regularizer(0.2)": tfreg.l1_l2_regularizer(0.1, 0.2),
    }
    assert [repr(regularizer) for regularizer in shown.values()] == list(shown)


# Any callable


@pytest.mark.parametrize("target", ["kernel", "bias", "activity"])
@pytest.mark.parametrize("name", CALLABLES)
def test_any_callable_is_a_regularizer_of_a_layer(name, target, rng):
    regularizers = {f"{target}_regularizer": CALLABLES[name]}
    layer = tfreg.layers.Dense(2, **regularizers)
    x = tf.constant(rng.normal(size=(4, 3)), tf.float32)
    layer(x)
    layer.bias.assign([0.5, -1.0])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = layer(x)
            total = tfreg.losses.total_loss(tf.zeros([4]))
        return total, tape.gradient(total, [layer.kernel, layer.bias]), outputs

    total, gradients, outputs = step()
    kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
    outputs = outputs.numpy().astype(np.float64)
    penalized = {"kernel": kernel, "bias": bias, "activity": outputs / 2}[target]
    want = {
        "kernel": [0.3 * kernel, None],
        "bias": [None, 0.3 * bias],
        "activity": [0.3 * x.numpy().T @ outputs / 4, 0.3 * outputs.mean(0)],
    }[target]
    # Float32 sums of at most 8 numbers of order 1.
    assert total.numpy() == pytest.approx(0.15 * np.sum(penalized**2), rel=1e-6)
    for got, wanted in zip(gradients, want, strict=True):
        if wanted is not None:
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CALLABLES)
def test_any_callable_is_applied_to_variables_of_tensorflow_and_keras(name):
    weights = [tf.Variable([1.0, -2.0]), keras.Variable([[3.0]])]
    penalty = tfreg.apply_regularization(CALLABLES[name], weights)
    # 0.15 and 0.3 are rounded differently to float32.
    assert penalty.numpy() == pytest.approx(0.15 * 14, rel=1e-6)
    total, gradients = total_gradient([weights[0], weights[1].value])
    assert total.numpy() == pytest.approx(0.15 * 14, rel=1e-6)
    np.testing.assert_allclose(gradients[0], [0.3, -0.6], rtol=1e-6)
    np.testing.assert_allclose(gradients[1], [[0.9]], rtol=1e-6)


def test_terms_have_the_names_that_contrib_gave():
    pairs = {
        "l1": (tfreg.l1_regularizer(0.1), tf_slim.l1_regularizer(0.1)),
        "l2": (tfreg.l2_regularizer(0.1), tf_slim.l2_regularizer(0.1)),
        "l1_l2": (tfreg.l1_l2_regularizer(), tf_slim.l1_l2_regularizer()),
        "one": (tfreg.l1_l2_regularizer(0.1, 0.0), FAMILY["l1_l2 without l2"][1]),
        "sum": (FAMILY["sum"][0], FAMILY["sum"][1]),
    }
    layers = [
        tfreg.layers.Dense(2, kernel_regularizer=ours, name=name)
        for name, (ours, _) in pairs.items()
    ]
    for layer in layers:
        layer(tf.ones([1, 3]))
    with tf.Graph().as_default():
        for name, (_, slim) in pairs.items():
            with tf.compat.v1.variable_scope(name):
                tf.compat.v1.get_variable("kernel", [3, 2], regularizer=slim)
        losses = tf.compat.v1.losses.get_regularization_losses()
    assert names_of_terms() == [loss.op.name for loss in losses]
    assert names_of_terms()[1] == "l2/kernel/Regularizer/l2_regularizer"


@pytest.mark.parametrize(
    "name, want",
    [("Keras", "L2"), ("slim", "l2"), ("lambda", "lambda"), ("partial", "partial")],
)
def test_a_term_of_another_callable_is_named_after_it(name, want):
    weights = tf.Variable([1.0])
    tfreg.apply_regularization(CALLABLES[name], [weights])
    assert names_of_terms() == [f"apply_regularization/Regularizer/{want}"]


# apply_regularization


@pytest.mark.parametrize("member", FAMILY)
def test_apply_regularization_adds_one_entry_with_contribs_value(member, rng):
    ours, slim, _, value, slope = FAMILY[member]
    values = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
    variables = [tf.Variable(w) for w in values]
    penalty = tfreg.apply_regularization(ours, variables)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        want = tf_slim.apply_regularization(slim, [tf.constant(w) for w in values])
        entries = tf.compat.v1.losses.get_regularization_losses()
        want, num_entries = session.run(want), len(entries)
    entries = tfreg.losses.get_regularization_losses()
    assert len(entries) == num_entries == 1
    np.testing.assert_array_equal(entries[0], penalty)
    # Float32 sums of 45 numbers.
    np.testing.assert_allclose(penalty, want, rtol=1e-6)
    np.testing.assert_allclose(penalty, sum(map(value, values)), rtol=1e-6)
    total, gradients = total_gradient(variables)
    np.testing.assert_allclose(total, want, rtol=1e-6)
    for gradient, w in zip(gradients, values, strict=True):
        np.testing.assert_allclose(gradient, slope(w), rtol=1e-6)


@pytest.mark.parametrize("weights_list", [None, [], ()], ids=repr)
def test_apply_regularization_falls_back_to_the_kernels_of_layers(weights_list):
    layers = [tfreg.layers.Dense(2), tfreg.layers.Embedding(4, 3)]
    layers[0](tf.ones([1, 3]))
    layers[0].bias.assign([5.0, 5.0])
    layers[1](tf.constant([0]))
    penalty = tfreg.apply_regularization(tfreg.l2_regularizer(2.0), weights_list)
    kernels = [layers[0].kernel.numpy(), layers[1].embeddings.numpy()]
    want = sum(np.sum(np.square(kernel, dtype=np.float64)) for kernel in kernels)
    assert penalty.numpy() == pytest.approx(want, rel=1e-6)  # float32 sums


def test_apply_regularization_falls_back_to_what_was_added_to_weights():
    tfreg.add_to_collection(tfreg.GraphKeys.WEIGHTS, tf.Variable([3.0]))
    assert tfreg.apply_regularization(tfreg.l2_regularizer(2.0)).numpy() == 9.0


@pytest.mark.parametrize("weights_list", [None, []], ids=repr)
def test_apply_regularization_without_weights_is_refused(weights_list):
    message = (
        "No weights to regularize: weights_list must not be empty where the collection "
        f"'weights' is, got {weights_list!r}: pass variables"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tfreg.apply_regularization(tfreg.l2_regularizer(0.1), weights_list)


def test_an_applied_penalty_follows_its_variables():
    weights = tf.Variable([1.0, 2.0])
    tfreg.apply_regularization(tfreg.l2_regularizer(0.5), [weights])
    step = tf.function(lambda: total_gradient(weights))
    for values in ([1.0, 2.0], [0.0, -4.0]):
        weights.assign(values)
        for total, gradient in (total_gradient(weights), step()):
            assert total.numpy() == np.square(values).sum() / 4
            np.testing.assert_array_equal(gradient, np.divide(values, 2))
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_function_an_applied_penalty_belongs_to_the_step(jit_compile):
    weights, scale = tf.Variable([1.0, 2.0]), tf.Variable(0.5)
    regularizer = tfreg.l2_regularizer(scale)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            masked = weights * [1.0, 0.0]  # A tensor may be penalized too.
            penalty = tfreg.apply_regularization(regularizer, [weights, masked])
            total = tfreg.losses.total_loss(tf.zeros([2]))
        return penalty, total, tape.gradient(total, weights)

    for value in (0.5, 2.0):
        scale.assign(value)
        penalty, total, gradient = step()
        assert penalty == total == value * 6 / 2
        np.testing.assert_array_equal(gradient, [2 * value, 2 * value])
    assert names_of_terms() == [] and tfreg.losses.get_regularization_losses() == []


def test_an_applied_penalty_counts_in_a_step_without_examples():
    with tfreg.step_scope():
        tfreg.apply_regularization(tfreg.l2_regularizer(0.5), [tf.Variable([2.0])])
        assert tfreg.losses.total_loss(tf.zeros([0])).numpy() == 1.0


def test_in_a_step_scope_an_applied_penalty_ends_with_the_step():
    weights = tf.Variable([1.0, 2.0])
    regularizer = tfreg.l2_regularizer(lambda step: tf.cast(step, tf.float32))
    for number in (1, 2):
        with tfreg.step_scope(step=number), tf.GradientTape() as tape:
            penalty = tfreg.apply_regularization(regularizer, [weights])
            total = tfreg.losses.total_loss(tf.zeros([2]))
        assert penalty.numpy() == total.numpy() == number * 2.5
        gradient = tape.gradient(total, weights)
        np.testing.assert_array_equal(gradient, [number, 2.0 * number])
    assert tfreg.losses.get_regularization_losses() == []


def test_applying_the_same_again_is_refused():
    weights, other = tf.Variable([1.0]), tf.Variable([2.0])
    regularizer = tfreg.l2_regularizer(0.5)
    tfreg.apply_regularization(regularizer, [weights])
    message = "apply_regularization must be called once for a model, got "
    message += "l2_regularizer(0.5) on the same variables again: call it where the"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        tfreg.apply_regularization(regularizer, [weights])
    assert len(names_of_terms()) == 1
    tfreg.apply_regularization(regularizer, [weights, other])
    tfreg.apply_regularization(tfreg.l1_regularizer(0.5), [weights])
    assert tfreg.losses.get_regularization_loss().numpy() == 0.25 + 1.25 + 0.5


def test_an_applied_penalty_goes_with_its_variables():
    regularizer = tfreg.l2_regularizer(0.5)
    for _ in range(2):
        weights = tf.Variable([1.0])
        tfreg.apply_regularization(regularizer, [weights])
        assert len(names_of_terms()) == 1
        del weights
        gc.collect()
        assert names_of_terms() == []


@pytest.mark.parametrize(
    "weights",
    [tf.constant([1.0]), np.ones(1), [1.0], None, keras.KerasTensor([1])],
    ids=lambda weights: type(weights).__name__,
)
def test_outside_a_step_what_is_no_variable_is_refused(weights):
    kind = type(weights).__name__
    message = f"^weights_list must hold variables outside a step, got {kind} "
    with pytest.raises(ValueError, match=message):
        tfreg.apply_regularization(tfreg.l2_regularizer(0.5), [weights])
    assert names_of_terms() == []


@pytest.mark.parametrize(
    "weights",
    [
        tf.Variable([0.0]),  # falsy, yet not "no weights"
        tf.Variable(1.0),
        tf.Variable([1.0, 2.0]),
        keras.Variable([1.0]),
        tf.constant([1.0]),
        np.zeros([1]),
    ],
    ids=["falsy", "scalar", "vector", "keras", "tensor", "numpy"],
)
def test_one_variable_instead_of_a_list_is_refused(weights):
    tfreg.add_to_collection(tfreg.GraphKeys.WEIGHTS, tf.Variable([3.0]))
    shape = re.escape(str(tuple(weights.shape)))
    message = f"^weights_list must be a list of variables, got one of shape {shape}: "
    with pytest.raises(TypeError, match=f"{message}write \\[weights\\]$"):
        tfreg.apply_regularization(tfreg.l2_regularizer(0.5), weights)


@pytest.mark.parametrize("regularizer", [None, "l2", 0.1], ids=repr)
def test_applying_what_is_not_callable_is_refused(regularizer):
    message = f"^regularizer must be a callable, got {regularizer!r}: write for example"
    with pytest.raises(TypeError, match=message):
        tfreg.apply_regularization(regularizer, [tf.Variable([1.0])])


def test_applying_no_penalty_counts_as_zero():
    weights = [tf.Variable([1.0])]
    for regularizer in (tfreg.l2_regularizer(0.0), lambda w: None):
        assert tfreg.apply_regularization(regularizer, weights).numpy() == 0.0
        with tfreg.step_scope():
            assert tfreg.apply_regularization(regularizer, weights).numpy() == 0.0
    assert tfreg.losses.get_regularization_losses() == []
    some = [tf.Variable([1.0]), tf.Variable([2.0, 3.0])]
    of_vectors = tfreg.apply_regularization(
        lambda w: None if w.shape == (1,) else tf.reduce_sum(w), some
    )
    assert of_vectors.numpy() == 5.0


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "compute, rank",
    [(lambda w: w, 2), (lambda w: w[0], 1), (lambda w: tf.reduce_sum(w)[None], 1)],
    ids=["weights", "row", "one number"],
)
def test_a_penalty_that_is_not_a_scalar_is_refused_with_its_rank(compute, rank, inside):
    def penalize(weights):
        return compute(weights)

    weights = tf.Variable([[1.0, 2.0]])

    def apply():
        return tfreg.apply_regularization(penalize, [weights])

    message = "^the penalty of apply_regularization must be a scalar, got rank "
    message += f"{rank} from <function .*penalize.*>: return a sum$"
    with pytest.raises(ValueError, match=message):
        tf.function(apply, autograph=False)() if inside else apply()
    assert names_of_terms() == []
    layer = tfreg.layers.Dense(2, kernel_regularizer=penalize, name="fc")
    layer(tf.ones([1, 3]))
    message = "^the penalty of fc/kernel/Regularizer/penalize must be a scalar, got"
    with pytest.raises(ValueError, match=f"{message} rank {rank} from"):
        tfreg.losses.get_regularization_losses()


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_the_variables_of_a_keras_model_are_penalized(jit_compile, rng):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))]
    tfreg.apply_regularization(tfreg.l2_regularizer(0.5), model.trainable_variables)

    def compute():
        return total_gradient([v.value for v in model.trainable_variables])

    step = compute
    if jit_compile is not None:
        step = tf.function(compute, jit_compile=jit_compile)
        step()
    model.set_weights(weights)
    total, gradients = step()
    want = sum(np.sum(np.square(w, dtype=np.float64)) for w in weights) / 4
    assert total.numpy() == pytest.approx(want, rel=1e-6)  # float32 sums
    for gradient, w in zip(gradients, weights, strict=True):
        np.testing.assert_array_equal(gradient, w / 2)


def test_penalties_of_different_dtypes_add_up_in_the_widest():
    dtypes = (tf.float16, tf.float32, tf.float64)
    weights = [tf.Variable([2.0], dtype=dtype) for dtype in dtypes]
    penalty = tfreg.apply_regularization(tfreg.l2_regularizer(0.5), weights)
    assert penalty.dtype == tf.float64 and penalty.numpy() == 3.0
    total, gradients = total_gradient(weights)
    assert total.dtype == tf.float32 and total.numpy() == 3.0
    for gradient, dtype in zip(gradients, dtypes, strict=True):
        assert gradient.dtype == dtype and gradient.numpy() == [1.0]


def test_penalties_of_many_float16_weights_are_summed_in_float32():
    values = [np.full([1024], 2, np.float16)] + 64 * [np.ones([1], np.float16)]
    weights = [tf.Variable(value) for value in values]
    penalty = tfreg.apply_regularization(tfreg.l2_regularizer(1.0), weights)
    # In float16 2048 + 0.5 is 2048, 64 times.
    assert penalty.dtype == tf.float16 and penalty.numpy() == 2048 + 32


@pytest.mark.parametrize("inside", [False, True])
def test_mirrored_variables_are_penalized_once_on_two_replicas(inside):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        weights, scale = tf.Variable([1.0, -2.0]), tf.Variable(0.5)
    regularizer = tfreg.l2_regularizer(scale)
    if not inside:
        tfreg.apply_regularization(regularizer, [weights])

    def compute():
        if not inside:
            return total_gradient(weights)
        with tf.GradientTape() as tape:
            tfreg.apply_regularization(regularizer, [weights])
            total = tfreg.losses.total_loss(tf.zeros([2]))
        return total, tape.gradient(total, weights)

    @tf.function
    def step():
        total, gradient = strategy.run(compute)
        add_up = functools.partial(strategy.reduce, "SUM", axis=None)
        return add_up(total), add_up(gradient)

    for value in (0.5, 2.0):
        scale.assign(value)
        total, gradient = step()
        assert total.numpy() == 2.5 * value
        np.testing.assert_array_equal(gradient, [value, -2 * value])
    assert step.experimental_get_tracing_count() == 1


# Complex weights, and Keras's serialization


@pytest.mark.parametrize("how", ["eager", "function", "xla"])
def test_complex_weights_are_penalized_by_their_magnitudes(how, rng):
    real, imaginary = rng.normal(size=(2, 4, 3))
    z = tf.Variable(real + 1j * imaginary)
    x = np.array([real, imaginary])

    def measure(regularizer):
        with tf.GradientTape() as tape:
            penalty = regularizer(z)
        return penalty, tape.gradient(penalty, z)

    function = measure
    if how != "eager":
        function = tf.function(measure, jit_compile=how == "xla")
    magnitude = np.hypot(real, imaginary)
    # float64 sums of 12 in another order
    penalty, slope = function(tfreg.l2_regularizer(0.3))
    np.testing.assert_allclose(penalty, 0.3 * np.sum(x**2) / 2, rtol=1e-13)
    np.testing.assert_allclose(slope, 0.3 * z.numpy(), rtol=1e-13)
    penalty, slope = function(tfreg.l1_regularizer(0.3))
    np.testing.assert_allclose(penalty, 0.3 * np.sum(magnitude), rtol=1e-13)
    np.testing.assert_allclose(slope, 0.3 * z.numpy() / magnitude, rtol=1e-13)


REGULARIZERS = {
    "l1": lambda: tfreg.l1_regularizer(0.1),
    "l2": lambda: tfreg.l2_regularizer(0.25),
    "l1_l2": lambda: tfreg.l1_l2_regularizer(0.1, 0.2),
    "sum": lambda: tfreg.sum_regularizer([tfreg.l1_regularizer(0.5)]),
}


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("how", ["clone", "save", "config"])
def test_keras_clones_and_saves_models_with_our_regularizers(name, how, tmp_path):
    regularizer = REGULARIZERS[name]()
    dense = keras.layers.Dense(2, kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((3,)), dense])
    if how == "clone":
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    elif how == "save":
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras")
    else:
        copy = keras.Sequential.from_config(model.get_config())
        copy.set_weights(model.get_weights())
    weights = tf.constant(model.get_weights()[0])
    np.testing.assert_array_equal(copy.losses[0], regularizer(weights))
    assert repr(copy.layers[0].kernel_regularizer) == repr(regularizer)


@pytest.mark.parametrize(
    "regularizer",
    [
        tfreg.l2_regularizer(tf.Variable(0.1, name="rate")),
        tfreg.l1_regularizer(lambda step: 0.1),
        tfreg.sum_regularizer([tf.nn.l2_loss]),
    ],
    ids=["variable", "function", "foreign"],
)
def test_what_cannot_be_saved_says_so(regularizer):
    dense = keras.layers.Dense(2, kernel_regularizer=regularizer)
    with pytest.raises(ValueError, match="must be .* to be saved, got"):
        dense.get_config()
