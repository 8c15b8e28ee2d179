"""Layers against Keras's with the same weights; names, penalties, wrong arguments."""

import copy
import gc
import pickle
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_slim

import tfreg
from tfreg import layers
from tfreg.collections import store
from tfreg.layers import base, normalization

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}
# Of the largest value: some ten roundings of weights, inputs and outputs, and in the
# gradients sums over up to 200 products.
ROUNDING = {tf.float32: 1e-5, tf.float16: 2**-7, tf.bfloat16: 2**-4}


def conv(strides, padding):
    return (
        lambda: layers.Conv2D(5, 3, strides, padding, activation=tf.tanh),
        lambda: keras.layers.Conv2D(
            5, 3, strides, padding.lower(), activation="tanh", dtype="float64"
        ),
        (2, 7, 8, 3),
        "kernel bias",
    )


def separable(strides, padding):
    return (
        lambda: layers.SeparableConv2D(5, 3, strides, padding, activation=tf.tanh),
        lambda: keras.layers.SeparableConv2D(
            5, 3, strides, padding.lower(), activation="tanh", dtype="float64"
        ),
        (2, 7, 8, 3),
        "depthwise_kernel pointwise_kernel bias",
    )


NORM = "gamma beta moving_mean moving_variance"
# What is made, Keras's in float64, the inputs' shape, the variables in Keras's order.
CASES = {
    "dense": (
        lambda: layers.Dense(3, tf.tanh),
        lambda: keras.layers.Dense(3, "tanh", dtype="float64"),
        (4, 6),
        "kernel bias",
    ),
    "dense_rank_3": (
        lambda: layers.Dense(3),
        lambda: keras.layers.Dense(3, dtype="float64"),
        (2, 5, 6),
        "kernel bias",
    ),
    "dense_without_bias": (
        lambda: layers.Dense(3, use_bias=False),
        lambda: keras.layers.Dense(3, use_bias=False, dtype="float64"),
        (4, 6),
        "kernel",
    ),
    **{
        f"{make.__name__}_{strides}_{padding}": make(strides, padding)
        for make in (conv, separable)
        for strides in (1, 2)
        for padding in ("SAME", "VALID")
    },
    "batch_norm": (
        lambda: normalization.BatchNorm(),
        lambda: keras.layers.BatchNormalization(dtype="float64"),
        (6, 5),
        NORM,
    ),
    "batch_norm_rank_4": (
        lambda: normalization.BatchNorm(0.9, 1e-2),
        lambda: keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-2, dtype="float64"
        ),
        (3, 4, 5, 2),
        NORM,
    ),
    "flatten": (
        lambda: layers.Flatten(),
        lambda: keras.layers.Flatten(dtype="float64"),
        (2, 3, 4, 2),
        "",
    ),
}
# The half dtypes on one case of each layer: they differ in casts alone.
COMBINATIONS = [
    (case, dtype, training)
    for case in CASES
    for dtype in ROUNDING
    for training in (False, True)
    if (dtype == tf.float32 or case.count("_") < 2 or case.endswith("2_VALID"))
    and (training == case.startswith("batch_norm") or not training)
]


def set_weights(layer, names, theirs, rng):
    """Gives both layers the same weights, numbers that bfloat16 holds."""
    weights = []
    for name, weight in zip(names.split(), theirs.weights, strict=True):
        value = rng.normal(size=weight.shape) / 2
        # A variance is above 0.
        value = abs(value) + 0.5 if name == "moving_variance" else value
        value = tf.cast(tf.cast(value, tf.bfloat16), tf.float64)
        getattr(layer, name).assign(tf.cast(value, tf.float32))
        weights.append(value)
    theirs.set_weights(weights)


