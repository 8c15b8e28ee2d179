"""One record for any model: equal to a hand-written Keras or Sonnet loop."""

import itertools
import re
import sys

import keras
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

import tfreg
from tfreg import layers, losses, models, rules, tf1
from tfreg.collections import ownership, parts, random, totals
from tfreg.models import stateless

# NAME must be ALLOWED, got VALUE: DO THIS.
HOUSE = re.compile(r".+ must .+, got .+: .+", re.DOTALL)
L2 = keras.regularizers.L2
KEY = tf.constant([3, 5], tf.uint32)


class Subclassed(keras.Model):
    """A model whose layers stand in a list and a dict, with a loss of its own."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        self.first = [keras.layers.Dense(4, "tanh", dtype=dtype)]
        self.named = {"out": keras.layers.Dense(3, kernel_regularizer=L2(0.5))}

    def call(self, x):  # Without `training`.
        h = self.first[0](x)
        self.add_loss(0.3 * keras.ops.mean(h**2))
        return self.named["out"](h)


def make_shared(dtype):
    """Returns a functional model: a layer called twice, BatchNorm, all penalties."""
    dense = keras.layers.Dense(
        5, "tanh", kernel_regularizer=L2(0.125), activity_regularizer=L2(0.2)
    )
    norm = keras.layers.BatchNormalization(beta_regularizer=L2(0.25))
    inputs = keras.Input((5,), dtype=dtype)
    hidden = norm(dense(norm(dense(inputs))))
    return keras.Model(inputs, keras.layers.Dense(3, bias_regularizer=L2(0.3))(hidden))


def make_frozen(dtype):
    model = make_shared(dtype)
    model.layers[1].trainable = False
    return model


def make_nested(dtype):
    inner = make_shared(dtype)
    return keras.Sequential([inner, keras.layers.Dropout(0.0), keras.layers.Dense(3)])


KERAS = {
    "shared": make_shared,
    "frozen": make_frozen,
    "nested": make_nested,
    "subclassed": Subclassed,
    "sequential": lambda dtype: keras.Sequential(
        [keras.layers.LayerNormalization(), keras.layers.Dense(3, "tanh", True)]
    ),
    "layer": lambda dtype: keras.layers.Dense(3, kernel_regularizer=L2(0.1)),
}


@pytest.fixture
def x(rng):
    return tf.constant(rng.normal(size=(7, 5)))


@pytest.fixture
def y(rng):
    return tf.constant(rng.normal(size=(7, 3)))


@pytest.fixture
def float64():
    for name in ("float64", "float32"):
        keras.config.set_floatx(name)  # The first versions convert regularizers to it.
        keras.config.set_dtype_policy(name)
        if name == "float64":
            yield


def square(y, outputs):
    return tf.reduce_sum((y - outputs) ** 2, -1)


def take_step(adapted, x, y, key=None, training=True):
    """Returns the total, gradients, new statistics and outputs of one step."""
    with tf.GradientTape() as tape, tfreg.step_scope(), adapted.step(key) as state:
        outputs = adapted(x, training=training)
        owner = ownership.Model(adapted.model, keras=True)
        split = totals.split_total(square(y, outputs), owner)
        total = tf.add_n([split.data, *split.penalties.values()])
    grads = tape.gradient(total, adapted.trainable_variables)
    adapted.check_watched(tape.watched_variables())
    return total, grads, [value for _, value in state.get_updates()], outputs


def divide_activity(model, num_examples):
    """Makes a Keras that doesn't divide an activity penalty by the batch do so."""
    for part in parts.list_parts(model):
        old = getattr(part, "activity_regularizer", None)
        if parts.is_keras(part) and old and not stateless.divides_activity():
            part.activity_regularizer = L2(float(old.l2) / num_examples)


def close(got, want, rtol):
    pairs = zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True)
    for g, w in pairs:
        np.testing.assert_allclose(g, w, rtol, 1e-2 * rtol)


