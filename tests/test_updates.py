"""Groups, decay, averages and constraints: a closed form in float64, and Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, optimizers
from tfreg.optimizers import schedules

SIZE, BATCH, EPOCHS = 36, 7, 34  # 204 steps; the last batch of an epoch is ragged.


class Affine(tf.Module):
    """A linear model in float64 with the paths `first/kernel` and so on."""

    def __init__(self, values):
        super().__init__()
        self.first = tf.Module()
        self.first.kernel = tf.Variable(values["first/kernel"])
        self.first.bias = tf.Variable(values["first/bias"])
        self.last = tf.Module()
        self.last.kernel = tf.Variable(values["last/kernel"])

    def __call__(self, x):
        return (x @ self.first.kernel + self.first.bias) @ self.last.kernel


def make_values(rng):
    shapes = {"first/kernel": (5, 4), "first/bias": (4,), "last/kernel": (4, 3)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def make_split(rng):
    x = rng.normal(size=(SIZE, 5))
    return data.Split(x, x @ rng.normal(size=(5, 3)))


def square(y, outputs):
    return tf.reduce_sum((y - outputs) ** 2, -1)


def differentiate(w, x, y):
    """Returns the gradients of the mean loss of `Affine`."""
    hidden = x @ w["first/kernel"] + w["first/bias"]
    slope = 2 * (hidden @ w["last/kernel"] - y) / len(x)
    back = slope @ w["last/kernel"].T
    return {
        "first/kernel": x.T @ back,
        "first/bias": back.sum(0),
        "last/kernel": hidden.T @ slope,
    }


def simulate(values, split, update, epochs=EPOCHS):
    """Trains in NumPy: update(w, gradients, number of the update, from 1)."""
    w, t = {k: v.copy() for k, v in values.items()}, 0
    for epoch in range(epochs):
        order = data.permute(SIZE, 0, epoch)
        for rows in np.split(order, range(BATCH, SIZE, BATCH)):
            t += 1
            update(w, differentiate(w, split.x[rows], split.y[rows]), t)
    return w


class Adam:
    """Adam of one variable in NumPy, as Keras writes it."""

    def __init__(self):
        self.m = self.v = 0.0

    def __call__(self, g, rate, t):
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        rate *= np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return rate * self.m / (np.sqrt(self.v) + 1e-7)


CASES = [
    (1, "xla", 1),
    (1, "graph", 3),
    (2, "xla", 3),
    (4, "graph", 1),
    (2, "graph", 1),
]


def make_loop(
    values, split, optimizer, replicas=1, mode="xla", accumulate=1, **options
):
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        devices = [f"CPU:{i}" for i in range(replicas)]
        reduction = tf.distribute.ReductionToOneDevice()
        strategy = tf.distribute.MirroredStrategy(devices, reduction)
    after = options.pop("after", list)
    text = options.pop("rules", "")
    with strategy.scope():
        model = Affine(values)
        if text:
            tfreg.rules.apply(text, model)
        step = tfreg.Step(
            model,
            square,
            optimizer(),
            precision="float64",
            accumulate=accumulate,
            after=after(),
            **options,
        )
        return tfreg.Loop(step, split, BATCH, compile=mode, strategy=strategy)


def read(loop):
    adapted = loop.step.adapted
    return {adapted.names[id(v)]: v.numpy() for v in adapted.variables}


def close(got, want, rtol=1e-9):
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol, rtol, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_everything_after_a_gradient_is_its_closed_form(case, rng):
    values, split = make_values(rng), make_split(rng)
    # Powers of two: a learning rate is float32.
    rate = schedules.piecewise([99], [2.0**-6, 2.0**-7])
    average = []

    def make_groups():
        slow = optimizers.sgd(2.0**-8)
        pairs = [
            ("first/kernel", optimizers.adam(rate)),
            ("first", slow),
            ("last", None),
        ]
        return optimizers.groups(pairs)

    def make_after():
        average[:] = [optimizers.ema(0.75)]
        return [optimizers.max_norm(1.5, "first/kernel"), *average]

    loop = make_loop(
        values,
        split,
        make_groups,
        *case,
        rules="decay(0.125)@kernel:first;l2(0.5)@bias;l2(7.0)@kernel:last",
        after=make_after,
    )
    adam, means = Adam(), {}

    def update(w, g, t):
        lr = 2.0**-6 if t <= 100 else 2.0**-7
        kernel = w["first/kernel"]
        kernel -= lr * 0.125 * kernel
        kernel -= adam(g["first/kernel"], lr, t)
        norms = np.sqrt((kernel**2).sum(0))
        kernel *= np.clip(norms, 0, 1.5) / (1e-7 + norms)
        w["first/bias"] -= 2.0**-8 * (g["first/bias"] + 0.5 * w["first/bias"])
        for name in ("first/kernel", "first/bias"):
            old = means.get(name, w[name])
            means[name] = old + 0.25 * (w[name] - old)

    want = simulate(values, split, update)
    reports = [loop.train(epoch) for epoch in range(EPOCHS)]
    close(read(loop), want, 1e-7)  # Keras's epsilon is a float32.
    assert set(reports[-1].penalties) == {"first/bias/Regularizer/l2_regularizer"}
    before = read(loop)
    with loop.step.ema.applied():
        close(read(loop), before | means, 1e-7)
        inside = loop.evaluate(split).loss
    close(read(loop), before, 0.0)
    assert loop.step.ema is average[0] and inside != loop.evaluate(split).loss


@pytest.mark.parametrize("by", ["lr", "schedule", "step"])
def test_the_coupling_of_a_decay_is_what_it_says(by, rng):
    values, split = make_values(rng), make_split(rng)
    rate = schedules.piecewise([9], [2.0**-7, 2.0**-9])
    loop = make_loop(
        values,
        split,
        lambda: optimizers.sgd(rate),
        rules=f"decay(0.0625,by={by})@kernel",
    )

    def update(w, g, t):
        lr = 2.0**-7 if t <= 10 else 2.0**-9
        fraction = 0.0625 * {"lr": lr, "schedule": lr * 2**7, "step": 1.0}[by]
        for name in w:
            w[name] -= w[name] * fraction * (name != "first/bias")
            w[name] -= lr * g[name]

    want = simulate(values, split, update, 4)
    for epoch in range(4):
        loop.train(epoch)
    close(read(loop), want)


# What is written elsewhere -> what is subtracted at a learning rate of lr with a peak
# of peak, and what is written here. The table of docs/decay.md.
TABLE = {
    "torch AdamW(weight_decay=r)": (lambda r, lr, peak: lr * r, "decay({r})"),
    "optax.adamw(weight_decay=r)": (lambda r, lr, peak: lr * r, "decay({r})"),
    "TFA AdamW(weight_decay=r)": (lambda r, lr, peak: r, "decay({r},by=step)"),
    "Loshchilov & Hutter": (
        lambda r, lr, peak: r * lr / peak,
        "decay({r},by=schedule)",
    ),
    "torch SGD(weight_decay=r)": (lambda r, lr, peak: lr * r, "l2({r})"),
    "contrib l2_regularizer(r)": (lambda r, lr, peak: lr * r, "l2({r})"),
    "Keras L2(r)": (lambda r, lr, peak: 2 * lr * r, "l2({r2})"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_row_of_the_table_of_decays_subtracts_what_it_says(name, rng):
    subtract, text = TABLE[name]
    w = tf.Variable(rng.normal(size=(3, 2)))
    model = tf.Module()
    model.kernel = w
    tfreg.rules.apply(text.format(r=0.0625, r2=0.125) + "@kernel", model)
    model_call = lambda x: x * 0.0 @ w  # noqa: E731

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def __call__(self, x):
            return model_call(x)

    rate = schedules.piecewise([0], [0.25, 0.125])
    step = tfreg.Step(Model(), square, optimizers.sgd(rate), precision="float64")
    x, y = tf.zeros([4, 3], tf.float64), tf.zeros([4, 2], tf.float64)
    for lr in (0.25, 0.125):
        before = w.numpy()
        step(x, y)
        fraction = subtract(0.0625, lr, 0.25)
        np.testing.assert_allclose(w.numpy(), before * (1 - fraction), rtol=1e-12)


def test_a_decay_is_that_of_kerass_optimizers(rng):
    keras.utils.set_random_seed(0)
    x, y = rng.normal(size=(SIZE, 5)), rng.normal(size=(SIZE, 3))

    def make():
        layers = [
            keras.Input((5,), dtype="float64"),
            keras.layers.Dense(4, "tanh", dtype="float64"),
            keras.layers.Dense(3, name="last", dtype="float64"),
        ]
        return keras.Sequential(layers)

    model, theirs = make(), make()
    theirs.set_weights(model.get_weights())
    tfreg.rules.apply("decay(0.1)@kernel", model)
    average = optimizers.ema(0.9)  # Before the constraints, as in Keras.
    unit = optimizers.constrain(keras.constraints.UnitNorm(), ".*bias")
    after = [average, unit, optimizers.non_negative("last/kernel")]
    step = tfreg.Step(model, square, optimizers.adam(1e-3), after=after)
    loop = tfreg.Loop(step, data.Split(x, y), BATCH)
    names = list(loop.step.updater.name_variables())
    assert any("kernel" in name for name in names)
    adam = keras.optimizers.AdamW(
        1e-3, weight_decay=0.1, use_ema=True, ema_momentum=0.9
    )
    adam.exclude_from_weight_decay(var_names=["bias"])
    for layer in theirs.layers:
        layer.bias.constraint = keras.constraints.UnitNorm()
    theirs.layers[1].kernel.constraint = keras.constraints.NonNeg()
    for epoch in range(EPOCHS):
        loop.train(epoch)
        order = data.permute(SIZE, 0, epoch)
        for rows in np.split(order, range(BATCH, SIZE, BATCH)):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(square(y[rows], theirs(x[rows], training=True)))
            values = [v.value for v in theirs.trainable_variables]
            adam.apply(tape.gradient(loss, values), theirs.trainable_variables)
    averages = [v for v in adam.variables if "average" in v.path]
    ours = [*model.get_weights(), *average.averages]
    for a, b in zip(ours, [*theirs.get_weights(), *averages], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)  # Its rate is float32.


def test_groups_are_frozen_and_thawed_by_the_epoch_and_keep_their_slots(rng):
    values, split = make_values(rng), make_split(rng)

    def make():
        return optimizers.groups(
            [
                ("last", optimizers.adam(2.0**-6)),
                ("first/kernel", optimizers.adam(2.0**-7), 1),
                (".*", optimizers.adam(2.0**-8), lambda epoch: epoch != 2),
            ]
        )

    loop = make_loop(values, split, make, rules="l2(0.25)@kernel;l2(0.25)@bias")
    moments = {name: Adam() for name in values}
    counts = dict.fromkeys(values, 0)
    rates = {"last/kernel": 2.0**-6, "first/kernel": 2.0**-7, "first/bias": 2.0**-8}

    def update(w, g, t):
        epoch = (t - 1) // 6
        for name in w:
            frozen = {"first/kernel": epoch < 1, "first/bias": epoch == 2}
            if not frozen.get(name, False):
                counts[name] += 1
                gradient = g[name] + 0.25 * w[name]
                w[name] -= moments[name](gradient, rates[name], counts[name])

    want = simulate(values, split, update, 4)
    sizes = []
    for epoch in range(4):
        report = loop.train(epoch)
        sizes.append(len(report.penalties))
    close(read(loop), want, 1e-8)
    assert sizes == [2, 3, 2, 3]  # A frozen variable isn't penalized.
    assert len(loop.step.optimizer.list_slots()) == 3


def test_rates_fall_from_layer_to_layer():
    groups = optimizers.layerwise(["c", "b", "a"], optimizers.sgd, 0.5, 0.5, epochs=2)
    assert [(p, o.rate, e) for p, o, e in groups] == [
        ("c", 0.5, 0),
        ("b", 0.25, 2),
        ("a", 0.125, 4),
    ]


def test_keras_and_tfregs_optimizers_are_mixed_and_thawed(rng):
    x = rng.normal(size=(SIZE, 5)).astype(np.float32)
    split = data.Split(x, x[:, :3])
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.layers.Dense(4, name="inside")], name="trunk")
    model = keras.Sequential(
        [keras.Input((5,)), inner, keras.layers.Dense(3, name="head")]
    )
    optimizer = optimizers.groups(
        [
            ("head", keras.optimizers.Lion(1e-3)),
            ("inside", keras.optimizers.SGD(0.1), 1),
        ]
    )
    loop = tfreg.Loop(tfreg.Step(model, square, optimizer), split, BATCH)
    first = [v.numpy() for v in model.trainable_variables]
    assert len(first) == 2 and inner.layers[0].kernel.trainable is False
    loop.train(0)
    loop.train(1)
    assert len(model.trainable_variables) == 4
    assert loop.step.optimizer.step.numpy() == 12


def test_a_keras_optimizer_trains_what_is_thawed_later(rng):
    x = rng.normal(size=(SIZE, 5)).astype(np.float32)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    layers[0].trainable = False
    step = tfreg.Step(model, square, keras.optimizers.Adam(1e-2))
    loop = tfreg.Loop(step, data.Split(x, x[:, :3]), BATCH)
    before = layers[0].get_weights()[0]
    loop.train(0)
    assert np.array_equal(layers[0].get_weights()[0], before)
    layers[0].trainable = True
    loop.train(1)
    assert not np.array_equal(layers[0].get_weights()[0], before)


def test_both_l2_and_decay_are_warned_of_once(rng):
    values, split = make_values(rng), make_split(rng)
    text = "l2(1e-3)@kernel:first;decay(1e-2)@kernel:first"
    with pytest.warns(UserWarning, match="got both for first/kernel: l2_.* \\+ decay"):
        loop = make_loop(values, split, lambda: optimizers.adam(1e-3), rules=text)
    with pytest.warns(UserWarning, match=r"last/kernel: decay.*adamw\(weight_decay="):
        make_loop(
            values,
            split,
            lambda: optimizers.adamw(1e-3),
            rules="decay(0.1)@kernel:last",
        )
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.train(0)


def test_a_decay_without_a_step_is_refused(rng):
    model = Affine(make_values(rng))
    tfreg.rules.apply("decay(0.1)@kernel", model)
    x = tf.ones([2, 5], tf.float64)
    tfreg.losses.total_loss(square(0.0, model(x)), model)  # No tape: nothing is lost.
    with (
        tf.GradientTape(),
        pytest.raises(ValueError, match="must be applied by a tfreg.Step, got a loss"),
    ):
        tfreg.losses.total_loss(square(0.0, model(x)), model)


def test_float16_skips_the_hooks_and_the_decay_of_an_update_that_overflows(rng):
    model = tfreg.models.MLP([2], seed=0)
    tfreg.rules.apply("decay(0.5,by=step)@kernel", model)
    average, calls = optimizers.ema(0.5), []

    def note(variables, step):
        calls.append(sorted(variables))
        for variable in variables.values():
            optimizers.assign(variable, variable.read_value() + 1.0)

    loss = tfreg.losses.sparse_softmax_cross_entropy
    step = tfreg.Step(
        model, loss, optimizers.sgd(1e-30), precision="float16", after=[note, average]
    )
    x = np.ones((4, 3), np.float32)
    x[1], x[2] = 6e4, -6e4  # Of one the class is wrong, and the gradient overflows.
    split = data.Split(x, np.zeros(4, np.int32))
    loop = tfreg.Loop(step, split, 4, compile="graph")
    before = [v.numpy() for v in model.trainable_variables]
    report = loop.train(0)
    assert report.skipped_updates == 1 and calls
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.groups([]), "groups must have an optimizer each"),
        (
            lambda: optimizers.groups([(".*", None)]),
            "groups must have an optimizer each",
        ),
        (lambda: optimizers.groups(["a"]), r"a group must be \(pattern, optimizer\)"),
        (lambda: optimizers.groups([("(", None)]), "a pattern must be a regular expr"),
        (
            lambda: optimizers.groups([("a", optimizers.sgd(1.0), -1)]),
            "the first epoch",
        ),
        (lambda: optimizers.groups([("a", 0.1)]), "optimizer must be of tfreg.optim"),
        (lambda: optimizers.ema(1.0), r"decay must be a float in \[0, 1\)"),
        (lambda: optimizers.max_norm(0.0), "limit must be a finite float > 0"),
        (
            lambda: optimizers.non_negative("("),
            "a pattern must be a regular expression",
        ),
        (lambda: optimizers.decay(-1.0), "rate must be a finite float >= 0"),
        (lambda: optimizers.decay(0.1, by="x"), "by must be one of lr, schedule, step"),
        (
            lambda: tfreg.rules.parse("l2(0.1,by=lr)@kernel"),
            "by must be one of lr, sch",
        ),
        (
            lambda: tfreg.rules.parse("decay(1.0)@activity"),
            "decay must be of kernel or",
        ),
    ],
)
def test_a_wrong_argument_is_one_sentence(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            [("nothing", 1.0), (".*", 1.0)],
            "'nothing', which matches nothing, and the variables are first/bias, ",
        ),
        ([(".*", 1.0), ("last", 0.5)], "'last', which matches only variables of earli"),
        (
            [("first", 1.0)],
            "every variable must be in a group, got none for last/kernel",
        ),
    ],
)
def test_groups_that_fit_no_variable_are_refused(groups, message, rng):
    def make():
        return optimizers.groups([(p, optimizers.sgd(rate)) for p, rate in groups])

    with pytest.raises(ValueError, match=message):
        make_loop(make_values(rng), make_split(rng), make)


def test_what_a_hook_needs_is_checked_when_the_loop_is_made(rng):
    values, split = make_values(rng), make_split(rng)
    sgd = lambda: optimizers.sgd(0.1)  # noqa: E731
    with pytest.raises(ValueError, match="a constraint must match a variable, got 'x'"):
        make_loop(values, split, sgd, after=lambda: [optimizers.max_norm(2.0, "x")])
    with pytest.raises(
        TypeError, match=r"after must hold functions \(variables, step\)"
    ):
        make_loop(values, split, sgd, after=lambda: [3])
    loop = make_loop(values, split, sgd)
    with pytest.raises(ValueError, match="after must hold an average, got"):
        loop.step.ema  # noqa: B018
    with pytest.raises(ValueError, match="applied must be called after a step"):
        optimizers.ema().applied().__enter__()
    function = lambda step: tf.constant(0.1)  # noqa: E731
    loop = lambda: make_loop(  # noqa: E731
        values,
        split,
        lambda: optimizers.sgd(function),
        rules="decay(0.1,by=schedule)@kernel",
    ).train(0)
    with pytest.raises(ValueError, match="must know the largest learning rate"):
        loop()