def compute(call, x, variables, g, wide):
    """Returns outputs, and the gradients of `sum(g * outputs)` by x and variables."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x)
        total = tf.reduce_sum(tf.cast(y, wide) * tf.cast(g, wide))
    return y, tape.gradient(total, [x, *variables])


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize(
    "case, dtype, training",
    COMBINATIONS,
    ids=[f"{case}-{dtype.name}-{training}" for case, dtype, training in COMBINATIONS],
)
def test_outputs_and_gradients_are_kerass(case, dtype, training, mode, rng):
    make, make_theirs, shape, names = CASES[case]
    ours, theirs = make(), make_theirs()
    x = tf.cast(rng.normal(size=shape), dtype)
    g = tf.cast(rng.normal(size=theirs.compute_output_shape(shape)), dtype)
    theirs.build(shape)

    def call(x, g):
        ours(x)  # Makes the variables, in the trace.
        variables = [getattr(ours, name) for name in names.split()]
        variables = [variable for variable in variables if variable.trainable]
        return compute(
            lambda x: ours(x, training=training), x, variables, g, tf.float32
        )

    function = MODES[mode](call)
    function(x, g)
    set_weights(ours, names, theirs, rng)
    y, gradients = function(x, g)
    assert y.dtype == dtype and gradients[0].dtype == dtype
    assert all(gradient.dtype == tf.float32 for gradient in gradients[1:])
    x, g = tf.cast(x, tf.float64), tf.cast(g, tf.float64)
    keywords = {"training": training} if names == NORM else {}
    truth, truths = compute(
        lambda x: theirs(x, **keywords), x, theirs.trainable_weights, g, tf.float64
    )
    for got, expected in zip([y, *gradients], [truth, *truths], strict=True):
        got, expected = np.asarray(tf.cast(got, tf.float64)), np.asarray(expected)
        assert got.shape == expected.shape
        # Where a batch is normalized, its gradients cancel but for a part in ten.
        tolerance = ROUNDING[dtype] * (10 if training else 1)
        atol = tolerance * max(1e-3, abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("mode", list(MODES))
def test_a_compiled_layer_computes_what_its_first_call_made(mode, rng):
    model = layers.Sequential(
        [
            layers.Conv2D(4, 3),
            normalization.BatchNorm(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    function = MODES[mode](lambda x: model(x, training=False))
    x = tf.cast(rng.normal(size=(2, 6, 6, 2)), tf.float32)
    first = function(x)
    traces = 0 if mode == "eager" else function.experimental_get_tracing_count()
    assert len(model.variables) == 8
    for variable in model.variables:
        assert variable.numpy().dtype == np.float32  # A value, of no graph.
    # Convolutions and products of some hundred numbers, in another order.
    np.testing.assert_allclose(first, model(x), rtol=1e-5, atol=1e-6)
    variable = model.layers[0].kernel
    variable.assign(2 * variable)
    np.testing.assert_allclose(function(x), model(x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(function(x), first)
    if mode != "eager":
        assert function.experimental_get_tracing_count() == traces


@pytest.mark.parametrize("mode", list(MODES))
def test_moving_averages_are_kerass_after_several_steps(mode, rng):
    ours = normalization.BatchNorm(momentum=0.8)
    theirs = keras.layers.BatchNormalization(momentum=0.8, dtype="float64")
    function = MODES[mode](lambda x: ours(x, training=True))
    for step in range(5):
        x = rng.normal(step, 1 + step, size=(8, 3, 4))
        function(tf.cast(x, tf.float32))
        theirs(x, training=True)
    for name in ("moving_mean", "moving_variance"):
        got, truth = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(got, np.asarray(truth), rtol=1e-5)
    # Inference normalizes by them and leaves them.
    before = ours.moving_mean.numpy()
    x = rng.normal(size=(8, 3, 4))
    got = ours(tf.cast(x, tf.float32))
    np.testing.assert_allclose(got, theirs(x, training=False), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours.moving_mean, before)
    assert [v.name.split("/")[-1] for v in ours.trainable_variables] == [
        "beta:0",
        "gamma:0",
    ]


def test_half_precision_moments_are_computed_in_float32():
    # Of 1,000 and more the squares are beyond float16, and its steps are 0.5.
    x = tf.constant([[1000.0], [1001.0], [1002.0], [1003.0]], tf.float16)
    layer = normalization.BatchNorm()
    got = layer(x, training=True)
    truth = (np.arange(4) - 1.5) / np.sqrt(1.25 + 1e-3)
    np.testing.assert_allclose(got.numpy()[:, 0], truth, rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, [0.99 + 0.0125], rtol=1e-5)


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int16"])
def test_embedding_is_kerass(mode, dtype, rng):
    ours, theirs = layers.Embedding(7, 4), keras.layers.Embedding(7, 4)
    theirs.build()
    ids = rng.integers(0, 7, size=(3, 5)).astype(dtype)
    function = MODES[mode](ours)
    function(tf.constant(ids))
    assert abs(ours.embeddings.numpy()).max() <= 0.05  # as Keras's "uniform"
    theirs.set_weights([ours.embeddings.numpy()])
    np.testing.assert_array_equal(function(tf.constant(ids)), theirs(ids))
    g = rng.normal(size=(3, 5, 4)).astype("float32")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ours(ids) * g)
    truth = np.zeros([7, 4])
    np.add.at(truth, ids, g)
    gradient = tf.convert_to_tensor(tape.gradient(total, ours.embeddings))
    np.testing.assert_allclose(gradient, truth, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (0, 3), (2, 3, 0), (2, 3, 4, 5)])
def test_flatten_has_kerass_shape(shape):
    x = np.zeros(shape, np.float32)
    assert layers.Flatten()(x).shape == keras.layers.Flatten()(x).shape
    flatten = tf.function(layers.Flatten())
    spec = tf.TensorSpec([None, *shape[1:]])
    static = flatten.get_concrete_function(spec).structured_outputs.shape
    assert static.as_list() == [None, int(np.prod(shape[1:]))]
    assert flatten(x).shape == (shape[0], int(np.prod(shape[1:])))


def test_flatten_keeps_the_dtype():
    for dtype in (tf.uint8, tf.int32, tf.bfloat16, tf.string):
        x = tf.zeros([2, 3, 4], dtype) if dtype != tf.string else tf.fill([2, 3, 4], "")
        assert layers.Flatten()(x).dtype == dtype


@pytest.mark.parametrize("layer", ["dense", "conv_1_SAME", "separable_2_VALID"])
def test_numpy_arrays_and_an_unknown_batch_are_taken(layer, rng):
    make, _, shape, _ = CASES[layer]
    layer, x = make(), rng.normal(size=shape).astype("float32")
    truth = layer(x)
    np.testing.assert_array_equal(layer(x.tolist()), truth)
    function = tf.function(layer)
    spec = tf.TensorSpec([None, *shape[1:]])
    static = function.get_concrete_function(spec).structured_outputs.shape
    assert static.as_list() == [None, *truth.shape[1:]]
    # Graph and eager kernels may differ in the order of sums.
    np.testing.assert_allclose(function(x), truth, rtol=1e-5, atol=1e-6)


def test_an_empty_batch_has_empty_outputs():
    model = layers.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)])
    assert model(np.zeros([0, 5, 5, 1], np.float32)).shape == (0, 3)


# Dropout


def drop(layer, x, step=0, seed=0):
    with tfreg.step_scope(step=step, seed=seed):
        return layer(x, training=True)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.75, 0.99])
def test_dropout_drops_the_rate_and_keeps_the_mean(rate, dtype):
    num = 200_000
    got = drop(layers.Dropout(rate), tf.ones([num // 100, 100], dtype)).numpy()
    dropped = np.mean(got == 0)
    # Of a binomial five deviations. stateless_dropout's bfloat16 drops 0.008 of 0.001.
    assert abs(dropped - rate) < 5 * np.sqrt(rate * (1 - rate) / num)
    kept = np.unique(got[got != 0].astype(np.float64))
    # What TensorFlow's own keeps, to the bit.
    theirs = tf.nn.experimental.stateless_dropout(tf.ones([num], dtype), rate, [1, 2])
    np.testing.assert_array_equal(kept, np.unique(theirs[theirs != 0].numpy()))
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=2.0**-8)


def test_dropout_drops_each_input_independently():
    got = drop(layers.Dropout(0.3), tf.ones([400, 500])).numpy() == 0
    # Rows and columns as one would have them by chance: 4 deviations of hundreds.
    for axis, num in ((0, 400), (1, 500)):
        error = (got.mean(axis) - 0.3) / np.sqrt(0.21 / num)
        assert abs(error).max() < 4.5 and 0.85 < error.std() < 1.15
    both = np.mean(got[:, 1:] & got[:, :-1])
    assert abs(both - 0.09) < 5 * np.sqrt(0.09 * 0.91 / got.size)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_dropout_drops_the_same_compiled_or_not(dtype, rng):
    layer = layers.Dropout(0.4, name="d")
    x = tf.cast(rng.normal(size=(13, 29)), dtype)
    step = tf.Variable(7, dtype=tf.int64)

    def call(x):
        with tfreg.step_scope(step=step, seed=3):
            return layer(x, training=True)

    functions = {name: wrap(call) for name, wrap in MODES.items()}
    for number in (7, 8):
        step.assign(number)
        got = [function(x).numpy() for function in functions.values()]
        np.testing.assert_array_equal(got[0], got[1])
        np.testing.assert_array_equal(got[0], got[2])
        np.testing.assert_array_equal(drop(layer, x, number, 3), got[0])
    assert functions["xla"].experimental_get_tracing_count() == 1


def test_dropout_repeats_and_differs_between_steps_seeds_layers_and_replicas():
    x = tf.ones([100, 100])

    def mask(name="a", step=5, seed=1):
        layer = layers.Dropout(0.5, name, seed=0)
        return drop(layer, x, step, seed).numpy() != 0

    first = mask()
    np.testing.assert_array_equal(mask(), first)
    others = [mask(name="b"), mask(step=6), mask(step=2**40), mask(seed=2)]
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    layer = layers.Dropout(0.5, "a", seed=0)
    run = tf.function(lambda: strategy.run(lambda: drop(layer, x, step=5, seed=1)))
    results = strategy.experimental_local_results(run())
    replicas = [result.numpy() != 0 for result in results]
    np.testing.assert_array_equal(replicas[0], first)
    for other in [*others, replicas[1]]:
        # Independent halves agree in a half: five deviations.
        assert abs(np.mean(other == first) - 0.5) < 5 * 0.5 / 100
    for one in others:
        for other in others:
            assert one is other or abs(np.mean(one == other) - 0.5) < 0.025


def test_dropout_passes_the_gradient_of_what_it_keeps(rng):
    layer, x = layers.Dropout(0.25), tf.constant(rng.normal(size=(5, 40)))
    # What is dropped is 0, whatever it was.
    x = tf.where(tf.range(40) < 3, tf.constant(np.nan, tf.float64), x)
    with tfreg.step_scope(step=0), tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        total = tf.reduce_sum(y * 3)
    kept = y.numpy() != 0
    assert not np.isnan(y.numpy()[~kept]).any() and (~kept).any()
    truth = np.where(kept, 3 / 0.75, 0)
    np.testing.assert_allclose(tape.gradient(total, x), truth, rtol=1e-12)


def test_dropout_does_nothing_in_inference_or_at_rate_0(rng):
    x = tf.constant(rng.normal(size=(5, 4)))
    np.testing.assert_array_equal(layers.Dropout(0.5)(x), x)
    np.testing.assert_array_equal(layers.Dropout(0.0)(x, training=True), x)
    np.testing.assert_array_equal(drop(layers.Dropout(0), x), x)


def test_dropout_keeps_the_static_shape():
    layer = layers.Dropout(0.5)

    @tf.function
    def call(x):
        with tfreg.step_scope(step=1):
            return layer(x, training=True)

    for shape in ([3, 4], [None, 4], [None, None]):
        outputs = call.get_concrete_function(tf.TensorSpec(shape)).structured_outputs
        assert outputs.shape.as_list() == shape


def test_dropout_without_a_step_says_what_to_write():
    with pytest.raises(
        ValueError,
        match=re.escape(
            "a must know the step in training, got none: put the step into "
            "`with tfreg.step_scope(step=optimizer.step):`"
        ),
    ):
        layers.Dropout(0.5, name="a")(tf.ones([2]), training=True)


# Names


def get_names(model):
    return [variable.name.split(":")[0] for variable in model.variables]


def test_sequential_names_layers_by_kind_and_place():
    def make():
        return layers.Sequential(
            [
                layers.Conv2D(2, 3, seed=0),
                normalization.BatchNorm(),
                tf.nn.relu,
                layers.SeparableConv2D(2, 3, seed=0),
                layers.Conv2D(2, 3, seed=0),
                layers.Dropout(0.5),
                layers.Flatten(),
                layers.Dense(4, name="own", seed=0),
                layers.Dense(3, seed=0),
            ]
        )

    model, again = make(), make()
    names = [m.name for m in model.layers if isinstance(m, base.Layer)]
    assert names == [
        "conv2d_0",
        "batch_norm_0",
        "separable_conv2d_0",
        "conv2d_1",
        "dropout_0",
        "flatten_0",
        "own",
        "dense_1",
    ]
    for m in (model, again):
        m(tf.zeros([1, 6, 6, 1]))
    assert get_names(model) == get_names(again)
    assert model.layers[0].kernel.name == "conv2d_0/kernel:0"
    assert model.layers[1].moving_variance.name == "batch_norm_0/moving_variance:0"
    for one, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_in_nested_sequentials_are_each_layers_own():
    def block():
        return layers.Sequential([layers.Dense(3), layers.Dense(3)])

    shared = layers.Dense(3)
    model = layers.Sequential([block(), shared, block(), layers.Dense(3), shared])
    model(tf.zeros([1, 3]))
    found = [m for m in model.submodules if isinstance(m, base.Layer)]
    assert sorted(layer.name for layer in found) == [f"dense_{i}" for i in range(6)]
    assert len(set(get_names(model))) == 12
    kernels = [layer.kernel.numpy() for layer in found]
    # Nor are two layers equal from the start.
    assert all(a is b or np.mean(a == b) < 0.1 for a in kernels for b in kernels)


def test_names_of_the_place_avoid_those_given():
    found = [layers.Dense(3, name="dense_1"), layers.Dense(3), layers.Dense(3)]
    layers.Sequential(found)
    assert [layer.name for layer in found] == ["dense_1", "dense_2", "dense_3"]


def test_variables_keep_their_names_in_a_later_sequential():
    inner = [layers.Sequential([layers.Dense(3)]) for _ in range(2)]
    for model in inner:
        model(tf.zeros([1, 3]))
    layers.Sequential(inner)(tf.zeros([1, 3]))
    for model in inner:
        assert model.layers[0].name == "dense_0"
        assert model.layers[0].kernel.name == "dense_0/kernel:0"


def test_a_layer_in_two_sequentials_keeps_its_first_name():
    shared = layers.Dense(3)
    first = layers.Sequential([shared, layers.Dense(3)])
    second = layers.Sequential([layers.Dense(3), shared])
    names = [layer.name for model in (first, second) for layer in model.layers]
    assert names == ["dense_0", "dense_1", "dense_1", "dense_0"]


def test_a_name_given_twice_is_refused():
    with pytest.raises(ValueError) as info:
        layers.Sequential([layers.Dense(3, name="a"), layers.Flatten(name="a")])
    assert str(info.value) == (
        "layers must have names of their own, got two called 'a': give one of them "
        "another name"
    )


class Residual(tf.Module):
    """A user's module: layers as attributes, one used twice."""

    def __init__(self, regularizer=None):
        super().__init__()
        self.body = layers.Sequential([layers.Dense(4), layers.Dense(4)])
        self.first = layers.Dense(4, kernel_regularizer=regularizer)
        self.second = layers.Dense(4)

    def __call__(self, x):
        return self.second(self.first(self.first(self.body(x))))


