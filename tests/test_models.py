"""MLP and CNN against the same models in Keras."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import layers, models
from tfreg.layers import base

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}


def keras_mlp(shape, widths, activation):
    hidden = [keras.layers.Dense(w, activation) for w in widths[:-1]]
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            *hidden,
            keras.layers.Dense(widths[-1]),
        ]
    )


def keras_cnn(shape, num_outputs, activation):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Reshape((*shape[:2], -1)),
            keras.layers.Conv2D(6, 5, padding="same", activation=activation),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 5, activation=activation),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(120, activation),
            keras.layers.Dense(84, activation),
            keras.layers.Dense(num_outputs),
        ]
    )


PAIRS = {
    "mlp": (lambda: models.MLP([128, 10]), keras_mlp, (28, 28), ([128, 10], "relu")),
    "deep_mlp": (
        lambda: models.MLP([16, 8, 4, 3], tf.tanh),
        keras_mlp,
        (7,),
        ([16, 8, 4, 3], "tanh"),
    ),
    "linear_mlp": (lambda: models.MLP([3], None), keras_mlp, (4, 2), ([3], None)),
    "cnn": (lambda: models.CNN(10), keras_cnn, (28, 28), (10, "relu")),
    "cnn_channels": (
        lambda: models.CNN(4, tf.tanh),
        keras_cnn,
        (32, 20, 3),
        (4, "tanh"),
    ),
}


def get_pairs(model):
    """Returns kernel, bias, kernel, ... in the order of the layers."""
    found = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    return [variable for layer in found for variable in (layer.kernel, layer.bias)]


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("name", list(PAIRS))
def test_logits_and_parameters_are_those_of_keras(name, mode, rng):
    make, make_theirs, shape, arguments = PAIRS[name]
    ours, theirs = make(), make_theirs(shape, *arguments)
    x = rng.uniform(size=(5, *shape)).astype("float32")
    function = MODES[mode](lambda x: ours(x))
    function(x)
    num_parameters = sum(v.shape.num_elements() for v in ours.trainable_variables)
    assert num_parameters == theirs.count_params()
    assert len(ours.variables) == len(theirs.weights)
    theirs.set_weights([variable.numpy() for variable in get_pairs(ours)])
    # Sums of up to 784 products in another order.
    np.testing.assert_allclose(function(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_default_models_have_the_published_sizes():
    sizes = {"mlp": 784 * 128 + 128 + 1290, "cnn": 61_706}  # LeNet-5's count
    for name, size in sizes.items():
        model = PAIRS[name][0]()
        model(tf.zeros([1, 28, 28]))
        assert sum(v.shape.num_elements() for v in model.variables) == size


def test_a_cnn_takes_pictures_with_and_without_a_channel(rng):
    model = models.CNN(10)
    x = rng.uniform(size=(3, 28, 28)).astype("float32")
    flat = model(x)
    assert flat.shape == (3, 10)
    np.testing.assert_array_equal(model(x[..., np.newaxis]), flat)
    for spec in ([None, 28, 28], [None, 28, 28, 1]):
        function = tf.function(lambda x: model(x))
        static = function.get_concrete_function(tf.TensorSpec(spec))
        assert static.structured_outputs.shape.as_list() == [None, 10]


@pytest.mark.parametrize("make", [lambda: models.MLP([8, 3]), lambda: models.CNN(3)])
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_outputs_have_the_inputs_dtype(make, dtype):
    model = make()
    assert model(tf.ones([2, 16, 16], dtype)).dtype == dtype
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    assert {variable.dtype for variable in model.variables} == {wide}


def test_names_are_stable():
    mlp = models.MLP([4, 4, 2], dropout=0.5)
    cnn, again = (models.CNN(2, dropout=0.5, seed=0) for _ in range(2))
    for model in (mlp, cnn, again):
        model(tf.zeros([1, 16, 16]))
    assert [layer.name for layer in mlp.layers] == [
        "flatten_0",
        "dense_0",
        "dropout_0",
        "dense_1",
        "dropout_1",
        "dense_2",
    ]
    own = [m.name for m in cnn.layers if isinstance(m, base.Layer)]
    assert own == [
        "conv2d_0",
        "conv2d_1",
        "flatten_0",
        "dense_0",
        "dropout_0",
        "dense_1",
        "dropout_1",
        "dense_2",
    ]
    for model in (cnn, again):
        assert sorted(v.name for v in model.variables) == sorted(
            f"{layer}/{part}:0"
            for layer in ("conv2d_0", "conv2d_1", "dense_0", "dense_1", "dense_2")
            for part in ("bias", "kernel")
        )
    for one, other in zip(cnn.variables, again.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "make", [lambda **k: models.MLP([4, 3], **k), lambda **k: models.CNN(3, **k)]
)
def test_the_seed_decides_every_kernel(make):
    found = [make(seed=seed) for seed in (1, 1, 2)]
    for model in found:
        model(tf.zeros([1, 16, 16]))
    for one, same, other in zip(*map(get_pairs, found), strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.shape.rank == 1 or np.mean(one.numpy() == other.numpy()) < 0.1


@pytest.mark.parametrize(
    "make, num_layers",
    [(lambda **k: models.MLP([4, 3], **k), 2), (lambda **k: models.CNN(3, **k), 5)],
)
def test_every_layer_is_penalized(make, num_layers, rng):
    regularizer = tfreg.l2_regularizer(0.1)
    model = make(
        kernel_regularizer=regularizer,
        bias_regularizer=regularizer,
        activity_regularizer=regularizer,
    )
    x = rng.uniform(size=(2, 16, 16)).astype("float32")
    with tfreg.step_scope():
        model(x)
        found = tfreg.get_default_store().get_penalties()
    kinds = [p.name.split("/")[1] for p in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "kernel": num_layers,
        "bias": num_layers,
        "activity": num_layers,
    }
    total = sum(float(p.value) for p in found if "/kernel/" in p.name)
    kernels = [np.sum(v.numpy() ** 2) for v in model.variables if v.shape.rank > 1]
    np.testing.assert_allclose(total, 0.05 * sum(kernels), rtol=1e-5)


@pytest.mark.parametrize("mode", list(MODES))
def test_dropout_is_in_training_alone(mode, rng):
    for make in (models.MLP, models.CNN):
        widths = [50, 3] if make is models.MLP else 3
        plain, model = make(widths, seed=0), make(widths, dropout=0.5, seed=0)
        x = rng.uniform(size=(4, 16, 16)).astype("float32")

        def train(x, model=model):
            with tfreg.step_scope(step=1):
                return model(x, training=True)

        dropped = MODES[mode](train)(x)
        np.testing.assert_allclose(model(x), plain(x), rtol=1e-5, atol=1e-6)
        assert np.mean(np.isclose(dropped, plain(x))) < 0.2
        np.testing.assert_allclose(train(x), dropped, rtol=1e-4, atol=1e-5)


def test_a_step_of_training_learns_under_every_mode(rng):
    x = rng.uniform(size=(16, 12, 12)).astype("float32")
    y = rng.integers(0, 3, size=16)
    losses = []
    for wrap in MODES.values():
        mine = tfreg.Store()
        with mine.as_default():
            regularizer = tfreg.l2_regularizer(1e-3)
            model = models.CNN(3, kernel_regularizer=regularizer, seed=0)

        @wrap
        def step(x, y, model=model):
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                per_example = tfreg.losses.sparse_softmax_cross_entropy(y, logits)
                loss = tfreg.losses.total_loss(per_example)
            variables = model.trainable_variables
            gradients = tape.gradient(loss, variables)
            for variable, gradient in zip(variables, gradients, strict=True):
                variable.assign_sub(0.1 * gradient)
            return loss

        with mine.as_default():
            losses.append([float(step(x, y)) for _ in range(5)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


# Wrong arguments


def test_widths_that_are_none_are_refused():
    for widths in ([], (), np.array([], int)):
        with pytest.raises(ValueError) as info:
            models.MLP(widths)
        sentence = "widths must not be empty, got []: write [128, 10]"
        assert str(info.value) == sentence


@pytest.mark.parametrize("widths", [10, 10.0, "128,10"])
def test_one_width_is_refused(widths):
    with pytest.raises(TypeError) as info:
        models.MLP(widths)
    assert str(info.value) == (
        f"widths must be several ints, got {widths!r}: write for example [10]"
    )


@pytest.mark.parametrize("value", [0, True, 1.5])
def test_sizes_that_are_no_positive_int_are_refused(value):
    makers = {"units": lambda v: models.MLP([3, v]), "num_outputs": models.CNN}
    for name, make in makers.items():
        with pytest.raises(ValueError) as info:
            make(value)
        assert str(info.value) == (
            f"{name} must be an int >= 1, got {value!r}: write for example 10"
        )


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan"), "0.5"])
@pytest.mark.parametrize("widths", [[3], [4, 3]])
def test_a_rate_outside_0_to_1_is_refused(rate, widths):
    for make in (lambda **k: models.MLP(widths, **k), lambda **k: models.CNN(3, **k)):
        with pytest.raises(ValueError) as info:
            make(dropout=rate)
        assert str(info.value) == (
            f"dropout must be a float in [0, 1), got {rate!r}: write 0.5 for a half"
        )


def test_an_activation_by_name_is_that_of_keras(rng):
    x = tf.constant(rng.normal(size=[3, 16, 16, 1]), tf.float32)
    for make in (
        lambda a: models.MLP([4, 3], a, seed=1),
        lambda a: models.CNN(3, a, seed=1),
    ):
        for name in ("relu", "gelu"):
            # Keras's gelu is exact, as TensorFlow's.
            want = make(keras.activations.get(name))(x)
            np.testing.assert_allclose(make(name)(x), want, 1e-5, 1e-6)
        with pytest.raises(
            TypeError, match="activation must be a callable, got 'rleu'"
        ):
            make("rleu")


def test_pictures_as_bytes_are_refused():
    x = np.zeros([2, 16, 16], np.uint8)
    for model in (models.MLP([3]), models.CNN(3)):
        with pytest.raises(
            TypeError, match="must be floating, got uint8: write .* 255"
        ):
            model(x)


@pytest.mark.parametrize(
    "shape", [(1, 11, 12), (1, 12, 11, 1), (5, 144), (1, 2, 12, 12, 1)]
)
def test_inputs_that_are_no_pictures_for_a_cnn_are_refused(shape):
    model = models.CNN(3)
    with pytest.raises(ValueError) as info:
        model(tf.zeros(shape))
    assert str(info.value) == (
        "inputs of a CNN must be [batch, height, width] or [batch, height, width, "
        f"channels], of 12 x 12 pixels or more, got shape {shape}: use an MLP"
    )
    assert model.variables == ()
    assert model(tf.zeros([2, 12, 12])).shape == (2, 3)


def test_the_models_take_the_same_arguments():
    arguments = [
        list(inspect.signature(m).parameters) for m in (models.MLP, models.CNN)
    ]
    assert arguments[0][1:] == arguments[1][1:]


def keras_resnet20(num_outputs):
    """Returns the network of He et al. 2016 with shortcuts without weights."""
    inputs = x = keras.Input((32, 32, 3))

    def convolve(x, filters, strides=1):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(filters, 3, strides, use_bias=False)(x)
        return keras.layers.BatchNormalization(epsilon=1e-5)(x)

    x = keras.layers.ReLU()(convolve(x, 16))
    for filters in (16, 32, 64):
        for i in range(3):
            strides = 2 if filters > 16 and i == 0 else 1
            y = keras.layers.ReLU()(convolve(x, filters, strides))
            y = convolve(y, filters)
            if strides == 2:
                x = keras.layers.AveragePooling2D(1, 2)(x)
                side = filters // 4
                pad = keras.layers.Lambda(
                    lambda v, n=side: tf.pad(v, [[0, 0], [0, 0], [0, 0], [n, n]])
                )
                x = pad(x)
            x = keras.layers.ReLU()(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(num_outputs)(x))


def test_resnet20_is_that_of_its_paper(rng):
    model, reference = models.ResNet20(10, seed=0), keras_resnet20(10)
    x = tf.constant(rng.normal(size=(2, 32, 32, 3)), tf.float32)
    model(x)
    # The count of its authors' 0.27M, as other implementations have it.
    assert sum(v.shape.num_elements() for v in model.trainable_variables) == 269_722
    by_name = {v.name: v for v in model.variables}
    order = {"kernel": 0, "gamma": 0, "beta": 1, "bias": 1}
    order |= {"moving_mean": 2, "moving_variance": 3}

    def place(name):
        *block, layer, part = name.partition(":")[0].split("/")
        kind, _, number = layer.rpartition("_")
        rank = {"conv2d": 0, "batch_norm": 1, "dense": 2}[kind]
        return rank == 2, block, int(number), rank, order[part]

    values = []
    for name in sorted(by_name, key=place):
        by_name[name].assign_add(rng.uniform(0, 0.1, by_name[name].shape))
        values.append(by_name[name].numpy())
    for variable, value in zip(reference.variables, values, strict=True):
        variable.assign(value)
    want = reference(x, training=False)
    np.testing.assert_allclose(model(x), want, rtol=1e-4, atol=1e-4)
