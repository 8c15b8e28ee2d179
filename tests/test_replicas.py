"""N replicas are one device: gradients, penalties, clipping, normalization, updates.

The truth is a closed form in float64, or one device that has the whole batch. Losses
and gradients are float32 sums of up to 40 terms: 1e-6 of the largest is some roundings.
"""

import functools
import inspect
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfreg
from tfreg import data, layers, losses, optimizers
from tfreg.collections import totals
from tfreg.layers import normalization
from tfreg.optimizers import gradients
from tfreg.training import loop as loops
from tfreg.training import replicas as sharing
from tfreg.training import step as steps
from tfreg.training import updates

KERNEL, BIAS, ACTIVITY = 0.1, 0.2, 0.3  # Scales of L2.


@functools.cache
def make_strategy(kind):
    """Returns a strategy on logical CPUs: "none", "one device", or N replicas."""
    if kind == "none":
        return tf.distribute.get_strategy()
    if kind == "one device":
        return tf.distribute.OneDeviceStrategy("CPU:0")
    # TensorFlow's collectives remember a group's size as long as the process lives.
    mirrored = tf.distribute.MirroredStrategy
    mirrored._collective_key_base += 100
    strategy = mirrored([f"CPU:{i}" for i in range(kind)])
    mirrored._collective_key_base += 100
    return strategy


def distribute(strategy, values):
    """Returns an array's parts, one for each replica; the last ones may be empty."""
    if values is None:
        return None
    parts = np.array_split(values, strategy.num_replicas_in_sync)
    if len(parts) == 1:
        return tf.constant(values)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