def test_unnamed_layers_have_names_that_no_living_layer_has():
    first, second = Residual(), Residual()
    for model in (first, second):
        model(tf.zeros([1, 4]))
    own = [m.name for model in (first, second) for m in (model.first, model.second)]
    assert len(set(own)) == 4
    placed = [layer.name for layer in first.body.layers]
    assert placed == ["dense_0", "dense_1"] and not set(placed) & set(own)
    given = layers.Dense(3, name="dense_7")
    others = [layers.Dense(3) for _ in range(9)]
    names = [layer.name for layer in (*others, given)]
    assert len({*names, *own}) == 14


def test_names_of_the_dead_are_free_again():
    def make():
        layer = layers.Dense(3)
        return layer.name

    names = {make() for _ in range(3) if gc.collect() >= 0}
    assert names == {"dense"}


def test_stores_name_apart():
    names = []
    for _ in range(2):
        with store.Store().as_default():
            layer = layers.Embedding(3, 2)
        names.append(layer.name)
    assert names == ["embedding", "embedding"]


@pytest.mark.parametrize("name", ["", 5, b"a"])
def test_a_name_that_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match=f"name must be a str that .* got {name!r}: "):
        layers.Flatten(name=name)


# Penalties


def get_terms():
    return {term.name: term for term in tfreg.get_default_store().get_terms()}