@pytest.mark.parametrize("kind", list(KERAS))
def test_a_step_is_that_of_a_keras_loop(kind, x, y, float64):
    model = KERAS[kind]("float64")
    adapted = models.adapt(model)
    adapted.build(x)
    values = [v.numpy() for v in model.variables]
    traced = tf.function(take_step)
    compiled = tf.function(take_step, jit_compile=True)
    got = [step(adapted, x, y) for step in (take_step, traced, compiled)]
    assert [v.numpy().tolist() for v in model.variables] == [v.tolist() for v in values]
    divide_activity(model, 7)
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        total = tf.reduce_mean(square(y, outputs)) + sum(model.losses)
    trained = [v.value for v in model.trainable_variables]
    want = total, tape.gradient(total, trained), outputs
    assert all(
        a is b for a, b in zip(trained, adapted.trainable_variables, strict=True)
    )
    pairs = zip(model.variables, values, strict=True)
    moved = [v.numpy() for v, old in pairs if not np.array_equal(v.numpy(), old)]
    for total, grads, statistics, outputs in got:
        # float64: roundings of sums of up to 7 terms.
        close((total, grads, outputs), want, 1e-12)
        close(statistics, [m for m in moved if m.dtype == np.float64], 1e-12)


def test_a_step_in_float32_is_that_of_a_keras_loop(x, y):
    x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    model = make_shared("float32")
    adapted = models.adapt(model)
    adapted.build(x)
    total, grads, statistics, outputs = take_step(adapted, x, y)
    divide_activity(model, 7)
    with tf.GradientTape() as tape:
        predicted = model(x, training=True)
        want = tf.reduce_mean(square(y, predicted)) + sum(model.losses)
    close((total, outputs), (want, predicted), 1e-6)
    close(
        grads, tape.gradient(want, [v.value for v in model.trainable_variables]), 1e-5
    )
    assert len(statistics) == 2


def test_a_frozen_layer_has_no_penalty_and_no_gradient(x, y, float64):
    adapted = models.adapt(make_frozen("float64"))
    names = {
        term.name for term in ownership.Model(adapted.model, keras=True).get_terms()
    }
    assert not any("dense/kernel" in name for name in names)
    paths = [adapted.names[id(v)] for v in adapted.trainable_variables]
    assert len(paths) == 4 and len(adapted.variables) == 8


def test_terms_are_named_and_counted_once(x, y, float64):
    adapted = models.adapt(make_shared("float64"))
    dense = adapted.model.layers[1]
    with tfreg.step_scope(), adapted.step(None):
        outputs = adapted(x, training=True)
        owner = ownership.Model(adapted.model, keras=True)
        penalties = totals.split_total(square(y, outputs), owner).penalties
    kernel = f"{dense.path}/kernel/Regularizer/L2"
    assert {kernel, f"{dense.path}/activity"} < set(penalties) and len(penalties) == 4
    want = 0.125 * np.sum(dense.kernel.numpy() ** 2)
    np.testing.assert_allclose(penalties[kernel], want, rtol=1e-12)


def test_keras_alone_still_has_to_be_added(x, y, float64):
    model = make_shared("float64")
    with tfreg.step_scope():
        outputs = model(x)
        with pytest.raises(ValueError, match="penalties of .* must be added"):
            losses.total_loss(square(y, outputs), model)


def test_a_total_in_a_step_has_all_penalties_of_keras(x, y, float64):
    dense = keras.layers.Dense(
        3,
        dtype="float64",
        kernel_regularizer=keras.regularizers.L2(0.5),
        activity_regularizer=keras.regularizers.L1(0.25),
    )
    adapted = models.adapt(dense)
    adapted.build(x)
    with tfreg.step_scope(), adapted.step(None):
        outputs = adapted(x, training=True)
        total = losses.total_loss(tf.reduce_sum(outputs**2, 1), dense)
    kernel, values = dense.kernel.numpy(), outputs.numpy()
    want = np.mean(np.sum(values**2, 1)) + 0.5 * np.sum(kernel**2)
    want += 0.25 * np.sum(np.abs(values)) / len(values)
    np.testing.assert_allclose(total, want, rtol=1e-12)


