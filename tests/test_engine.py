"""The numbers of a training loop: those of a hand-written one, for any model."""

import keras
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

import tfreg
from tfreg import data, layers, tf1

L2 = keras.regularizers.L2
EPOCHS, BATCH = 4, 7
# Keras rounds its numbers to float32, also in float64: these are exact in both.
RATE = 2.0**-5
BETAS = 0.875, 1 - 2.0**-10, 2.0**-23  # And epsilon.


def square(y, outputs):
    return tf.reduce_sum((y - outputs) ** 2, -1)


class Plain(tf.Module):
    """A tf.Module with weights that a first layer and a second share."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(1)
        dtype = keras.config.floatx()
        self.inner = tf.Variable(random.normal(size=(5, 5)).astype(dtype))
        self.outer = tf.Variable(random.normal(size=(5, 3)).astype(dtype))

    def __call__(self, x):
        return tf.tanh(tf.tanh(x @ self.inner) @ self.inner) @ self.outer


class Switched(Plain):
    def __call__(self, x, training):
        return super().__call__(x) * (1.0 if training else 0.5)


class Mixed(tf.Module):
    """Keras layers in a list and a dict, beside a layer of tfreg."""

    def __init__(self):
        super().__init__()
        self.ours = layers.Dense(
            4, tf.tanh, kernel_regularizer=tfreg.l2_regularizer(0.2)
        )
        self.listed = [keras.layers.BatchNormalization()]
        self.named = {"out": keras.layers.Dense(3, kernel_regularizer=L2(0.125))}

    def __call__(self, x, training=False):
        return self.named["out"](self.listed[0](self.ours(x), training=training))


class Subclassed(keras.Model):
    """All kinds of penalties of Keras, and a weight that is used twice."""

    def __init__(self):
        super().__init__()
        self.first = [keras.layers.Dense(5, "tanh", activity_regularizer=L2(0.2))]
        self.named = {"out": keras.layers.Dense(3, kernel_regularizer=L2(0.125))}

    def call(self, x):
        hidden = self.first[0](self.first[0](x))
        self.add_loss(0.3 * keras.ops.mean(hidden**2))
        return self.named["out"](hidden)


def make_functional():
    """Returns a model with a shared layer, BatchNorm and a constraint."""
    dense = keras.layers.Dense(
        5,
        "tanh",
        kernel_regularizer=L2(0.125),
        bias_regularizer=L2(0.25),
        kernel_constraint=keras.constraints.MaxNorm(0.7),
    )
    norm = keras.layers.BatchNormalization(beta_regularizer=L2(0.25))
    inputs = keras.Input((5,))
    return keras.Model(inputs, keras.layers.Dense(3)(norm(dense(norm(dense(inputs))))))


def make_frozen():
    model = make_functional()
    model.layers[1].trainable = False
    return model


def make_tfreg():
    return layers.Sequential(
        [
            layers.Dense(4, tf.tanh, kernel_regularizer=tfreg.l2_regularizer(0.2)),
            layers.Dense(3, bias_regularizer=tfreg.l2_regularizer(0.4)),
        ]
    )


def forward_tf1(x):
    kernel = tf1.get_variable(
        "kernel", [5, 3], x.dtype, regularizer=tfreg.l2_regularizer(0.2)
    )
    return tf.tanh(x @ kernel)


MODELS = {
    "tfreg": make_tfreg,
    "plain": Plain,
    "switched": Switched,
    "sonnet": lambda: snt.Sequential([snt.Linear(4), tf.tanh, snt.Linear(3)]),
    "tf1": lambda: tf1.Model(forward_tf1, seed=0),
    "mixed": Mixed,
    "in tfreg": lambda: layers.Sequential(
        [layers.Dense(4, tf.tanh), keras.layers.Dense(3, kernel_regularizer=L2(0.125))]
    ),
    "sequential": lambda: keras.Sequential(
        [keras.layers.LayerNormalization(), keras.layers.Dense(3, "tanh")]
    ),
    "functional": make_functional,
    "frozen": make_frozen,
    "nested": lambda: keras.Sequential([make_functional(), keras.layers.Dense(3)]),
    "subclassed": Subclassed,
}
IN_FLOAT32 = ("sonnet",)


def half_squares(*variables):
    return tf.add_n(
        [tf.reduce_sum(tf.convert_to_tensor(v) ** 2) / 2 for v in variables]
    )


def call_with_penalties(kind, model, x):
    """Returns the outputs, and the penalties in closed form or as Keras has them."""
    if isinstance(model, keras.Model):
        outputs = model(x, training=True)
        return outputs, tf.add_n([tf.zeros([], x.dtype), *model.losses])
    options = {"training": True} if kind in ("switched", "mixed", "in tfreg") else {}
    outputs, penalty = model(x, **options), tf.zeros([], x.dtype)
    if kind == "tfreg":
        first, second = model.layers
        penalty = 0.2 * half_squares(first.kernel) + 0.4 * half_squares(second.bias)
    elif kind == "tf1":
        penalty = 0.2 * half_squares(*model.trainable_variables)
    elif kind == "mixed":
        penalty = 0.2 * half_squares(model.ours.kernel)
        penalty += 0.25 * half_squares(model.named["out"].kernel)
    elif kind == "in tfreg":
        penalty = 0.25 * half_squares(model.layers[1].kernel)
    return outputs, penalty


def copy_values(source, model):
    for value, variable in zip(
        source, tfreg.models.adapt(model).variables, strict=True
    ):
        variable.assign(value)


def get_values(model):
    return [v.numpy() for v in tfreg.models.adapt(model).variables]


def train_by_hand(kind, model, optimizer, split, epochs=EPOCHS, batch=BATCH):
    """Trains as Keras's own loop; returns the last step's loss and penalties."""
    variables = tfreg.models.adapt(model).trainable_variables
    update = optimizer.apply if hasattr(optimizer, "apply") else optimizer
    constraints = tfreg.models.adapt(model).constraints

    @tf.function(reduce_retracing=True)
    def step(x, y):
        with tf.GradientTape() as tape:
            outputs, penalty = call_with_penalties(kind, model, x)
            loss = tf.reduce_mean(square(y, outputs))
            total = loss + penalty
        update(tape.gradient(total, variables), variables)
        for variable, constraint in constraints:
            variable.assign(constraint(variable))
        return loss, penalty

    optimizer.build(variables)
    for epoch in range(epochs):
        order = data.permute(len(split), 0, epoch)
        for start in range(0, len(split), batch):
            rows = order[start : start + batch]
            done = step(tf.constant(split.x[rows]), tf.constant(split.y[rows]))
    return [float(value) for value in done]


@pytest.fixture(params=["float32-graph-sgd", "float64-xla-adam"])
def case(request):
    case = request.param.split("-")
    set_dtype(case[0])
    yield case
    set_dtype("float32")


def set_dtype(dtype):
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def make_split(rng, dtype, size=36):
    return data.Split(
        rng.normal(size=(size, 5)).astype(dtype),
        rng.normal(size=(size, 3)).astype(dtype),
    )


OPTIMIZERS = {
    "adam": (
        lambda: tfreg.optimizers.adam(RATE, *BETAS),
        lambda: keras.optimizers.Adam(RATE, *BETAS),
    ),
    "sgd": (lambda: tfreg.optimizers.sgd(RATE), lambda: keras.optimizers.SGD(RATE)),
}


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_loop_is_a_hand_written_one(kind, case, rng):
    dtype, mode, optimizer = case
    if dtype == "float64" and kind in IN_FLOAT32:
        pytest.skip("its layers have float32 variables only")
    split = make_split(rng, dtype)  # The last batch of an epoch is one example.
    ours, theirs = OPTIMIZERS[optimizer]
    model, twin = MODELS[kind](), MODELS[kind]()
    step = tfreg.Step(model, square, ours(), precision=dtype)
    loop = tfreg.Loop(step, split, BATCH, compile=mode, steps_per_call=3)
    call_with_penalties(kind, twin, tf.constant(split.x[:2]))
    copy_values(get_values(model), twin)
    before = get_values(model)
    want = train_by_hand(kind, twin, theirs(), split)
    for epoch in range(EPOCHS):
        report = loop.train(epoch)
    # Float32 steps differ by the order of sums.
    rtol = 1e-10 if dtype == "float64" else 2e-5
    for got, value in zip(get_values(model), get_values(twin), strict=True):
        np.testing.assert_allclose(got, value, rtol, rtol / 10)
    np.testing.assert_allclose(report.regularization, want[1], max(rtol, 1e-6))
    assert any(
        np.abs(a - b).max() > 0.01
        for a, b in zip(before, get_values(model), strict=True)
    )