def get_penalties():
    return {p.name: float(p.value) for p in tfreg.get_default_store().get_penalties()}


REGULARIZERS = {
    "ours": tfreg.l2_regularizer(0.3),
    "slim": tf_slim.l2_regularizer(0.3),
    "keras": keras.regularizers.L2(0.15),  # has no half
    "function": lambda w: 0.15 * tf.reduce_sum(w**2),
}


@pytest.mark.parametrize("kind", list(REGULARIZERS))
def test_penalties_of_kernel_and_bias_are_kerass_losses(kind, rng):
    regularizer = REGULARIZERS[kind]
    layer = layers.Dense(
        3, kernel_regularizer=regularizer, bias_regularizer=regularizer, name="a"
    )
    theirs = keras.layers.Dense(
        3,
        kernel_regularizer=keras.regularizers.L2(0.15),
        bias_regularizer=keras.regularizers.L2(0.15),
    )
    assert get_terms() == {}  # Made with the variables.
    x = rng.normal(size=(2, 4)).astype("float32")
    layer(x), theirs.build(x.shape)
    layer.bias.assign([1.0, 2.0, 3.0])
    theirs.set_weights([layer.kernel.numpy(), layer.bias.numpy()])
    assert [name.split("/Regularizer/")[0] for name in get_terms()] == [
        "a/kernel",
        "a/bias",
    ]
    for got, loss in zip(get_penalties().values(), theirs.losses, strict=True):
        np.testing.assert_allclose(got, loss, rtol=1e-6)
    layer.kernel.assign(2 * layer.kernel)  # evaluated now, not when it was built
    got = next(iter(get_penalties().values()))
    np.testing.assert_allclose(got, 4 * theirs.losses[0], rtol=1e-6)


def test_terms_are_named_as_contribs():
    regularizer = tfreg.l2_regularizer(0.1)
    layers.Dense(3, kernel_regularizer=regularizer, name="fc")(tf.zeros([1, 2]))
    assert list(get_terms()) == []  # It died with its layer.
    layer = layers.Dense(3, kernel_regularizer=regularizer, name="fc")
    layer(tf.zeros([1, 2]))
    assert list(get_terms()) == ["fc/kernel/Regularizer/l2_regularizer"]


@pytest.mark.parametrize("mode", list(MODES))
def test_a_shared_layer_is_counted_once(mode, rng):
    model = Residual(tfreg.l2_regularizer(0.3))
    function = MODES[mode](model)
    x = tf.cast(rng.normal(size=(2, 4)), tf.float32)
    for _ in range(3):
        function(x)
    function(tf.concat([x, x], 0))  # Another trace adds none either.
    assert len(get_terms()) == 1
    truth = 0.15 * np.sum(model.first.kernel.numpy().astype(np.float64) ** 2)
    np.testing.assert_allclose(list(get_penalties().values()), [truth], rtol=1e-6)


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_the_activity_penalty_does_not_grow_with_the_batch(mode, dtype, rng):
    layer = layers.Dense(3, activity_regularizer=tfreg.l1_regularizer(0.1), name="a")

    def call(x):
        with tfreg.step_scope():
            layer(x)
            (penalty,) = tfreg.get_collection(
                tfreg.GraphKeys.REGULARIZATION_LOSSES, scope="a/activity"
            )
            return penalty

    x = tf.cast(rng.normal(size=(4, 6)), dtype)
    function = MODES[mode](call)
    got = function(x)
    outputs = tf.cast(layer(x), tf.float64).numpy()
    truth = 0.1 * np.abs(outputs).sum() / 4
    # A product in a half dtype may round otherwise in a compiled graph.
    rtol = {tf.float32: 1e-5, tf.bfloat16: 2**-6, tf.float16: 2**-9}[dtype]
    np.testing.assert_allclose(got, truth, rtol=rtol)
    assert got.dtype == tf.float32
    twice = function(tf.concat([x, x], 0))
    np.testing.assert_allclose(twice, got, rtol=1e-5)
    assert float(function(x[:0])) == 0.0  # not 0 / 0


