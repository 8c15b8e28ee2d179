"""Steps of one's own: the numbers of a hand-written loop, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg.collections import scopes

RATE, STEPS, EXAMPLES = 0.1, 3, 6
cross_entropy = tfreg.losses.sparse_softmax_cross_entropy
both_modes = pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])


@pytest.fixture
def batch(rng):
    x = rng.normal(size=(EXAMPLES, 5)).astype(np.float32)
    return tf.constant(x), tf.constant(rng.integers(0, 3, EXAMPLES))


def make_model(seed=0, outputs=3, **options):
    model = tfreg.models.MLP([4, outputs], tf.nn.tanh, seed=seed, **options)
    model(tf.zeros([1, 5]))
    return model


def make_step(kind, model, **options):
    return kind(model, cross_entropy, tfreg.optimizers.sgd(RATE), **options)


def train(step, args, xla):
    """Returns the reports of a few steps on one batch."""
    run = tf.function(step, jit_compile=xla, reduce_retracing=True)
    return [run(*args) for _ in range(STEPS)]


def train_by_hand(model, get_total):
    """Updates a model by a tape of one's own; returns the totals.

    Args:
        model: the twin of a step's model.
        get_total: callable (number of the step) -> what is minimized.
    """
    totals = []
    for number in range(STEPS):
        with tf.GradientTape() as tape:
            total = get_total(number)
        gradients = tape.gradient(total, model.trainable_variables)
        for variable, gradient in zip(
            model.trainable_variables, gradients, strict=True
        ):
            variable.assign_sub(RATE * gradient)
        totals.append(float(total))
    return totals


def check_twins(model, twin, start):
    for got, want, first in zip(
        model.variables, twin.variables, start.variables, strict=True
    ):
        np.testing.assert_allclose(got.numpy(), want.numpy(), 1e-5, 1e-6)
        # A critic's last bias has no gradient.
        assert first.shape == 1 or np.abs(got.numpy() - first.numpy()).max() > 1e-3


def mean_nats(y, logits):
    """Returns the mean cross entropy by its definition."""
    chosen = tf.gather(tf.nn.log_softmax(logits), y, axis=1, batch_dims=1)
    return -tf.reduce_mean(chosen)


def diverge(first, second):
    p, q = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return tf.reduce_sum((tf.exp(p) - tf.exp(q)) * (p - q), -1) / 2


class RDrop(tfreg.Step):
    def compute_loss(self, batch):
        first, second = self.forward(batch.x), self.forward(batch.x)
        self.measure(batch, first)
        losses = [self.objective(batch.y, each)[""] for each in (first, second)]
        divergence = diverge(first, second)
        self.report("divergence", divergence)
        return {"hard": tf.add_n(losses) / 2, "rdrop": divergence}


@both_modes
def test_r_drop_draws_two_masks_in_a_step(xla, batch):
    x, y = batch
    model, twin, start = (make_model(dropout=0.5) for _ in range(3))
    step = make_step(RDrop, model, seed=7)
    parts = []

    def get_total(number):
        with scopes.step_scope(tf.constant(number, tf.int64), 7, (0, EXAMPLES)):
            first, second = twin(x, training=True), twin(x, training=True)
        hard = (mean_nats(y, first) + mean_nats(y, second)) / 2
        parts.append((float(hard), float(tf.reduce_mean(diverge(first, second)))))
        return hard + tf.reduce_mean(diverge(first, second))

    reports = train(step, batch, xla)
    totals = train_by_hand(twin, get_total)
    check_twins(model, twin, start)
    for report, total, (hard, divergence) in zip(reports, totals, parts, strict=True):
        assert report.total.numpy() == pytest.approx(total, rel=1e-5)
        assert report.data_losses["hard"].numpy() == pytest.approx(hard, rel=1e-5)
        got = report.metrics["divergence"].numpy()
        assert got == pytest.approx(divergence, rel=1e-5)
        assert divergence > 1e-3  # The masks differ.
    evaluated = step.evaluate(*batch)
    assert evaluated.data_losses["rdrop"].numpy() == 0.0  # Without dropout.


def distill(teacher, x, y, logits):
    targets = tf.nn.softmax(teacher(x) / 2)
    return -4 * tf.reduce_sum(targets * tf.nn.log_softmax(logits / 2), -1)


class Distillation(tfreg.Step):
    def compute_loss(self, batch):
        logits = self.forward(batch.x)
        (teacher,) = self.frozen
        soft = distill(teacher, batch.x, batch.y, logits)
        return {"hard": cross_entropy(batch.y, logits), "soft": soft}


@both_modes
def test_a_frozen_teacher_is_read_and_not_trained(xla, batch):
    x, y = batch
    model, twin, start = (make_model() for _ in range(3))
    teacher, copy = make_model(seed=5), make_model(seed=5)
    step = make_step(Distillation, model, frozen=[teacher])

    def get_total(number):
        del number
        logits = twin(x)
        return mean_nats(y, logits) + tf.reduce_mean(distill(copy, x, y, logits))

    reports = train(step, batch, xla)
    totals = train_by_hand(twin, get_total)
    check_twins(model, twin, start)
    np.testing.assert_allclose([r.total for r in reports], totals, 1e-5)
    for got, want in zip(teacher.variables, copy.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def measure_slope(critic, points):
    """Returns (norm of the gradient for the inputs - 1) ** 2 of each example."""
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = critic(points)
    slope = tape.gradient(values, points)
    return (tf.sqrt(tf.reduce_sum(slope**2, -1)) - 1) ** 2


class Critic(tfreg.Step):
    def compute_loss(self, batch):
        fake, part = batch.x["fake"], batch.x["part"]
        penalty = measure_slope(self.forward, part * fake + (1 - part) * batch.y)
        self.report("penalty", penalty)
        worth = self.forward(fake) - self.forward(batch.y)
        return worth[:, 0] + 10 * penalty


@both_modes
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_penalty_of_a_gradient_is_differentiated(xla, accumulate, rng):
    fake, real = tf.constant(rng.normal(size=(2, EXAMPLES, 5)), tf.float32)
    part = tf.constant(rng.uniform(size=(EXAMPLES, 1)), tf.float32)
    model, twin, start = (make_model(outputs=1) for _ in range(3))
    sgd = tfreg.optimizers.sgd(RATE)
    step = Critic(model, None, sgd, accumulate=accumulate)

    def get_total(number):
        del number
        penalty = measure_slope(twin, part * fake + (1 - part) * real)
        worth = tf.reduce_mean(twin(fake)) - tf.reduce_mean(twin(real))
        return worth + 10 * tf.reduce_mean(penalty)

    reports = train(step, ({"fake": fake, "part": part}, real), xla)
    totals = train_by_hand(twin, get_total)
    check_twins(model, twin, start)
    np.testing.assert_allclose([r.total for r in reports], totals, 1e-4, 1e-5)


class SAM(tfreg.Step):
    radius = 0.5

    def compute_gradients(self, batch, *counts):
        shares = super().compute_gradients(batch, *counts)
        scale = self.radius / tfreg.optimizers.global_norm(shares.gradients)
        variables = self.adapted.trainable_variables
        before = [tf.identity(variable) for variable in variables]
        for variable, gradient in zip(variables, shares.gradients, strict=True):
            tfreg.optimizers.assign(variable, variable + scale * gradient)
        uphill = super().compute_gradients(batch, *counts)
        for variable, value in zip(variables, before, strict=True):
            tfreg.optimizers.assign(variable, value)
        return shares._replace(gradients=uphill.gradients)


@both_modes
def test_sam_takes_the_gradient_uphill(xla, batch):
    x, y = batch
    model, twin, start = (make_model() for _ in range(3))
    variables = twin.trainable_variables
    step = make_step(SAM, model)
    reports = train(step, batch, xla)
    for report in reports:
        before = [tf.identity(v) for v in variables]
        with tf.GradientTape() as tape:
            loss = mean_nats(y, twin(x))
        slope = tape.gradient(loss, variables)
        norm = np.sqrt(sum(np.sum(g.numpy() ** 2) for g in slope))
        for variable, gradient in zip(variables, slope, strict=True):
            variable.assign_add(SAM.radius / norm * gradient)
        with tf.GradientTape() as tape:
            uphill = mean_nats(y, twin(x))
        gradients = tape.gradient(uphill, variables)
        for variable, value, gradient in zip(variables, before, gradients, strict=True):
            variable.assign(value - RATE * gradient)
        assert report.loss.numpy() == pytest.approx(float(loss), rel=1e-5)
    check_twins(model, twin, start)


@pytest.mark.parametrize("where", ["eager", "in a replica", "across replicas"])
def test_assign_gives_every_copy_the_value(where, two_replicas):
    with two_replicas.scope():
        variable = tf.Variable([1.0, 2.0])
        if where == "across replicas":
            tfreg.optimizers.assign(variable, [3.0, 4.0])
    if where == "eager":
        variable = tf.Variable([1.0, 2.0])
        tfreg.optimizers.assign(variable, np.float64([3, 4]))
    if where == "in a replica":
        assign = tf.function(lambda: tfreg.optimizers.assign(variable, [3.0, 4.0]))
        two_replicas.run(assign)
    for copy in two_replicas.experimental_local_results(variable):
        np.testing.assert_array_equal(copy.numpy(), [3.0, 4.0])


class Reporting(tfreg.Step):
    def compute_loss(self, batch):
        logits = self.forward(batch.x)
        self.report("mine/squares", batch.x**2)  # [batch, 5]
        self.report("mine/mean", tf.reduce_mean(batch.x))
        return cross_entropy(batch.y, logits)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_values_of_ones_own_are_means_over_all_examples(mode, accumulate, rng):
    x = rng.normal(size=(10, 5)).astype(np.float32)  # Batches of 4, 4 and 2.
    split = tfreg.data.Split(x, rng.integers(0, 3, 10))
    step = make_step(Reporting, make_model(), accumulate=accumulate)
    loop = tfreg.Loop(step, split, batch_size=4, compile=mode)
    for report in (loop.train(0), loop.evaluate(split)):
        assert report.metrics["mine/squares"] == pytest.approx((x**2).mean(), rel=1e-5)
        assert report.metrics["mine/mean"] == pytest.approx(x.mean(), rel=1e-4)


def test_values_of_ones_own_are_means_over_replicas(two_replicas, rng):
    x = rng.normal(size=(10, 5)).astype(np.float32)  # Shares of 1 and 2, and 1 alone.
    split = tfreg.data.Split(x, rng.integers(0, 3, 10))
    with two_replicas.scope():
        step = make_step(Reporting, make_model())
        loop = tfreg.Loop(step, split, batch_size=3, compile="graph")
    report = loop.train(0)
    assert report.metrics["mine/squares"] == pytest.approx((x**2).mean(), rel=1e-5)
    assert report.metrics["mine/mean"] == pytest.approx(x.mean(), rel=1e-4)


def test_a_variable_that_nobody_trains_is_named(batch):
    temperature = tf.Variable(1.0, name="temperature")

    class Cooled(tfreg.Step):
        def compute_loss(self, batch):
            return cross_entropy(batch.y, self.forward(batch.x) / temperature)

    with pytest.raises(ValueError, match="never be trained: .*temperature.*frozen="):
        make_step(Cooled, make_model())(*batch)
    held = tf.Module()
    held.temperature = temperature
    make_step(Cooled, make_model(), frozen=[held])(*batch)


def test_a_model_without_variables_is_refused(batch):
    model = keras.Sequential([keras.Input((5,)), keras.layers.ReLU()])
    split = tfreg.data.Split(*(part.numpy() for part in batch))
    step = make_step(tfreg.Step, model)
    with pytest.raises(ValueError, match="model must have variables to train"):
        tfreg.Loop(step, split)
    with pytest.raises(ValueError, match="model must have variables to train"):
        step(*batch)


class Mean(tfreg.Step):
    def compute_loss(self, batch):
        return tf.reduce_mean(super().compute_loss(batch)[""])


class Means(tfreg.Step):
    def compute_loss(self, batch):
        losses = super().compute_loss(batch)[""]
        return {"each": losses, "mean": tf.reduce_mean(losses)}


def square(y, outputs):
    return (tf.cast(y, tf.float32) - outputs) ** 2


def take_mean(y, outputs):
    return tf.reduce_mean(cross_entropy(y, outputs))


@pytest.mark.parametrize(
    ("kind", "loss", "message"),
    [
        (tfreg.Step, take_mean, "data_loss must return the losses of the .* a scalar"),
        (Mean, cross_entropy, "losses must be of the examples.*leave the mean out"),
        (Means, cross_entropy, r"losses\['mean'\] must be of the examples"),
        (tfreg.Step, None, "got None: pass one, or override compute_loss"),
        (
            tfreg.Step,
            lambda y, outputs: square(y, outputs[:, :1]),
            "reshape one of them, so that they aren't broadcast",
        ),
        (
            tfreg.Step,
            lambda y, outputs: tf.reduce_mean(square(y[:, None], outputs), 0),
            "must return the losses of the 6 examples",
        ),
    ],
)
def test_losses_that_are_not_per_example_are_refused(kind, loss, message, batch):
    x, y = batch
    if "broadcast" in message:
        model, loss = make_model(outputs=1), square
    else:
        model = make_model()
    step = kind(model, loss, tfreg.optimizers.sgd(RATE))
    before = [v.numpy() for v in model.variables]
    for call in (step, step.evaluate, tf.function(step)):
        with pytest.raises(ValueError, match=message):
            call(x, y)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_metric_of_other_shapes_is_refused_by_its_name(batch):
    split = tfreg.data.Split(*(part.numpy() for part in batch))
    step = make_step(tfreg.Step, make_model(), metrics={"r2": None})
    with pytest.raises(ValueError, match=r"metrics\['r2'\] must fit targets"):
        tfreg.Loop(step, split)
    auc = {"curve": keras.metrics.AUC(from_logits=True)}
    step = make_step(tfreg.Step, make_model(), metrics=auc)
    with pytest.raises(ValueError, match=r"metrics\['curve'\] must fit targets"):
        tfreg.Loop(step, split)


def test_the_precision_is_that_of_a_keras_policy():
    layer = keras.layers.Dense(3, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((5,)), layer])
    make_step(tfreg.Step, model, precision="bfloat16")
    with pytest.raises(ValueError, match="precision must be that of the Keras model"):
        make_step(tfreg.Step, model)


@pytest.mark.parametrize(
    ("option", "replacement"),
    [
        ({"clipnorm": 1.0}, r"clip_norm="),
        ({"global_clipnorm": 1.0}, r"clip_norm="),
        ({"gradient_accumulation_steps": 2}, r"accumulate="),
    ],
)
def test_what_a_step_does_is_not_set_in_a_keras_optimizer(option, replacement):
    optimizer = keras.optimizers.SGD(0.1, **option)
    (name,) = option
    with pytest.raises(ValueError, match=rf"^{name} of .*use Step\({replacement}"):
        tfreg.Step(make_model(), cross_entropy, optimizer)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_every_function_of_a_user_may_branch_on_tensors(mode):
    # One weight w from 1, one example: 4 w ** 2, at the rates 0.1 and 0.2.
    class Doubled(tf.Module):
        def __init__(self):
            self.w = tf.Variable(1.0)

        def __call__(self, x):
            y = self.w * x
            if tf.reduce_sum(y) > 0:
                y = double(y)
            return y

    def double(y):
        if tf.size(y) > 0:
            y = 2 * y
        return y

    def squared(y, outputs):
        losses = tf.abs(outputs - y)
        if tf.reduce_all(losses < 100):
            losses = losses**2
        return losses[:, 0]

    def get_rate(step):
        rate = 0.1
        if step > 0:
            rate = 0.2
        return rate

    class Own(tfreg.Step):
        def compute_loss(self, batch):
            losses = super().compute_loss(batch)
            if tf.reduce_sum(batch.x) > 100:
                losses = {name: 0 * values for name, values in losses.items()}
            return losses

    x = np.ones([1, 1], np.float32)
    for kind in (tfreg.Step, Own):
        model = Doubled()
        step = kind(model, squared, tfreg.optimizers.sgd(get_rate))
        loop = tfreg.Loop(step, tfreg.data.Split(x, 0 * x), 1, compile=mode)
        losses = [loop.train(epoch).loss for epoch in range(2)]
        np.testing.assert_allclose(losses, [4.0, 4 * 0.2**2], rtol=1e-6)
        np.testing.assert_allclose(model.w, 0.2 - 0.2 * 8 * 0.2, rtol=1e-6)