def test_an_older_keras_is_divided_by_the_batch(x, monkeypatch):
    layer = keras.layers.ActivityRegularization(l2=1.0)
    layer(x)
    adapted = models.adapt(layer)

    def measure():
        with tfreg.step_scope(), adapted.step(None):
            adapted(x, training=True)
            owner = ownership.Model(layer, keras=True)
            (penalty,) = ownership.sum_penalties(owner)
        return float(penalty.value)

    np.testing.assert_allclose(measure(), np.sum(x.numpy() ** 2) / 7, rtol=1e-6)
    is_divided = stateless.divides_activity()
    monkeypatch.setattr(stateless, "divides_activity", lambda: not is_divided)
    wrong = 49 if is_divided else 1
    np.testing.assert_allclose(measure(), np.sum(x.numpy() ** 2) / wrong, rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bounds", [[0, 7], [0, 3, 7], [0, 1, 3, 4, 7]])
def test_replicas_sum_to_one_device(bounds, compiled, x, y, float64):
    devices = [f"CPU:{i}" for i in range(len(bounds) - 1)]
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, reduction)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(4, "tanh", kernel_regularizer=L2(0.1)),
                keras.layers.ActivityRegularization(l2=0.2),
                Subclassed("float64"),
            ]
        )
        adapted = models.adapt(model)
        adapted.build(x)

    @tf.function(jit_compile=compiled)
    def differentiate(x, y):
        with tf.GradientTape() as tape, adapted.step(KEY):
            outputs = adapted(x, training=True)
            owner = ownership.Model(model, keras=True)
            losses = square(y, outputs)
            split = totals.split_total(losses, owner, global_batch_size=7)
            total = tf.add_n([split.data, *split.penalties.values()])
        adapted.check_watched(tape.watched_variables())
        return tape.gradient(total, adapted.trainable_variables)

    @tf.function
    def run():
        values = strategy.experimental_distribute_values_from_function
        rows = [slice(*pair) for pair in itertools.pairwise(bounds)]
        shares = [
            values(lambda c, t=t: t[rows[c.replica_id_in_sync_group]]) for t in (x, y)
        ]
        # A lambda: a strategy compiles a tf.function with all replicas in it.
        each = strategy.run(lambda *batch: differentiate(*batch), shares)
        return [strategy.reduce("SUM", g, None) for g in each]

    _, want, _, _ = take_step(adapted, x, y)
    close(run(), want, 1e-12)


def test_replicas_draw_masks_of_their_own_and_return_their_statistics(two_replicas):
    with two_replicas.scope():
        model = keras.Sequential(
            [
                keras.Input((50,)),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
            ]
        )
        adapted = models.adapt(model)

    @tf.function
    def run():
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            key = tf.stack([1, tf.cast(number, tf.uint32)])
            x = tf.ones([4, 50]) * tf.range(4.0)[:, tf.newaxis]
            with adapted.step(key) as state:
                outputs = adapted(x, training=True)
            ((mean, value), _) = state.get_updates()
            assert any(mean is v.value for v in model.variables)
            return outputs, value

        return two_replicas.run(replica)

    outputs, means = (two_replicas.experimental_local_results(v) for v in run())
    assert not np.array_equal(outputs[0] == 0, outputs[1] == 0)
    np.testing.assert_allclose(means, np.full([2, 50], 0.015), rtol=1e-5)  # 1.5 / 100


def make_dropout():
    shared = keras.layers.Dropout(0.5, seed=7)
    inputs = keras.Input((40,))
    model = keras.Model(inputs, [shared(inputs), shared(inputs)])
    return models.adapt(model)


def draw(adapted, key, training=True):
    with adapted.step(key):
        return [np.array(mask) for mask in adapted(tf.ones([8, 40]), training=training)]