def test_the_activity_penalty_of_a_picture_is_divided_by_the_batch_alone(rng):
    layer = layers.Conv2D(2, 3, activity_regularizer=tfreg.l2_regularizer(0.1))
    x = rng.normal(size=(4, 5, 5, 1)).astype("float32")
    with tfreg.step_scope():
        y = layer(x)
        (got,) = tfreg.losses.get_regularization_losses()
    truth = 0.05 * np.sum(y.numpy().astype(np.float64) ** 2) / 4
    np.testing.assert_allclose(got, truth, rtol=1e-5)


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.5), None])
def test_an_activity_regularizer_may_return_a_number_or_none(value):
    layer = layers.Dense(3, activity_regularizer=lambda y: value)
    with tfreg.step_scope():
        layer(tf.ones([2, 4]))
        got = [float(loss) for loss in tfreg.losses.get_regularization_losses()]
    assert got == ([] if value is None else [value / 2])


def test_an_activity_penalty_has_a_gradient(rng):
    layer = layers.Dense(3, activity_regularizer=tfreg.l2_regularizer(1.0))
    x = rng.normal(size=(4, 6)).astype("float32")
    with tfreg.step_scope(), tf.GradientTape() as tape:
        y = layer(x)
        total = tfreg.losses.total_loss(tf.zeros([4]))
    truth = x.T @ y.numpy() / 4
    np.testing.assert_allclose(tape.gradient(total, layer.kernel), truth, rtol=1e-5)


@pytest.mark.parametrize("built", [False, True])
def test_regularize_penalizes_before_and_after_the_build(built, rng):
    layer, x = layers.Dense(3, name="a"), tf.ones([1, 2])
    if built:
        layer(x)
    layer.regularize("kernel", tfreg.l2_regularizer(0.2))
    layer.regularize("kernel", tfreg.l1_regularizer(0.1))
    layer.regularize("bias", tfreg.l1_regularizer(0.1))
    layer(x), layer(x)
    assert set(get_terms()) == {
        "a/kernel/Regularizer/l2_regularizer",
        "a/kernel/Regularizer/l1_regularizer",
        "a/bias/Regularizer/l1_regularizer",
    }
    assert repr(layer.kernel_regularizer) == "l2_regularizer(0.2)"
    assert len(layer.get_regularizers("kernel")) == 2
    assert layer.activity_regularizer is None


def test_regularize_refuses_what_the_layer_has_not():
    regularizer = tfreg.l2_regularizer(0.1)
    cases = {
        "bias": (layers.Dense(2, use_bias=False), ["kernel", "activity"]),
        "beta": (layers.Dense(2), ["kernel", "bias", "activity"]),
        "kernel": (normalization.BatchNorm(), ["gamma", "beta"]),
        "activity": (layers.Flatten(), []),
    }
    for target, (layer, targets) in cases.items():
        with pytest.raises(ValueError) as info:
            layer.regularize(target, regularizer)
        assert str(info.value) == (
            f"target must be one of {targets} for a {type(layer).__name__}, got "
            f"{target!r}: regularize another layer"
        )
        assert layer._label is None  # An error names no layer.
    with pytest.raises(ValueError, match="target must be one of .*, got 'bias'"):
        layers.Conv2D(2, 3, use_bias=False, bias_regularizer=regularizer)


@pytest.mark.parametrize("bad", [0.1, "l3", keras.regularizers.L2])
@pytest.mark.parametrize("target", ["kernel", "bias", "activity"])
def test_what_is_no_regularizer_is_refused_when_the_layer_is_made(target, bad):
    with pytest.raises(TypeError) as info:
        layers.Dense(2, **{f"{target}_regularizer": bad})
    assert str(info.value) == (
        f"{target}_regularizer must be a callable, got {bad!r}: write for example "
        "tfreg.l2_regularizer(1e-4)"
    )


@pytest.mark.parametrize(
    "make, name, call",
    [
        (lambda: layers.Dense(2), "kernel_regularizer", "layer.regularize('kernel', "),
        (lambda: layers.Dense(2), "bias_regularizer", "layer.regularize('bias', "),
        (normalization.BatchNorm, "gamma_regularizer", "layer.regularize('gamma', "),
        # Keras's names.
        (
            lambda: layers.Embedding(3, 2),
            "embeddings_regularizer",
            "layer.regularize(one of ['kernel', 'activity'], ",
        ),
        (
            lambda: layers.SeparableConv2D(2, 3),
            "depthwise_regularizer",
            "layer.regularize(one of ['kernel', 'bias', 'activity'], ",
        ),
        (lambda: layers.Sequential([]), "kernel_regularizer", "tfreg.rules.apply("),
        (lambda: tfreg.models.MLP([2]), "kernel_regularizer", "tfreg.rules.apply("),
    ],
)
def test_a_regularizer_set_later_is_refused(make, name, call):
    layer = make()
    with pytest.raises(AttributeError) as info:
        setattr(layer, name, tfreg.l2_regularizer(0.1))
    assert str(info.value).startswith(
        f"{name} must be given when a {type(layer).__name__} is made, got "
        f"l2_regularizer(0.1) set later: call {call}"
    )


def test_a_subclass_that_sets_a_regularizer_first_is_told_the_same():
    class Own(layers.Dense):
        def __init__(self, regularizer):
            self.kernel_regularizer = regularizer
            super().__init__(3)

    with pytest.raises(AttributeError, match="kernel_regularizer must be given when "):
        Own(tfreg.l2_regularizer(0.1))


def test_a_subclass_of_sequential_may_keep_its_regularizer():
    class Net(layers.Sequential):
        def __init__(self, kernel_regularizer):
            self.kernel_regularizer = kernel_regularizer
            super().__init__([layers.Dense(2, kernel_regularizer=kernel_regularizer)])

    net = Net(tfreg.l2_regularizer(0.1))
    net(tf.ones([1, 2]))
    assert len(get_terms()) == 1