def break_source(monkeypatch, owner, name, old, new):
    """Replaces a function by its own source with an expression changed."""
    function = inspect.unwrap(inspect.getattr_static(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("def ") :]
    assert source.count(old) == 1, f"{name} has no {old!r}: break what is there now"
    names = {}
    module = inspect.getmodule(function)
    exec(source.replace(old, new), vars(module), names)  # noqa: S102
    monkeypatch.setattr(owner, name, names[name])


def make_dense(**penalized):
    return layers.Dense(
        3,
        kernel_regularizer=tfreg.l2_regularizer(KERNEL),
        bias_regularizer=tfreg.l2_regularizer(BIAS),
        activity_regularizer=tfreg.l2_regularizer(ACTIVITY),
    )


def make_problem(examples, weighted=False):
    """Returns x, y, weights (some are 0) of as many examples, and a kernel and bias."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    weights = np.array([1.5, 0, 2, 0, 0, 1, 0.5, 0])[:examples] if weighted else None
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    problem = x[:examples], y[:examples], weights, kernel, bias
    return [None if v is None else v.astype(np.float32) for v in problem]


def solve(x, y, weights, kernel, bias):
    """Returns loss and gradients of a Dense layer's mean squared error, in float64."""
    x, y, kernel, bias = (v.astype(np.float64) for v in (x, y, kernel, bias))
    weights = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    outputs = x @ kernel + bias
    per_example = np.mean((outputs - y) ** 2, 1)
    count = np.count_nonzero(weights)
    loss = np.sum(weights * per_example) / max(count, 1)
    loss += KERNEL * np.sum(kernel**2) / 2 + BIAS * np.sum(bias**2) / 2
    loss += ACTIVITY * np.sum(outputs**2) / 2 / len(x)
    slopes = 2 / 3 * (outputs - y) * weights[:, np.newaxis] / max(count, 1)
    slopes += ACTIVITY * outputs / len(x)
    return loss, x.T @ slopes + KERNEL * kernel, slopes.sum(0) + BIAS * bias


def compute(strategy, x, y, weights, kernel, bias, how="per example", eager=False):
    """Returns total_loss and its gradients, summed over the replicas."""
    with tfreg.Store(seed=0).as_default(), strategy.scope():
        layer = make_dense()
        with tfreg.step_scope():
            layer(tf.zeros([1, 4]))
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
        num_examples = len(x)

        def replica(x, y, weights):
            with tf.GradientTape() as tape:
                per_example = losses.mean_squared_error(y, layer(x))
                size = num_examples if "global size" in how else None
                if "mean" in how:
                    mean, number = tf.reduce_mean(per_example), tf.shape(x)[0]
                    counts = {"num_examples": number, "global_batch_size": size}
                    loss = losses.total_loss(mean, layer, **counts)
                else:
                    counts = {"weights": weights, "global_batch_size": size}
                    loss = losses.total_loss(per_example, layer, **counts)
            return loss, tape.gradient(loss, [layer.kernel, layer.bias])

        def run(*parts):
            outcome = strategy.run(replica, parts)
            return tf.nest.map_structure(
                lambda value: strategy.reduce("SUM", value, axis=None), outcome
            )

        parts = [distribute(strategy, value) for value in (x, y, weights)]
        if eager:
            with tfreg.step_scope():
                loss, found = run(*parts)
        else:
            loss, found = tf.function(run)(*parts)
        return loss.numpy(), *(gradient.numpy() for gradient in found)


def check(got, want, rtol=1e-6):
    for value, truth in zip(got, want, strict=True):
        np.testing.assert_allclose(value, truth, atol=rtol * np.max(np.abs(truth)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("examples", [8, 7, 1])  # Even, ragged, empty replicas.
@pytest.mark.parametrize("kind", ["none", "one device", 1, 2, 4])
def test_loss_and_gradient_are_the_closed_form(kind, examples, weighted):
    problem = make_problem(examples, weighted)
    check(compute(make_strategy(kind), *problem), solve(*problem))


@pytest.mark.parametrize(
    "how", ["mean", "mean, global size", "per example, global size"]
)
@pytest.mark.parametrize("examples", [7, 1])
@pytest.mark.parametrize("kind", ["none", 2])
def test_a_mean_and_a_known_size_give_the_same(kind, examples, how):
    problem = make_problem(examples)
    check(compute(make_strategy(kind), *problem, how), solve(*problem))


@pytest.mark.parametrize("examples", [7, 1])
def test_weights_and_a_known_size_give_the_same(examples):
    problem = make_problem(examples, weighted=True)
    got = compute(make_strategy(2), *problem, "per example, global size")
    check(got, solve(*problem))


def test_where_every_weight_is_0_there_are_the_penalties_alone():
    x, y, weights, kernel, bias = make_problem(7, weighted=True)
    problem = x, y, 0 * weights, kernel, bias
    check(compute(make_strategy(2), *problem), solve(*problem))


@pytest.mark.parametrize("kind", ["one device", 2, 4])
def test_eager_replicas_in_a_step_scope_give_the_same(kind):
    problem = make_problem(7, weighted=True)
    check(compute(make_strategy(kind), *problem, eager=True), solve(*problem))


@pytest.mark.parametrize("num_microbatches", [2, 3])
def test_microbatches_add_up_to_the_whole_batch(num_microbatches):
    x, y, _, kernel, bias = make_problem(7)
    strategy = make_strategy(2)
    parts = [np.array_split(v, num_microbatches) for v in (x, y)]
    sums = 0, 0, 0
    layer = make_dense()
    with strategy.scope(), tfreg.step_scope():
        layer(tf.zeros([1, 4]))
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)

    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = losses.total_loss(
                losses.mean_squared_error(y, layer(x)),
                global_batch_size=7,
                microbatches=num_microbatches,
            )
        return loss, *tape.gradient(loss, [layer.kernel, layer.bias])

    @tf.function
    def run(x, y):
        outcome = strategy.run(replica, (x, y))
        return [strategy.reduce("SUM", value, axis=None) for value in outcome]

    for part in zip(*parts, strict=True):
        outcome = run(*(distribute(strategy, value) for value in part))
        sums = [
            total + value.numpy() for total, value in zip(sums, outcome, strict=True)
        ]
    check(sums, solve(x, y, None, kernel, bias))


@pytest.mark.parametrize("weighted", [False, True])
def test_across_replicas_what_they_returned_is_the_data_loss(weighted):
    x, y, weights, kernel, bias = make_problem(7, weighted)
    strategy = make_strategy(2)
    with strategy.scope():
        layer = layers.Dense(3, kernel_regularizer=tfreg.l2_regularizer(KERNEL))
        layer(tf.zeros([1, 4]))
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)

        @tf.function
        def run(x, y, weights):
            per_example = strategy.run(
                lambda x, y: losses.mean_squared_error(y, layer(x)), (x, y)
            )
            means = strategy.run(tf.reduce_mean, (per_example,))
            numbers = strategy.run(tf.size, (per_example,))
            both = [losses.total_loss(per_example, weights=weights)]
            if weights is None:
                both.append(losses.total_loss(means, num_examples=numbers))
            return both

        both = run(*(distribute(strategy, value) for value in (x, y, weights)))
    outputs = x.astype(np.float64) @ kernel + bias
    per_example = np.mean((outputs - y) ** 2, 1)
    count = 7 if weights is None else np.count_nonzero(weights)
    want = np.sum(per_example * (1 if weights is None else weights)) / count
    want += KERNEL * np.sum(kernel.astype(np.float64) ** 2) / 2
    np.testing.assert_allclose(both, want, rtol=1e-6)


@pytest.mark.parametrize("kind", [1, 2, 4])
def test_penalties_of_keras_layers_count_once(kind):
    strategy = make_strategy(kind)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 5)).astype(np.float32)  # With four, one has no example.
    with strategy.scope():
        dense = keras.layers.Dense(
            2,
            kernel_initializer=keras.initializers.GlorotUniform(seed=3),
            kernel_regularizer=keras.regularizers.L2(KERNEL),
        )
        model = keras.Sequential([dense])
        model.build([None, 5])
    (kernel, _) = model.get_weights()

    def replica(x):
        with tf.GradientTape() as tape:
            per_example = tf.reduce_mean(model(x), 1)
            for penalty in model.losses:
                tfreg.add_loss(penalty)
            total = losses.total_loss(per_example)
        return total, tape.gradient(total, model.trainable_variables[0])

    @tf.function
    def run(x):
        found = strategy.run(replica, (x,))
        return [strategy.reduce("SUM", value, axis=None) for value in found]

    total, gradient = run(distribute(strategy, x))
    wide = kernel.astype(np.float64)
    want = np.mean(x @ wide) + KERNEL * np.sum(wide**2)
    # Float32, and a mean and a penalty of about 0.5 that may cancel.
    np.testing.assert_allclose(total, want, atol=1e-6)
    want = np.repeat(x.mean(0, keepdims=True).T / 2, 2, 1) + 2 * KERNEL * wide
    np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-7)


