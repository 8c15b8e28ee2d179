"""TF1's losses and collections, against tf.compat.v1.losses in a graph."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import tf1

v1 = tf.compat.v1
REDUCTIONS = [r for r in dict.fromkeys(tf1.losses.Reduction.all()) if r != "none"]
LOSSES = [
    "absolute_difference",
    "cosine_distance",
    "hinge_loss",
    "huber_loss",
    "log_loss",
    "mean_pairwise_squared_error",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


def make_arguments(name, rng, dtype="float32"):
    labels = rng.integers(0, 2, [6, 5]).astype(dtype)
    outputs = rng.uniform(0.1, 0.9, [6, 5]).astype(dtype)
    if name == "softmax_cross_entropy":
        labels = np.eye(5)[rng.integers(0, 5, 6)].astype(dtype)
    elif name == "sparse_softmax_cross_entropy":
        labels = rng.integers(0, 5, 6)
    arguments = {"cosine_distance": {"axis": 1}, "huber_loss": {"delta": 0.3}}
    smooth = {"label_smoothing": 0.1}
    arguments["sigmoid_cross_entropy"] = arguments["softmax_cross_entropy"] = smooth
    return (labels, outputs), arguments.get(name, {})


def list_cases(name, rng):
    """Returns every kind of weights with every reduction."""
    each = np.float32([0, 1, 2, 0, 0.5, 1])
    each = each if "softmax" in name else each[:, np.newaxis]
    reductions = REDUCTIONS if "pairwise" not in name else [None]
    return [
        {"weights": weights} | ({"reduction": reduction} if reduction else {})
        for weights in (1.0, 0.3, 0.0, each)
        for reduction in reductions
    ]


def run_graph(function, arguments, keywords, cases):
    """Returns losses, gradients, and the scope of the names in the collection."""
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = tf.constant(arguments[1])
        losses = [function(arguments[0], outputs, **keywords, **c) for c in cases]
        assert v1.losses.get_losses() == losses
        gradients = [tf.gradients(loss, outputs)[0] for loss in losses]
        values = session.run([losses, gradients])
        return *values, losses[0].name.rpartition("/")[0]


def run_ours(function, arguments, keywords, cases, scope):
    outputs = tf.constant(arguments[1])
    with tfreg.step_scope(), tf.GradientTape(persistent=True) as tape:
        tape.watch(outputs)
        losses = [function(arguments[0], outputs, **keywords, **c) for c in cases]
        for found, loss in zip(tf1.losses.get_losses(scope), losses, strict=True):
            assert found is loss
    return losses, [tape.gradient(loss, outputs) for loss in losses]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_losses_gradients_and_names_are_tf1s(name, rng):
    arguments, keywords = make_arguments(name, rng)
    cases = list_cases(name, rng)
    *truth, scope = run_graph(getattr(v1.losses, name), arguments, keywords, cases)
    function = getattr(tf1.losses, name)

    def run():
        return run_ours(function, arguments, keywords, cases, f"{scope}(_[0-9]+)?/")

    for losses, gradients in (run(), tf.function(run)()):
        np.testing.assert_allclose(losses, truth[0], rtol=1e-6)
        np.testing.assert_allclose(gradients, truth[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [*LOSSES, "compute_weighted_loss"])
def test_arguments_their_order_and_defaults_are_tf1s(name):
    truth = inspect.signature(getattr(v1.losses, name)).parameters.values()
    ours = inspect.signature(getattr(tf1.losses, name)).parameters.values()
    # cosine_distance had `dim`, the old name of `axis`.
    pairs = [(p.name, p.default) for p in truth if p.name != "dim"]
    assert [(p.name, p.default) for p in ours] == pairs


def test_a_weighted_loss_is_the_sum_over_what_its_reduction_says():
    expected = {
        "weighted_sum": 6,
        "weighted_sum_over_batch_size": 1.5,
        "weighted_mean": 1.5,
        "weighted_sum_by_nonzero_weights": 3,
    }
    assert set(expected) == set(REDUCTIONS)
    with tfreg.step_scope():
        for reduction, value in expected.items():
            loss = tf1.losses.compute_weighted_loss(
                [[1.0, 2.0], [3.0, 4.0]], [[2.0], [0.0]], reduction=reduction
            )
            assert float(loss) == value
        unreduced = tf1.losses.compute_weighted_loss(
            [[1.0, 2.0]], 2.0, reduction="none", loss_collection="unreduced"
        )
        np.testing.assert_array_equal(unreduced, [[2, 4]])
        with pytest.raises(ValueError, match="Invalid Reduction Key mean"):
            tf1.losses.compute_weighted_loss([1.0], reduction="mean")
        with pytest.raises(ValueError, match="weights can not be broadcast"):
            tf1.losses.compute_weighted_loss([1.0, 2.0], [1.0, 2.0, 3.0])
        assert len(tf1.losses.get_losses()) == 4


def build(t, regularizer):
    """A program with losses in scopes, for tf.compat.v1 and for tf1."""
    for name in ("a", "b"):
        with t.variable_scope(name):
            w = t.get_variable(
                "w",
                [3],
                initializer=v1.constant_initializer(float(ord(name))),
                regularizer=regularizer,
            )
            t.losses.mean_squared_error([0.0, 0.0, 0.0], w)
            t.losses.absolute_difference([0.0, 0.0, 0.0], w, 0.5, scope="inner")
    t.losses.add_loss(tf.constant(0.25))
    t.losses.mean_squared_error([1.0], [3.0], loss_collection="mine")


def read(t):
    return [
        t.losses.get_total_loss(),
        t.losses.get_total_loss(False),
        t.losses.get_total_loss(scope="a"),
        t.losses.get_total_loss(scope="a/", add_regularization_losses=False),
        t.losses.get_total_loss(scope="b/inner"),
        t.losses.get_regularization_loss(),
        t.losses.get_regularization_loss("b"),
        t.losses.get_regularization_loss("none"),
        *t.losses.get_regularization_losses(),
        *t.losses.get_losses(),
        *t.losses.get_losses(loss_collection="mine"),
    ]


@pytest.mark.parametrize("graph", [False, True])
def test_totals_and_scopes_are_tf1s(graph):
    def regularizer(w):
        return 0.1 * tf.reduce_sum(w)

    with tf.Graph().as_default(), v1.Session() as session:
        build(v1, regularizer)
        results = read(v1)
        session.run(v1.global_variables_initializer())
        truth = session.run(results)
    model = tf1.Model(lambda: build(tf1, regularizer))

    def step():
        with tfreg.step_scope():
            model()
            return read(tf1)

    run = tf.function(step) if graph else step
    for _ in range(2):  # At a second step nothing is left of the first.
        np.testing.assert_allclose(run(), truth, rtol=1e-6)


def test_a_step_in_which_nothing_was_collected_has_no_total():
    with tf.Graph().as_default(), pytest.raises(ValueError):
        v1.losses.get_total_loss()
    with (
        tfreg.step_scope(),
        pytest.raises(ValueError, match="total"),
    ):
        tf1.losses.get_total_loss()


def test_what_would_go_stale_is_refused():
    with pytest.raises(ValueError, match="step"):
        tf1.losses.mean_squared_error([1.0], [2.0])
    alone = tf1.losses.mean_squared_error([1.0], [2.0], loss_collection=None)
    assert float(alone) == 1.0
    with tfreg.step_scope():
        tf1.losses.compute_weighted_loss([1.0, 2.0], reduction="none")
        with pytest.raises(ValueError, match="scalar"):
            tf1.losses.get_total_loss()


def collect_in_a_function(x):
    return tf.function(lambda x: tf1.losses.mean_squared_error([0.0], x))(x)


def collect_in_a_branch(x):
    zero = [0.0]
    return tf.cond(
        x[0] > 0,
        lambda: tf1.losses.mean_squared_error(zero, x),
        lambda: tf.constant(0.0),
    )


@pytest.mark.parametrize("collect", [collect_in_a_function, collect_in_a_branch])
def test_losses_that_a_total_cannot_reach_are_reported(collect):
    def step(x):
        collect(x)
        tf1.losses.add_loss(tf.reduce_sum(x))
        return tf1.losses.get_total_loss()

    message = "mean_squared_error/value must be collected in the step that sums it"
    with pytest.raises(ValueError, match=message):
        tf.function(step)(tf.ones([1]))

    def step_by_hand(x):
        with tfreg.step_scope():
            loss = collect(x)
        tf1.losses.add_loss(loss)
        return tf1.losses.get_total_loss()

    with tfreg.Store().as_default():
        assert float(tf.function(step_by_hand)(2.0 * tf.ones([1]))) == 4.0


def test_eager_code_does_not_miss_what_a_function_collected():
    w = tf.Variable(1.0)
    tfreg.apply_regularization(tfreg.l2_regularizer(0.5), [w])
    run = tf.function(lambda x: tf1.losses.mean_squared_error([0.0], x * w))
    with (
        tfreg.step_scope(),
        pytest.raises(ValueError, match="collected"),
    ):
        run(tf.ones([1]))
        tf1.losses.get_total_loss()


def test_a_function_that_sums_its_own_losses_is_no_other_totals_matter():
    @tf.function
    def inner(x):
        tf1.losses.mean_squared_error([0.0], x)
        return tf1.losses.get_total_loss()

    @tf.function
    def outer(x):
        total = inner(x)
        tf1.losses.add_loss(tf.reduce_sum(x))
        return total, tf1.losses.get_total_loss()

    assert [float(v) for v in outer(tf.constant([3.0]))] == [9.0, 3.0]


def test_half_precision_is_summed_in_single():
    many = tf.fill([70_000], tf.constant(2.0, tf.float16))
    with tfreg.step_scope():
        loss = tf1.losses.compute_weighted_loss(many)
        assert loss.dtype == tf.float16 and float(loss) == 2.0


@pytest.mark.parametrize("sizes", [[4, 4], [5, 3]])
def test_shares_of_replicas_add_up_to_the_clones_total(sizes, rng, two_replicas):
    strategy = two_replicas
    x = rng.normal(size=[8, 3]).astype("float32")
    y = rng.normal(size=[8, 1]).astype("float32")
    w = rng.normal(size=[3, 1]).astype("float32")

    def forward(x, y):
        kernel = tf1.get_variable(
            "w", initializer=w, regularizer=tf1.l2_regularizer(0.5)
        )
        tf1.losses.mean_squared_error(y, x @ kernel)
        tf1.losses.add_loss(tf.reduce_sum(kernel))  # CIFAR-10's way of decay.

    net = tf1.Model(forward)

    def step(x, y):
        with tf.GradientTape() as tape:
            net(x, y)
            loss = tf1.losses.get_total_loss(num_examples=tf.shape(x)[0])
        return loss, tape.gradient(loss, net.trainable_variables[0])

    def pick(values):
        parts = np.split(values, [sizes[0]])
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    @tf.function
    def run(x, y):
        return [
            strategy.reduce("SUM", value, axis=None)
            for value in strategy.run(step, (x, y))
        ]

    loss, gradient = run(pick(x), pick(y))
    error = x @ w - y
    np.testing.assert_allclose(
        loss, np.mean(error**2) + w.sum() + 0.25 * (w**2).sum(), rtol=1e-6
    )
    truth = 2 * x.T @ error / 8 + 1 + 0.5 * w
    np.testing.assert_allclose(gradient, truth, rtol=1e-5, atol=1e-6)