@pytest.mark.filterwarnings("ignore:`layer.apply` is deprecated")
def test_separable_conv2d_penalizes_both_kernels_as_slim_does(rng):
    x = rng.normal(size=(1, 5, 5, 3)).astype("float32")
    layer = layers.SeparableConv2D(
        4, 3, kernel_regularizer=tfreg.l2_regularizer(0.3), name="s"
    )
    layer(x)
    assert list(get_terms()) == [
        "s/depthwise_kernel/Regularizer/l2_regularizer",
        "s/pointwise_kernel/Regularizer/l2_regularizer",
    ]
    values = [layer.depthwise_kernel, layer.pointwise_kernel, layer.bias]
    values = [value.numpy() for value in values]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf_slim.separable_conv2d(
            tf.constant(x), 4, 3, weights_regularizer=tf_slim.l2_regularizer(0.3)
        )
        graph = tf.compat.v1.get_default_graph()
        found = graph.get_collection("regularization_losses")
        variables = tf.compat.v1.trainable_variables()
        pairs = zip(variables, values, strict=True)
        session.run([variable.assign(value) for variable, value in pairs])
        truth = session.run(found)
    np.testing.assert_allclose(list(get_penalties().values()), truth, rtol=1e-6)


def test_batch_norm_penalizes_gamma_and_beta(rng):
    layer = normalization.BatchNorm(
        gamma_regularizer=tfreg.l2_regularizer(0.2),
        beta_regularizer=tfreg.l1_regularizer(0.1),
        name="n",
    )
    layer(tf.ones([2, 3]), training=True)
    layer.gamma.assign([1.0, 2.0, 3.0])
    layer.beta.assign([-1.0, 2.0, 0.5])
    got = get_penalties()
    np.testing.assert_allclose(got["n/gamma/Regularizer/l2_regularizer"], 1.4)
    np.testing.assert_allclose(got["n/beta/Regularizer/l1_regularizer"], 0.35)
    assert len(got) == 2
    assert repr(layer.gamma_regularizer) == "l2_regularizer(0.2)"
    assert repr(layer.beta_regularizer) == "l1_regularizer(0.1)"


def test_kernels_and_biases_are_in_tf1s_collections():
    model = Residual()
    model(tf.ones([1, 4]))
    embedding, norm = layers.Embedding(3, 2), normalization.BatchNorm()
    embedding([1]), norm(tf.ones([2, 2]))
    kernels = tfreg.get_collection(tfreg.GraphKeys.WEIGHTS)
    biases = tfreg.get_collection(tfreg.GraphKeys.BIASES)
    assert len(kernels) == 5 and any(k is embedding.embeddings for k in kernels)
    assert len(biases) == 4 and all("/bias" in b.name for b in biases)


def test_a_dropped_model_takes_its_terms_and_weights_along():
    model = Residual(tfreg.l2_regularizer(0.1))
    model(tf.ones([1, 4]))
    assert len(get_terms()) == 1
    del model
    gc.collect()
    assert get_terms() == {} and tfreg.get_collection(tfreg.GraphKeys.WEIGHTS) == []


def test_replicas_make_variables_and_terms_once():
    regularizer = tfreg.l2_regularizer(0.1)
    layer = layers.Dense(3, kernel_regularizer=regularizer, seed=0, name="a")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        tf.function(lambda: strategy.run(lambda: layer(tf.ones([2, 4]))))()
    assert len(layer.variables) == 2 and len(get_terms()) == 1
    alone = layers.Dense(3, seed=0, name="a")
    alone(tf.ones([2, 4]))
    for replica in strategy.experimental_local_results(layer.kernel):
        np.testing.assert_array_equal(replica, alone.kernel)


# Copies and checkpoints


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("built", [False, True])
def test_copies_are_refused(copier, built):
    layer = layers.Dense(2)
    if built:
        layer(tf.ones([1, 2]))
    with pytest.raises(
        TypeError, match="a layer must not be copied or pickled, got a Dense: its "
    ):
        copier(layer)


def test_a_model_is_not_deep_copied_either():
    with pytest.raises(TypeError, match="a layer must not be copied or pickled, got a"):
        copy.deepcopy(tfreg.models.MLP([3, 2]))