def test_masks_are_a_function_of_the_key_and_of_the_call():
    adapted = make_dropout()
    first, second = draw(adapted, KEY)
    again = draw(adapted, KEY)
    assert np.array_equal(first, again[0]) and np.array_equal(second, again[1])
    masks = [first, second]
    for key in ([3, 6], [4, 5], [5, 3]):
        masks += draw(adapted, tf.constant(key, tf.uint32))
    for i, mask in enumerate(masks):
        np.testing.assert_allclose(mask.mean(), 1, atol=0.25)  # 5 standard errors.
        for other in masks[:i]:
            # Of 320 bits, half are equal by chance.
            assert 110 < np.sum(mask == other) < 210
    traced = tf.function(draw_tensors)(adapted, KEY)
    np.testing.assert_array_equal(traced[0], first)
    assert all((mask == 1).all() for mask in draw(adapted, KEY, training=False))


def draw_tensors(adapted, key):
    with adapted.step(key):
        return adapted(tf.ones([8, 40]), training=True)


def test_layers_of_one_seed_draw_masks_of_their_own():
    inputs = keras.Input((40,))
    each = [keras.layers.Dropout(0.5, seed=7)(inputs) for _ in range(2)]
    first, second = draw(models.adapt(keras.Model(inputs, each)), KEY)
    assert 110 < np.sum(first == second) < 210


def test_no_draw_changes_the_state_of_a_generator():
    adapted = make_dropout()
    (state,) = adapted.variables
    before = state.numpy()
    draw(adapted, KEY)
    with adapted.step(KEY) as step:
        adapted(tf.ones([8, 40]), training=True)
        assert step.get_updates() == []
    np.testing.assert_array_equal(state.numpy(), before)
    # Without a key the draws are Keras's own.
    own = [np.array(mask) for mask in adapted.model(tf.ones([8, 40]), training=True)]
    state.assign(before)
    np.testing.assert_array_equal(draw(adapted, None), own)


def test_keras_global_generator_depends_on_the_key():
    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x))

    adapted = models.adapt(Noise())
    adapted.build(tf.ones([2, 3]))

    def sample(key):
        with adapted.step(tf.constant(key, tf.uint32)):
            return adapted(tf.zeros([2, 3])).numpy()

    assert np.array_equal(sample([1, 2]), sample([1, 2]))
    assert not np.array_equal(sample([1, 2]), sample([1, 3]))


def test_the_hash_is_a_bijection_that_mixes():
    words = tf.range(2**16)
    words = tf.cast(words, tf.uint32)
    mixed = random._mix(words).numpy()
    assert len(set(mixed.tolist())) == 2**16
    changed = np.unpackbits((mixed[:-1] ^ mixed[1:]).view(np.uint8)).mean()
    np.testing.assert_allclose(changed, 0.5, atol=0.01)