def test_outside_of_the_scope_what_the_replicas_returned_is_refused():
    strategy = make_strategy(2)
    per_example = strategy.run(lambda: tf.ones([3]))
    message = "losses must be of one replica outside of strategy.scope(), got those of"
    with pytest.raises(ValueError, match=re.escape(message)):
        losses.total_loss(per_example)


BREAKAGES = {
    "penalties count N times": (
        totals,
        "split_total",
        "value / (replicas * microbatches)",
        "value / microbatches",
    ),
    "replicas count alike": (
        totals,
        "_add_over_replicas",
        'context.all_reduce("SUM", tf.stack(values))',
        "tf.stack(values) * context.num_replicas_in_sync",
    ),
    "activities count alike": (
        totals,
        "split_total",
        "tf.math.multiply_no_nan(value, share)",
        "value / replicas",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_the_closed_form_notices_that(breakage, monkeypatch):
    break_source(monkeypatch, *BREAKAGES[breakage])
    problem = make_problem(7)
    with pytest.raises(AssertionError):
        check(compute(make_strategy(2), *problem), solve(*problem))


@pytest.mark.parametrize("kind", ["none", 2])
def test_replicas_see_each_term_once_and_their_own_activities(kind):
    # In TF1 the second replica had 6.0 where the first had 3.0.
    strategy = make_strategy(kind)
    with strategy.scope():
        layer = layers.Dense(
            1,
            use_bias=False,
            kernel_initializer=lambda shape, seed: tf.ones(shape),
            kernel_regularizer=tf.reduce_sum,
            activity_regularizer=tf.reduce_sum,
        )

    def replica():
        layer(tf.fill([2, 1], 2.0))
        return tf.stack(tfreg.get_collection("regularization_losses"))

    @tf.function
    def run():
        return strategy.experimental_local_results(strategy.run(replica))

    for values in run():
        assert values.numpy().tolist() == [1.0, 2.0]
        assert sum(values.numpy()) == 3.0


@pytest.mark.parametrize("kind", ["one device", 2, 4])
@pytest.mark.parametrize("make_optimizer", [optimizers.adam, keras.optimizers.Adam])
def test_a_loop_of_ones_own_trains_as_on_one_device(make_optimizer, kind, rng):
    x = rng.normal(size=(21, 5)).astype(np.float32)
    y = rng.integers(0, 3, 21).astype(np.int32)
    weights = [
        _train_own(make_strategy(k), make_optimizer, x, y) for k in ("none", kind)
    ]
    for alone, shared in zip(*weights, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=1e-4, atol=1e-6)


def _train_own(strategy, make_optimizer, x, y):
    with tfreg.Store(seed=0).as_default(), strategy.scope():
        penalty = tfreg.l2_regularizer(1e-2)
        model = tfreg.models.MLP(
            [4, 3], tf.nn.tanh, kernel_regularizer=penalty, activity_regularizer=penalty
        )
        with tfreg.step_scope():
            model(x[:1])
        optimizer = make_optimizer(1e-2)
        optimizer.build(model.trainable_variables)

        def replica(x, y):
            with tf.GradientTape() as tape:
                per_example = losses.sparse_softmax_cross_entropy(y, model(x))
                loss = losses.total_loss(per_example)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)

        run = tf.function(
            lambda x, y: strategy.run(replica, (x, y)), reduce_retracing=False
        )
        for _ in range(10):  # The last batch has 1 example, fewer than replicas.
            for i in range(0, 21, 5):
                batch = x[i : i + 5], y[i : i + 5]
                run(*(distribute(strategy, value) for value in batch))
    return [v.numpy() for v in model.trainable_variables]


# The step and the loop.

RATE, NORM = 0.5, 0.3  # A norm that every gradient of the problem exceeds.


def solve_update(problem, clip_norm=NORM):
    """Returns kernel and bias after a step of clipped gradient descent, in float64."""
    _, *found = solve(*problem)
    norm = np.sqrt(sum(np.sum(gradient**2) for gradient in found))
    assert norm > NORM
    shrunk = min(1, clip_norm / norm) if clip_norm else 1
    pairs = zip(problem[-2:], found, strict=True)
    return [weight - RATE * shrunk * gradient for weight, gradient in pairs]


def update(kind, how, problem, **arguments):
    """Returns kernel and bias after one step, and the report."""
    x, y, _, kernel, bias = problem
    strategy = make_strategy(kind)
    with tfreg.Store(seed=0).as_default(), strategy.scope():
        layer = make_dense()
        optimizer = optimizers.sgd(RATE)
        step = steps.Step(layer, losses.mean_squared_error, optimizer, **arguments)
        loop = loops.Loop(step, data.Split(x, y), batch_size=8)
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
        if how == "loop":
            report = loop.train(0)
        else:
            run = tf.function(lambda x, y: strategy.run(step, (x, y)))
            outcome = run(distribute(strategy, x), distribute(strategy, y))
            local = strategy.experimental_local_results
            report = tf.nest.map_structure(lambda v: local(v)[0], outcome)
    copies = [
        strategy.experimental_local_results(v) for v in (layer.kernel, layer.bias)
    ]
    for values in copies:
        for value in values:
            np.testing.assert_array_equal(value, values[0])
    return [values[0].numpy() for values in copies], report


@pytest.mark.parametrize(
    ("kind", "how", "examples", "accumulate"),
    [
        ("none", "run", 7, 1),
        ("one device", "run", 7, 3),
        (2, "run", 7, 1),
        (2, "run", 1, 3),
        (4, "run", 7, 3),
        (4, "run", 1, 1),
        ("none", "loop", 7, 3),
        ("none", "loop", 1, 3),
        (1, "loop", 7, 1),
        (2, "loop", 7, 3),
        (4, "loop", 1, 3),
    ],
)
@pytest.mark.parametrize("clip_norm", [NORM, None])
def test_an_update_sums_then_clips_then_applies(
    kind, how, examples, accumulate, clip_norm
):
    problem = make_problem(examples)
    arguments = {"accumulate": accumulate, "clip_norm": clip_norm}
    got, report = update(kind, how, problem, **arguments)
    check(got, solve_update(problem, clip_norm))
    loss, *found = solve(*problem)
    norm = np.sqrt(sum(np.sum(gradient**2) for gradient in found))
    np.testing.assert_allclose(report.gradient_norm, norm, rtol=1e-6)
    if how == "loop":  # In strategy.run each replica reports its share.
        np.testing.assert_allclose(report.total, loss, rtol=1e-6)


BREAKAGES_OF_THE_STEP = {
    ("replicas clip before the sum", "run"): (
        steps.Step,
        "__call__",
        "[*own.gradients, *parts]",
        "[*tf.clip_by_global_norm(own.gradients, self.clip_norm)[0], *parts]",
    ),
    ("shared replicas clip before the sum", "loop"): (
        sharing.SharedSteps,
        "_run_backward",
        "values = [*dense.values(), ",
        "values = [*tf.clip_by_global_norm([*dense.values()], 0.3)[0], ",
    ),
    ("replicas take their own size for all", "loop"): (
        sharing.SharedSteps,
        "_run_backward",
        "compute_gradients(batch, size, ",
        "compute_gradients(batch, 2 * (stop - first), ",
    ),
    ("weights are penalized twice", "run"): (
        updates.Updater,
        "apply",
        "map(gradients.add, summed, ",
        "map(gradients.add, map(gradients.add, summed, self._differentiate(model)), ",
    ),
    ("nothing is summed", "run"): (
        gradients,
        "sum_over_replicas",
        'context.all_reduce("SUM", pack([dense[i] for i in places]))',
        "pack([dense[i] for i in places])",
    ),
}


@pytest.mark.parametrize(("breakage", "how"), BREAKAGES_OF_THE_STEP)
def test_the_updates_closed_form_notices_that(breakage, how, monkeypatch):
    break_source(monkeypatch, *BREAKAGES_OF_THE_STEP[breakage, how])
    problem = make_problem(7)
    want = solve_update(problem)
    with pytest.raises(AssertionError):
        check(update(2, how, problem, clip_norm=NORM)[0], want)


def make_mlp():
    penalty = tfreg.l2_regularizer(1e-2)
    return tfreg.models.MLP(
        [6, 3],
        tf.nn.tanh,
        kernel_regularizer=penalty,
        bias_regularizer=penalty,
        activity_regularizer=penalty,
    )


def make_normalized():
    penalty = tfreg.l2_regularizer(1e-2)
    norm = normalization.BatchNorm(0.9, gamma_regularizer=penalty)
    # Behind a bias BatchNorm would leave it a gradient of roundings, for Adam to grow.
    first = layers.Dense(6, use_bias=False)
    return layers.Sequential([first, norm, tf.nn.tanh, layers.Dense(3)])


TRAJECTORIES = {
    "clipped": (make_mlp, optimizers.momentum, {"clip_norm": 0.1}),
    "accumulated": (make_mlp, optimizers.adam, {"accumulate": 3}),
    "normalized": (make_normalized, optimizers.adam, {}),
}


def train(kind, make_model, make_optimizer, num_epochs=23, **arguments):
    """Returns the data loss of each epoch and the weights; 9 steps, of 8 or 1."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(65, 5)).astype(np.float32)
    y = np.argmax(x @ rng.normal(size=(5, 3)), 1).astype(np.int32)
    strategy = make_strategy(kind)
    with tfreg.Store(seed=0).as_default():
        with strategy.scope():
            model = make_model()
            step = steps.Step(
                model,
                losses.sparse_softmax_cross_entropy,
                make_optimizer(1e-2),
                **arguments,
            )
        # Compiling for each replica takes most of the time; shorter tests do it.
        given = {"strategy": strategy, "compile": "graph" if kind in (2, 4) else "auto"}
        loop = loops.Loop(step, data.Split(x, y), batch_size=8, **given)
        found = [loop.train(epoch).loss for epoch in range(num_epochs)]
    return found, [v.numpy() for v in model.variables]


@functools.cache
def train_alone(case):
    make_model, make_optimizer, arguments = TRAJECTORIES[case]
    return train("none", make_model, make_optimizer, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "kind"), [("normalized", 4), ("clipped", 4), ("accumulated", 2)]
)
def test_200_steps_are_those_of_one_device(case, kind):
    make_model, make_optimizer, arguments = TRAJECTORIES[case]
    got = train(kind, make_model, make_optimizer, **arguments)
    want = train_alone(case)
    assert want[0][-1] < want[0][0] / 2  # There is something to compare.
    np.testing.assert_allclose(got[0], want[0], rtol=1e-4)
    for shared, alone in zip(got[1], want[1], strict=True):
        # Roundings of 207 steps; a weight may be near 0.
        np.testing.assert_allclose(shared, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["one device", 1])
@pytest.mark.parametrize("case", TRAJECTORIES)
def test_on_one_device_a_strategy_changes_no_bit(case, kind):
    make_model, make_optimizer, arguments = TRAJECTORIES[case]
    got = train(kind, make_model, make_optimizer, **arguments)
    want = train_alone(case)
    assert got[0] == want[0]
    for shared, alone in zip(got[1], want[1], strict=True):
        np.testing.assert_array_equal(shared, alone)


@pytest.mark.parametrize("kind", ["none", "one device", 1])
def test_on_one_device_many_steps_are_one_compiled_program(kind):
    x, y, *_ = make_problem(8)
    strategy = make_strategy(kind)
    with strategy.scope():
        step = steps.Step(make_dense(), losses.mean_squared_error, optimizers.sgd(RATE))
        loop = loops.Loop(step, data.Split(x, y), batch_size=2)
    assert loop.mode.name == "xla"
    call = next(iter(loop._feed.list_calls(0)))
    args = call.data, call.size, tf.constant(0, tf.int64), tf.constant(0)
    block = loop.blocks._block
    graph = block.get_concrete_function(*args, loop._zeros, 3).graph
    operations = graph.get_operations()
    calls = [op for op in operations if op.type == "StatefulPartitionedCall"]
    assert [op.get_attr("_XlaMustCompile") for op in calls] == [True]
    kinds = {op.type for op in operations} - {"StatefulPartitionedCall"}
    assert kinds <= {"Placeholder", "Const", "Identity", "NoOp"}


@pytest.mark.filterwarnings("ignore:weights should shrink")
def test_a_variable_that_is_not_used_stays_as_it_is_on_any_number_of_replicas():
    class Partly(tf.Module):
        def __init__(self):
            super().__init__()
            self.first = tf.Variable(1.0)
            self.layer = make_dense()

        def __call__(self, inputs, training=False):
            return self.layer(inputs)

    problem = make_problem(7)
    found = []
    for kind in ("none", 2):
        strategy = make_strategy(kind)
        with tfreg.Store(seed=0).as_default(), strategy.scope():
            model = Partly()
            # With decay it would move at a gradient of 0 too.
            optimizer = optimizers.adamw(0.1, weight_decay=0.1)
            step = steps.Step(model, losses.mean_squared_error, optimizer)
            loop = loops.Loop(step, data.Split(*problem[:2]), batch_size=4)
            loop.train(0)
        assert model.first.numpy() == 1.0
        found.append([v.numpy() for v in model.variables])
    for alone, shared in zip(*found, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=1e-4, atol=1e-6)


def test_a_model_may_be_any_object_with_variables():
    class Model:
        def __init__(self):
            self.layer = make_dense()

        @property
        def trainable_variables(self):
            return self.layer.trainable_variables

        def __call__(self, inputs, training):
            return self.layer(inputs)

    x, y, *_ = make_problem(8)
    for kind in ("none", 2):
        with tfreg.Store(seed=0).as_default(), make_strategy(kind).scope():
            model = Model()
            step = steps.Step(model, losses.mean_squared_error, optimizers.sgd(RATE))
            loop = loops.Loop(step, data.Split(x, y))
        pair = model.layer.kernel, model.layer.bias
        problem = x, y, None, *(v.numpy() for v in pair)
        loop.train(0)
        check([v.numpy() for v in pair], solve_update(problem, None))


@pytest.mark.parametrize("what", ["scale", "rate", "model", "optimizer"])
def test_what_was_made_outside_of_the_scope_is_named(what):
    x, y, *_ = make_problem(8)
    value = tf.Variable(0.1, name="outside")
    outer, strategy = make_strategy("none"), make_strategy(2)
    with (outer if what == "model" else strategy).scope():
        penalty = tfreg.l2_regularizer(value if what == "scale" else 0.1)
        layer = layers.Dense(3, kernel_regularizer=penalty, name="inside")
        if what == "model":
            layer(x)
    with (outer if what == "optimizer" else strategy).scope():
        optimizer = optimizers.sgd(value if what == "rate" else 0.1)
    step = steps.Step(layer, losses.mean_squared_error, optimizer)
    loop = loops.Loop(step, data.Split(x, y), strategy=strategy)
    error, message = {
        "scale": (
            ValueError,
            "every variable must be created in strategy.scope(), got out",
        ),
        "rate": (
            ValueError,
            "every variable must be created in strategy.scope(), got out",
        ),
        "model": (
            ValueError,
            "every variable must be created in strategy.scope(), got ins",
        ),
        "optimizer": (RuntimeError, "make all in strategy.scope()"),
    }[what]
    with pytest.raises(error, match=re.escape(message)):
        loop.train(0)


# Batch normalization.


def normalize(kind, x, weights, synchronized=True):
    """Returns outputs, gradients of inputs, gamma and beta, and the moving averages.

    The loss is a weighted sum of the outputs' squares; by replica, where not summed.
    """
    strategy = make_strategy(kind)
    with strategy.scope():
        layer = normalization.BatchNorm(momentum=0.9, synchronized=synchronized)
        layer(tf.ones([1, x.shape[-1]]))
        layer.gamma.assign([0.5, 2.0, 1.0])

    def replica(x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(weights * outputs**2 + weights * outputs)
        return outputs, *tape.gradient(loss, [x, layer.gamma, layer.beta])

    parts = distribute(strategy, x), distribute(strategy, weights)
    outcome = tf.function(lambda *parts: strategy.run(replica, parts))(*parts)
    local = strategy.experimental_local_results
    outputs, slopes = (np.concatenate(local(value)) for value in outcome[:2])
    sums = [sum(part.numpy() for part in local(value)) for value in outcome[2:]]
    copies = [local(v) for v in (layer.moving_mean, layer.moving_variance)]
    return outputs, slopes, *sums, *(np.array(values) for values in copies)


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("examples", [8, 7, 2])  # 2: of 4 replicas two are empty.
@pytest.mark.parametrize("kind", [2, 4])
def test_batch_norm_on_replicas_is_that_of_one_device(kind, examples, shift, rng):
    x = (rng.normal(size=(examples, 3)) + shift).astype(np.float32)
    weights = rng.normal(size=(examples, 3)).astype(np.float32)
    got, want = normalize(kind, x, weights), normalize("none", x, weights)
    # A number near 1,000 keeps four digits of what is about 1.
    rtol = 2e-3 if shift else 1e-5
    for shared, alone in zip(got[:4], want[:4], strict=True):
        np.testing.assert_allclose(shared, alone, rtol, rtol * np.abs(alone).max())
    for shared, alone in zip(got[4:], want[4:], strict=True):
        for copy in shared:
            np.testing.assert_allclose(copy, alone[0], rtol=1e-5, atol=1e-7)


def test_batch_norm_on_replicas_is_kerass_on_one_device(rng):
    x = rng.normal(size=(7, 3)).astype(np.float32)
    layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    layer.build(x.shape)
    layer.gamma.assign([0.5, 2.0, 1.0])
    want = layer(x, training=True).numpy()
    outputs, *_, means, variances = normalize(2, x, np.ones_like(x))
    np.testing.assert_allclose(outputs, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(means[1], layer.moving_mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(variances[1], layer.moving_variance, rtol=1e-5)


@pytest.mark.parametrize("examples", [8, 7, 1])  # 1: the second replica has none.
def test_without_synchronizing_each_replica_normalizes_by_its_own(examples, rng):
    x = rng.normal(size=(examples, 3)).astype(np.float32)
    got = normalize(2, x, np.ones_like(x), synchronized=False)
    parts = [part.astype(np.float64) for part in np.array_split(x, 2)]
    scale = np.array([0.5, 2.0, 1.0])
    for replica, part in enumerate(parts):
        mean, variance = np.zeros(3), np.ones(3)
        if len(part):
            mean, variance = 0.1 * part.mean(0), 0.9 + 0.1 * part.var(0)
        np.testing.assert_allclose(got[4][replica], mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(got[5][replica], variance, rtol=1e-5)
    want = [
        scale * (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3)
        for part in parts
        if len(part)
    ]
    np.testing.assert_allclose(got[0], np.concatenate(want), rtol=1e-4, atol=1e-5)
    for value in got:
        assert np.isfinite(value).all()


@pytest.mark.parametrize("synchronized", [True, False])
@pytest.mark.parametrize("kind", ["none", 2])
def test_batch_norm_of_no_example_changes_nothing(kind, synchronized):
    x = np.zeros([0, 3], np.float32)
    _, _, *slopes, means, variances = normalize(kind, x, x, synchronized)
    assert all((slope == 0).all() for slope in slopes)
    assert (means == 0).all() and (variances == 1).all()


def test_the_comparison_notices_batch_norm_by_each_replicas_own(rng):
    x = rng.normal(size=(7, 3)).astype(np.float32)
    got = normalize(2, x, np.ones_like(x), synchronized=False)[0]
    want = normalize("none", x, np.ones_like(x))[0]
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(got, want, rtol=1e-2)


def test_one_example_for_two_replicas_without_synchronizing_trains(rng):
    x, y = rng.normal(size=(9, 4)), rng.integers(0, 3, 9)
    split = data.Split(x.astype(np.float32), y.astype(np.int32))
    strategy = make_strategy(2)
    with strategy.scope():
        norm = normalization.BatchNorm(synchronized=False)
        model = layers.Sequential([norm, layers.Dense(3)])
        loss = losses.sparse_softmax_cross_entropy
        step = steps.Step(model, loss, optimizers.sgd(0.1), accumulate=2)
        loop = loops.Loop(step, split, batch_size=8)
        for epoch in range(2):
            report = loop.train(epoch)
            assert np.isfinite(list(report.get_scalars().values())).all()
        assert np.isfinite(list(loop.evaluate(split).get_scalars().values())).all()


# Dropout.


class Masked(tf.Module):
    """Outputs are the masked weights: their gradient is the mask."""

    def __init__(self):
        super().__init__()
        self.w = tf.Variable(tf.ones([64]))
        self.dropout = layers.Dropout(0.5, name="dropout")

    def __call__(self, inputs, training=False):
        ones = tf.ones([tf.shape(inputs)[0], 64])
        return self.dropout(ones, training=training) * self.w


def find_masks(kind, accumulate, num_steps=1):
    """Returns the summed gradients of as many steps; 2 where all kept, 0 where none."""
    strategy = make_strategy(kind)
    with tfreg.Store(seed=0).as_default(), strategy.scope():
        model = Masked()
        optimizer = optimizers.sgd(1.0)
        step = steps.Step(
            model,
            lambda y, outputs: tf.reduce_sum(outputs, 1),
            optimizer,
            accumulate=accumulate,
        )
        optimizer.build(model.trainable_variables)

        @tf.function
        def run(x):
            return strategy.run(step, (x, x))

        before, found = model.w.numpy(), []
        for _ in range(num_steps):
            run(distribute(strategy, np.zeros([2, 1], np.float32)))
            found.append(before - model.w.numpy())
            before = model.w.numpy()
    return np.array(found)


@pytest.mark.parametrize(("kind", "accumulate"), [(2, 1), ("none", 2)])
def test_each_replica_and_microbatch_drops_other_units_and_again_the_same(
    kind, accumulate
):
    masks = find_masks(kind, accumulate, num_steps=3)
    # Half of the units are kept by one example of two alone.
    assert set(np.unique(masks)) == {0.0, 1.0, 2.0}
    assert np.mean(masks == 1.0) == pytest.approx(0.5, abs=0.15)  # 192 units.
    assert (masks[0] != masks[1]).any() and (masks[1] != masks[2]).any()
    np.testing.assert_array_equal(masks, find_masks(kind, accumulate, num_steps=3))


def test_dropout_on_replicas_repeats_to_the_bit():
    def make_model():
        return tfreg.models.MLP([6, 3], dropout=0.5)

    first, again = (train(2, make_model, optimizers.adam, 3) for _ in range(2))
    assert first[0] == again[0]
    for one, other in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(one, other)