def make_all(seed):
    regularizer = tfreg.l2_regularizer(0.1)
    return layers.Sequential(
        [
            layers.Conv2D(3, 3, kernel_regularizer=regularizer, seed=seed),
            normalization.BatchNorm(gamma_regularizer=regularizer),
            layers.SeparableConv2D(3, 3, seed=seed),
            layers.Flatten(),
            layers.Dense(2, activity_regularizer=regularizer, seed=seed),
        ]
    )


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("built", [False, True])
def test_a_checkpoint_restores_a_model_built_or_not(tmp_path, rng, built, mode):
    x = tf.cast(rng.normal(size=(2, 5, 5, 1)), tf.float32)
    saved, model = make_all(0), make_all(1)
    saved(x, training=True)
    for variable in saved.variables:
        variable.assign_add(tf.cast(rng.uniform(size=variable.shape), tf.float32))
    path = tf.train.Checkpoint(model=saved).write(str(tmp_path / "state"))
    names = {name for name, _ in tf.train.list_variables(path)}
    assert "model/layers/0/kernel/.ATTRIBUTES/VARIABLE_VALUE" in names
    assert len(names) == 12  # the variables and the checkpoint's own graph
    if built:
        model(x)
    status = tf.train.Checkpoint(model=model).read(path)
    function = MODES[mode](lambda x: model(x))
    got = function(x)
    status.assert_consumed()
    # Sums of some thirty products in another order.
    np.testing.assert_allclose(got, saved(x), rtol=1e-4, atol=1e-5)
    for one, other in zip(model.variables, saved.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    # Restored once, not at every call.
    model.layers[-1].bias.assign([100.0, 100.0])
    assert np.min(function(x)) > 50


def test_a_saved_model_predicts_the_same(tmp_path, rng):
    model = make_all(0)
    x = tf.cast(rng.normal(size=(2, 5, 5, 1)), tf.float32)
    truth = model(x)
    predict = tf.function(lambda x: {"y": model(x)})
    spec = tf.TensorSpec([None, 5, 5, 1])
    signature = predict.get_concrete_function(spec)
    tf.saved_model.save(model, str(tmp_path), signatures=signature)
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    np.testing.assert_allclose(loaded(x)["y"], truth, rtol=1e-4, atol=1e-5)


# Sequential


def test_sequential_tells_members_that_ask_whether_it_is_training():
    class Block(tf.Module):
        def __call__(self, x, training=False):
            return x * 2 if training else x

    def keyword(x, *, training):
        return x * 3 if training else x

    compiled = tf.function(lambda x, training: x * 5 if training else x)
    model = layers.Sequential(
        [Block(), layers.Sequential([keyword]), compiled, tf.nn.relu, abs]
    )
    assert float(model(tf.ones([]), training=True)) == 30
    assert float(model(tf.ones([]))) == 1


def test_sequential_tells_keras_layers_whether_it_is_training():
    model = layers.Sequential([keras.layers.Dropout(0.5), keras.layers.ReLU()])
    got = model(tf.ones([1000]), training=True).numpy()
    assert set(got) == {0.0, 2.0}
    np.testing.assert_array_equal(model(tf.ones([1000])), tf.ones([1000]))


@pytest.mark.parametrize("member", [5, None, "relu", layers.Dense])
def test_sequential_refuses_what_is_no_layer(member):
    with pytest.raises(TypeError) as info:
        layers.Sequential([tf.nn.relu, member])
    assert str(info.value) == (
        f"layers must be a callable, got {member!r}: write for example [f, g]"
    )


def test_an_empty_sequential_is_the_identity():
    assert float(layers.Sequential([])(tf.constant(2.0))) == 2


# Wrong arguments

SIZES = {
    "units": lambda v: layers.Dense(v),
    "filters": lambda v: layers.Conv2D(v, 3),
    "kernel_size": lambda v: layers.SeparableConv2D(3, v),
    "strides": lambda v: layers.Conv2D(3, 3, v),
    "num_rows": lambda v: layers.Embedding(v, 3),
    "dim": lambda v: layers.Embedding(3, v),
}


@pytest.mark.parametrize("value", [0, -1, True, False, 1.5, 3.0, "3", None, (3, 3)])
@pytest.mark.parametrize("name", list(SIZES))
def test_sizes_that_are_no_positive_int_are_refused(name, value):
    with pytest.raises(ValueError) as info:
        SIZES[name](value)
    assert str(info.value) == (
        f"{name} must be an int >= 1, got {value!r}: write for example 10"
    )


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_sizes_may_be_numpys_ints(kind, rng):
    x = rng.normal(size=(2, 4)).astype("float32")
    assert layers.Dense(kind(3))(x).shape == (2, 3)


@pytest.mark.parametrize("padding", ["same", "valid", "FULL", None, 0])
def test_unknown_padding_is_refused(padding):
    for make in (layers.Conv2D, layers.SeparableConv2D):
        with pytest.raises(ValueError) as info:
            make(3, 3, padding=padding)
        assert str(info.value) == (
            f"padding must be 'SAME' or 'VALID', got {padding!r}: write one of them"
        )


@pytest.mark.parametrize(
    "value", [1.0, 1, -0.1, 2.0, np.nan, np.inf, True, "0.5", None]
)
@pytest.mark.parametrize(
    "name, make",
    [
        ("rate", layers.Dropout),
        ("momentum", lambda v: normalization.BatchNorm(momentum=v)),
        ("epsilon", lambda v: normalization.BatchNorm(epsilon=v)),
    ],
)
def test_shares_outside_0_to_1_are_refused(name, make, value):
    with pytest.raises(ValueError) as info:
        make(value)
    assert str(info.value) == (
        f"{name} must be a float in [0, 1), got {value!r}: write 0.5 for a half"
    )


@pytest.mark.parametrize("value", ["rleu", 5, keras.layers.ReLU])
def test_what_is_no_function_is_refused(value):
    with pytest.raises(TypeError) as info:
        layers.Dense(3, value)
    assert str(info.value) == (
        f"activation must be a callable, got {value!r}: write for example tf.nn.relu"
    )
    with pytest.raises(TypeError) as info:
        layers.Conv2D(3, 3, kernel_initializer=value)
    assert str(info.value) == (
        f"kernel_initializer must be a callable, got {value!r}: write for example "
        "initializers.he_normal"
    )


LAYERS = {
    "dense": lambda: layers.Dense(3, name="a"),
    "conv": lambda: layers.Conv2D(3, 3, name="a"),
    "separable": lambda: layers.SeparableConv2D(3, 3, name="a"),
    "norm": lambda: normalization.BatchNorm(name="a"),
    "dropout": lambda: layers.Dropout(0.5, name="a"),
}


@pytest.mark.parametrize("layer", list(LAYERS))
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_inputs_that_are_not_floating_are_refused(layer, dtype):
    # Cast to them, weights would be 0.
    with pytest.raises(TypeError) as info:
        LAYERS[layer]()(np.ones([2, 4, 4, 1], dtype))
    assert str(info.value) == (
        f"inputs of a must be floating, got {dtype}: "
        "write for example tf.cast(x, tf.float32) / 255.0"
    )


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_an_embedding_takes_integers_alone(dtype):
    with pytest.raises(TypeError) as info:
        layers.Embedding(3, 2, name="a")(np.ones([2], dtype))
    assert str(info.value) == (
        f"inputs of a must be integer, got {dtype}: write for example "
        "tf.cast(x, tf.int32)"
    )


@pytest.mark.parametrize(
    "layer, shape, rank",
    [
        ("dense", (), "2 or more"),
        ("dense", (4,), "2 or more"),
        # TensorFlow's kernel ends the process for these.
        ("conv", (4, 4, 1), "4"),
        ("conv", (1, 4, 4, 4, 1), "4"),
        ("separable", (4, 4, 1), "4"),
        ("norm", (4,), "2 or more"),
    ],
)
def test_inputs_of_another_rank_are_refused_and_make_nothing(layer, shape, rank):
    layer = LAYERS[layer]()
    sentence = (
        f"inputs of a must have rank {rank}, got shape {tf.TensorShape(shape)}: "
        "reshape them, the batch is the first dimension"
    )
    for function in (layer, tf.function(layer)):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            function(tf.ones(shape))
    assert layer.variables == ()


@pytest.mark.parametrize(
    "layer, spec, path, shape",
    [
        ("dense", [None, None], "kernel", "(None, 3)"),
        ("dense", None, "kernel", "(None, 3)"),
        ("dense", [2, 0], "kernel", "(0, 3)"),
        ("conv", [1, 4, 4, None], "kernel", "(3, 3, None, 3)"),
        ("conv", None, "kernel", "(3, 3, None, 3)"),
        ("separable", [1, 4, 4, None], "depthwise_kernel", "(3, 3, None, 1)"),
        ("norm", [2, None], "gamma", "(None,)"),
        ("norm", None, "gamma", "(None,)"),
    ],
)
def test_a_shape_that_is_not_known_is_refused(layer, spec, path, shape):
    layer = LAYERS[layer]()
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"shape of a/{path} must be known and not 0, got {shape}: give the inputs "
            "a static shape but for the batch"
        ),
    ):
        tf.function(layer).get_concrete_function(tf.TensorSpec(spec))
    assert layer.variables == ()