class Plain(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable(tf.ones([5, 3], tf.float64))

    def __call__(self, x):
        return x @ self.w


class Holder:
    """An object of no library."""

    def __init__(self):
        self.layer = Plain()

    def __call__(self, x, training):
        return self.layer(x) * (2.0 if training else 1.0)


class Noted(snt.Module):
    def __init__(self):
        super().__init__()
        self.inner = snt.BatchNorm(True, True)

    def __call__(self, x, is_training, *, scale=None):
        return self.inner(x, is_training)


OTHERS = {
    "plain": (Plain, ""),
    "holder": (Holder, "training"),
    "tfreg": (lambda: models.MLP([4, 3]), "training"),
    "tf1": (lambda: tf1.Model(forward), ""),
    "tf1 training": (lambda: tf1.Model(forward_training), "is_training"),
    "mlp": (lambda: snt.nets.MLP([4, 3]), ""),
    "mlp dropout": (lambda: snt.nets.MLP([4, 3], dropout_rate=0.5), "is_training"),
    "norm": (lambda: snt.BatchNorm(True, True), "is_training"),
    "linear first": (lambda: snt.Sequential([snt.Linear(3), tf.nn.relu]), ""),
    "norm first": (
        lambda: snt.Sequential([snt.BatchNorm(True, True), snt.Linear(3)]),
        "is_training",
    ),
    "any": (lambda: Any(), "training"),
    "noted": (Noted, "is_training"),
}


class Any(tf.Module):
    def __call__(self, *args, **kwargs):
        return layers.Dropout(0.5)(*args, **kwargs)


def forward(x):
    return x @ tf1.get_variable("w", [x.shape[-1], 3])


def forward_training(x, is_training):
    return forward(x) * (2.0 if is_training else 1.0)


@pytest.mark.parametrize("kind", list(OTHERS))
def test_training_is_passed_as_the_model_takes_it(kind, x, monkeypatch):
    make, argument = OTHERS[kind]
    model = make()
    x = x if kind in ("plain", "holder") else tf.cast(x, tf.float32)
    adapted = models.adapt(model)
    monkeypatch.delitem(sys.modules, "tfreg.models.stateless", raising=False)
    with tfreg.step_scope(step=0):
        adapted.build(x)
        with adapted.step(KEY) as state:
            outputs = adapted(x, training=False)
        want = model(x, **{argument: False} if argument else {})
        np.testing.assert_array_equal(outputs, want)
        adapted(x, training=True)
    assert list(adapted._list_arguments()) == [argument]
    assert state.get_updates() == []
    assert "tfreg.models.stateless" not in sys.modules
    own = getattr(model, "trainable_variables", None) or model.__dict__.get("w")
    if isinstance(model, tf.Module) and own:
        pairs = zip(adapted.trainable_variables, own, strict=True)
        assert all(a is b for a, b in pairs)


def test_a_model_may_need_autograph_or_be_a_function_of_its_own(x):
    class Branch(Plain):
        def __call__(self, x, training=False):
            if tf.reduce_sum(x) > 1e9:
                x = 2.0 * x
            return super().__call__(x)

    class Traced(Plain):
        @tf.function
        def __call__(self, x, is_training):
            return x @ self.w * (2.0 if is_training else 1.0)

    for model, factor in ((Branch(), 1), (Traced(), 2)):
        adapted = models.adapt(model)
        adapted.build(x)
        call = tf.function(lambda x, f=adapted: f(x, training=True))
        want = factor * x.numpy() @ np.ones([5, 3])
        np.testing.assert_allclose(call(x), want, rtol=1e-12)


def test_an_error_of_the_model_is_not_taken_for_one_of_the_argument(x):
    calls = []

    class Broken(tf.Module):
        def __call__(self, x, **options):
            calls.append(options)
            raise ValueError("another reason")

    with pytest.raises(ValueError, match="another reason"):
        models.adapt(Broken())(x)
    assert calls == [{"training": False}]
    late = snt.Sequential([snt.Linear(3), snt.BatchNorm(True, True)])
    with pytest.raises(TypeError, match="is_training"):
        models.adapt(late)(tf.ones([2, 3]))


def test_gradients_of_sonnet_are_its_own(x, y):
    model = snt.nets.MLP([4, 3])
    adapted = models.adapt(model)
    x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    adapted.build(x)
    _, got, _, _ = take_step(adapted, x, y)
    with tf.GradientTape() as tape:
        total = tf.reduce_mean(square(y, model(x)))
    close(got, tape.gradient(total, model.trainable_variables), 1e-6)
    assert sorted(adapted.names.values()) == [
        f"_layers/{i}/{name}" for i in (0, 1) for name in ("b", "w")
    ]


class Chosen(tf.Module):
    """A module that lists what it trains itself."""

    def __init__(self):
        super().__init__()
        self.body, self.head = Plain(), keras.layers.Dense(2)
        self.scale = keras.Variable(tf.ones([3]))
        self.generator = keras.random.SeedGenerator(1)

    @property
    def trainable_variables(self):
        return [v.value for v in self.head.trainable_variables]

    def __call__(self, x, training=False):
        hidden = tf.cast(self.body(x), tf.float32) * self.scale
        hidden = keras.random.dropout(hidden, 0.5, seed=self.generator)
        return self.head(hidden)


def test_a_list_of_the_models_own_is_taken_at_its_word(x):
    adapted = models.adapt(Chosen())
    adapted.build(x)
    model = adapted.model
    with tf.GradientTape() as tape, adapted.step(KEY):
        first = adapted(x)
    adapted.check_watched(tape.watched_variables())
    with adapted.step(KEY):
        np.testing.assert_array_equal(adapted(x), first)
        assert not np.array_equal(adapted(x), first)
    trained = [adapted.names[id(v)] for v in adapted.trainable_variables]
    assert trained == [v.path for v in model.head.trainable_variables]
    listed = {id(v) for v in adapted.variables}
    held = [model.body.w, model.scale.value, model.generator.state.value]
    assert {id(v) for v in held} < listed


class Mixture(tf.Module):
    """Keras layers in an attribute, a list and a dict, and a layer of tfreg."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(2.0, name="scale")
        self.ours = layers.Dense(4, tf.tanh, name="ours")
        self.listed = [keras.layers.BatchNormalization(name="norm")]
        self.named = {"last": keras.layers.Dense(3, kernel_regularizer=L2(0.1))}

    def __call__(self, x, training=False):
        hidden = self.listed[0](self.ours(x), training=training)
        return self.scale * self.named["last"](hidden)


def make_mixture(x):
    adapted = models.adapt(Mixture())
    adapted.build(tf.cast(x, tf.float32))
    return adapted


def test_a_mixture_trains_all_of_its_parts(x, y):
    x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    adapted = make_mixture(x)
    model = adapted.model
    norm, last = model.listed[0], model.named["last"]
    of_keras = [norm.gamma, norm.beta, last.kernel, last.bias]
    trained = [*model.trainable_variables, *(v.value for v in of_keras)]
    assert all(
        a is b for a, b in zip(trained, adapted.trainable_variables, strict=True)
    )
    assert len(adapted.variables) == len(trained) + 2
    names = [adapted.names[id(v)] for v in trained]
    assert names[:3] == ["scale", "ours/bias", "ours/kernel"] or "scale" in names
    assert names[3:5] == ["norm/gamma", "norm/beta"]
    assert len(set(adapted.names.values())) == len(adapted.variables)
    rules.apply("l2(0.2)@kernel:.*", model)
    total, grads, statistics, _ = take_step(adapted, x, y)
    kernels = [np.sum(k.numpy() ** 2) for k in (model.ours.kernel, last.kernel)]
    with tf.GradientTape() as tape:
        data = tf.reduce_mean(square(y, model(x, training=True)))
        penalty = tf.nn.l2_loss(model.ours.kernel) + tf.nn.l2_loss(last.kernel.value)
        want = data + 0.2 * penalty + 0.1 * tf.reduce_sum(last.kernel.value**2)
    np.testing.assert_allclose(
        total, data + 0.1 * sum(kernels) + 0.1 * kernels[1], 1e-5
    )
    close(grads, tape.gradient(want, trained), 2e-5)
    assert len(statistics) == 2
    close(statistics, [norm.moving_mean.numpy(), norm.moving_variance.numpy()], 1e-5)


@pytest.mark.parametrize("kind", ["mixture", "keras", "subclassed", "holder", "tfreg"])
def test_a_checkpoint_restores_every_variable(kind, x, tmp_path):
    def make():
        if kind == "mixture":
            return make_mixture(x)
        if kind == "holder":
            return models.adapt(Holder())
        if kind == "tfreg":
            model = models.adapt(models.MLP([4, 3]))
            model(tf.cast(x, tf.float32))
            return model
        make = Subclassed if kind == "subclassed" else make_nested
        adapted = models.adapt(make("float32"))
        adapted.build(tf.cast(x, tf.float32))
        return adapted

    first, second = make(), make()  # With other names of Keras's.
    for i, variable in enumerate(first.variables):
        variable.assign(tf.fill(variable.shape, tf.cast(i + 1, variable.dtype)))
    path = tf.train.Checkpoint(model=first.checkpoint).write(str(tmp_path / "ckpt"))
    restored = tf.train.Checkpoint(model=second.checkpoint).read(path)
    restored.assert_consumed()
    for i, variable in enumerate(second.variables):
        assert np.all(variable.numpy() == i + 1)
    assert (first.checkpoint is first.model) == (kind in ("tfreg", "mixture"))


def test_constraints_and_dtypes_are_told():
    norm = keras.constraints.MaxNorm(2.0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, kernel_constraint=norm)]
    )
    adapted = models.adapt(model)
    ((variable, constraint),) = adapted.constraints
    assert variable is model.layers[0].kernel.value and constraint is norm
    assert adapted.dtype_policy == "float32"
    assert models.adapt(Plain()).dtype_policy is None
    mixed = keras.layers.Dense(2, dtype="mixed_bfloat16")
    assert models.adapt(keras.Sequential([mixed])).dtype_policy == "bfloat16"


def test_a_variable_that_nobody_trains_is_named(x):
    other = Plain()
    outside = tf.Variable(1.0, name="outside")

    class Closure(Plain):
        def __call__(self, x):
            return super().__call__(other(x) @ tf.ones([3, 5], tf.float64)) + tf.cast(
                outside, tf.float64
            )

    adapted = models.adapt(Closure())
    with tf.GradientTape() as tape:
        adapted(x)
    watched = tape.watched_variables()
    assert sorted(adapted.find_unowned(watched)) == ["Variable", "outside"]
    assert adapted.find_unowned(watched, frozen=[other]) == ["outside"]
    with pytest.raises(ValueError, match="Variable.*frozen=") as info:
        adapted.check_watched(watched)
    assert HOUSE.fullmatch(str(info.value))
    frozen = make_frozen("float32")
    with tf.GradientTape() as tape:
        frozen(tf.cast(x, tf.float32))
    models.adapt(frozen).check_watched(tape.watched_variables())


def test_scopes_in_each_other_pass_on_what_is_the_other_models(x):
    x = tf.cast(x, tf.float32)
    teacher, student = (
        models.adapt(keras.Sequential([keras.layers.BatchNormalization()]))
        for _ in range(2)
    )
    teacher.build(x)
    student.build(x)
    with student.step(KEY) as outer, teacher.step(KEY) as inner:
        student(x, training=True)
        teacher(x, training=False)
    assert len(outer.get_updates()) == 2 and inner.get_updates() == []
    known = {id(v) for v in student.variables}
    assert all(id(v) in known for v, _ in outer.get_updates())


def test_lists_of_variables_are_right_inside_a_step(x):
    adapted = make_mixture(x)
    want = [id(v) for v in adapted.variables]
    with adapted.step(KEY):
        assert [id(v) for v in adapted.variables] == want


@pytest.mark.parametrize(
    "model, text",
    [
        (lambda x: x, "an object that holds its variables, got a function"),
        (tf.function(lambda x: x), "got a function"),
        (keras.layers.Dense, "got a type"),
        ([Plain()], "got a list"),
        (tf.Module(), "must be callable, got a Module"),
    ],
)
def test_what_holds_no_variables_is_refused(model, text):
    with pytest.raises(TypeError, match=text) as info:
        models.adapt(model)
    assert HOUSE.fullmatch(str(info.value))


def test_a_layer_that_makes_variables_in_the_step_is_told(x):
    adapted = models.adapt(keras.layers.Dense(2))
    match = "kernel must exist.*build"
    with pytest.raises(ValueError, match=match) as info, adapted.step(None):
        adapted(x)
    assert HOUSE.fullmatch(str(info.value))


def test_an_assigned_weight_and_a_statistic_of_a_branch_are_told(x):
    x = tf.cast(x, tf.float32)
    spectral = keras.layers.SpectralNormalization(keras.layers.Dense(2))
    adapted = models.adapt(spectral)
    adapted.build(x)
    match = "kernel must be changed by the optimizer"
    with pytest.raises(ValueError, match=match), adapted.step(KEY):
        adapted(x, training=True)

    class Branch(tf.Module):
        def __init__(self):
            super().__init__()
            self.norm = keras.layers.BatchNormalization()

        def __call__(self, x, training=False):
            normal = lambda: self.norm(x, training=training)  # noqa: E731
            return tf.cond(tf.reduce_sum(x) > 1e9, lambda: x, normal)

    adapted = models.adapt(Branch())
    adapted.build(x)

    @tf.function
    def step():
        with adapted.step(KEY) as state:
            adapted(x, training=True)
        return state.get_updates()

    with pytest.raises(ValueError, match="outside of branches and loops"):
        step()