@pytest.mark.parametrize("spec", [None, [], [None, None], [2, 3, None]])
def test_flatten_refuses_dimensions_that_are_not_known(spec):
    flatten = tf.function(layers.Flatten(name="a"))
    with pytest.raises(
        ValueError,
        match=re.escape(
            "inputs of a must have known dimensions after the first, got shape "
            f"{tf.TensorShape(spec)}: give them a static shape but for the batch"
        ),
    ):
        flatten.get_concrete_function(tf.TensorSpec(spec))


@pytest.mark.parametrize(
    "layer, first, second, path, old, new",
    [
        ("dense", (2, 4), (2, 5), "kernel", "(4, 3)", "(5, 3)"),
        # TensorFlow would make a grouped convolution of it, and broadcast the other.
        ("conv", (1, 4, 4, 1), (1, 4, 4, 3), "kernel", "(3, 3, 1, 3)", "(3, 3, 3, 3)"),
        ("norm", (2, 1), (2, 5), "gamma", "(1,)", "(5,)"),
    ],
)
def test_inputs_of_another_size_than_the_first_are_refused(
    layer, first, second, path, old, new
):
    layer = LAYERS[layer]()
    layer(tf.ones(first))
    with pytest.raises(ValueError) as info:
        layer(tf.ones(second))
    assert str(info.value) == (
        f"a/{path} must have the shape {old} of the first call, got inputs for {new}: "
        "make another layer for them"
    )


def test_initial_values_of_another_shape_or_kind_are_refused():
    def wrong(shape, seed):
        return tf.zeros([shape[-1]])

    with pytest.raises(ValueError) as info:
        layers.Dense(3, kernel_initializer=wrong, name="a")(tf.ones([1, 2]))
    assert str(info.value) == (
        "the initializer of a/kernel must return the shape (2, 3), got (3,): make "
        "values of the shape that it is called with"
    )
    layer = layers.Dense(
        3, kernel_initializer=lambda shape, seed: np.ones(shape, np.int32), name="a"
    )
    with pytest.raises(TypeError) as info:
        layer(tf.ones([1, 2]))
    assert str(info.value) == (
        "the initializer of a/kernel must return floating values, got int32: an "
        "optimizer can't change others, so cast them"
    )
    assert layer.variables == ()


# Layers of one's own


class Scale(base.Layer):
    """The layer that the docstring of tfreg.modules shows."""

    parameters = {"gamma": "kernel"}

    def __call__(self, inputs, training=False):
        ones = tfreg.layers.initializers.ones
        gamma = self.get_variable("gamma", [inputs.shape[-1]], ones)
        return self.penalize_activity(inputs * gamma)


def test_a_layer_of_ones_own_is_named_and_penalized():
    regularizer = tfreg.l2_regularizer(2.0)
    layer = Scale(regularizers={"kernel": regularizer, "activity": regularizer})
    with tfreg.step_scope():
        layers.Sequential([layer])(tf.fill([4, 3], 2.0))
        got = get_penalties()
    assert got == {
        "scale_0/gamma/Regularizer/l2_regularizer": 3.0,
        "scale_0/activity/Regularizer/l2_regularizer": 12.0,
    }


def test_kinds_are_classes_in_snake_case():
    kinds = [layer().kind for layer in LAYERS.values()]
    assert kinds == ["dense", "conv2d", "separable_conv2d", "batch_norm", "dropout"]


def test_a_penalized_variable_is_not_exchanged(rng):
    layer = layers.Dense(2, kernel_regularizer=tfreg.l2_regularizer(0.5))
    layer(tf.ones([1, 3]))
    with pytest.raises(AttributeError, match=r"got another .*layer.kernel.assign"):
        layer.kernel = tf.Variable(tf.zeros([3, 2]))
    layer.kernel = layer.kernel
    layer.kernel.assign(tf.ones([3, 2]))
    assert float(tfreg.losses.get_regularization_loss()) == 0.5 * 6 / 2


def test_a_factory_that_was_not_called_is_refused():
    layer = layers.Dense(2, kernel_regularizer=lambda w: tfreg.l2_regularizer)
    layer(tf.ones([1, 3]))
    with pytest.raises(TypeError, match="got a function from .* call it first"):
        tfreg.losses.get_regularization_loss()


def test_a_scale_of_zero_on_activities_asks_for_no_scope():
    layer = layers.Dense(2, activity_regularizer=tfreg.l1_regularizer(0.0))
    layer(tf.ones([1, 3]))
    assert float(tfreg.losses.total_loss(tf.constant([1.0]))) == 1.0


def test_the_regularization_loss_alone_misses_nothing_in_silence():
    layer = layers.Dense(2, activity_regularizer=tfreg.l1_regularizer(0.1))
    with tf.GradientTape():
        layer(tf.ones([1, 3]))
        with pytest.raises(ValueError, match="step_scope"):
            tfreg.losses.get_regularization_loss()
