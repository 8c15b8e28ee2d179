"""One step of create_train_op and of optimize_loss, against tf_slim."""

import types

import numpy as np
import pytest
import tensorflow as tf
import tf_slim
from tf_slim.layers import optimizers as slim_optimizers

import tfreg
from tfreg import tf1

v1 = tf.compat.v1
pytestmark = [
    pytest.mark.usefixtures("mended_slim"),
    # What the truth is computed by is deprecated.
    pytest.mark.filterwarnings("ignore::UserWarning:tensorflow"),
]

SLIM = types.SimpleNamespace(
    layers=tf_slim,
    arg_scope=tf_slim.arg_scope,
    variable_scope=v1.variable_scope,
    get_variable=v1.get_variable,
    losses=v1.losses,
    l1_regularizer=tf_slim.l1_regularizer,
    l2_regularizer=tf_slim.l2_regularizer,
    apply_regularization=tf_slim.apply_regularization,
    trainable_variables=v1.trainable_variables,
    add_to_collection=v1.add_to_collection,
)


def use_slim(t, x, y):
    """arg_scope, a penalty for all weights, and two losses of tf.losses."""
    functions = [t.layers.fully_connected]
    with t.arg_scope(functions, weights_regularizer=t.l2_regularizer(0.05)):
        x = t.layers.fully_connected(x, 6, scope="fc1")
        logits = t.layers.fully_connected(x, 3, activation_fn=None, scope="fc2")
    t.losses.sparse_softmax_cross_entropy(y, logits)
    t.losses.mean_squared_error(tf.zeros_like(logits), logits, weights=0.1)
    return t.losses.get_total_loss()


def use_variables(t, x, y):
    """A scope's regularizer, a loss of one's own, and decay as CIFAR-10's."""
    with t.variable_scope("fc1", regularizer=t.l1_regularizer(0.01)):
        w = t.get_variable("weights", [5, 6])
        b = t.get_variable("biases", [6], initializer=tf.zeros_initializer())
        x = tf.nn.tanh(x @ w + b)
    with t.variable_scope("fc2"):
        w = t.get_variable("weights", [6, 3])
        t.add_to_collection("losses", 0.02 * tf.nn.l2_loss(w))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ w)
    t.losses.add_loss(tf.reduce_mean(losses))
    return t.losses.get_total_loss()


def use_convolutions(t, x, y):
    """apply_regularization on every variable but biases, and a shared layer."""
    x = tf.reshape(tf.tile(x, [1, 5]), [-1, 5, 5, 1])
    x = t.layers.conv2d(x, 4, 3, activation_fn=tf.nn.tanh, scope="conv1")
    x = t.layers.conv2d(x, 4, 3, 2, activation_fn=tf.nn.tanh, scope="conv2")
    with t.variable_scope("shared", reuse=tf.compat.v1.AUTO_REUSE):
        for _ in range(2):
            x = t.layers.conv2d(x, 4, 1, activation_fn=None, scope="mix")
    logits = t.layers.linear(t.layers.flatten(x), 3, scope="fc")
    weights = [v for v in t.trainable_variables() if "biases" not in v.name]
    t.apply_regularization(t.l2_regularizer(0.05), weights)
    t.losses.softmax_cross_entropy(tf.one_hot(y, 3), logits, label_smoothing=0.1)
    return t.losses.get_total_loss()


def make_batches(rng, steps=20, rows=8):
    x = rng.normal(size=[steps, rows, 5]).astype("float32")
    return x, rng.integers(0, 3, [steps, rows])


def run_graph(program, make_train_op, batches):
    """Returns losses, values by name before and after, penalties, number of steps."""
    with tf.Graph().as_default(), v1.Session() as session:
        x, y = v1.placeholder(tf.float32, [None, 5]), v1.placeholder(tf.int64, [None])
        v1.set_random_seed(1)
        total = program(SLIM, x, y)
        train_op = make_train_op(total)
        session.run(v1.global_variables_initializer())
        trained = v1.trainable_variables()
        names = [v.name.removesuffix(":0") for v in trained]
        initial = dict(zip(names, session.run(trained), strict=True))
        feeds = [{x: a, y: b} for a, b in zip(*batches, strict=True)]
        losses = [session.run(train_op, feed) for feed in feeds]
        return types.SimpleNamespace(
            losses=losses,
            initial=initial,
            final=dict(zip(names, session.run(trained), strict=True)),
            penalties=session.run(v1.losses.get_regularization_losses()),
            steps=session.run(v1.train.get_global_step()),
        )


def start(net, initial, batches):
    with tfreg.step_scope():
        net(batches[0][0], batches[1][0])
    for name, value in initial.items():
        net.variables_by_name[name].assign(value)


def check(net, losses, truth, batches, atol=2e-7):
    np.testing.assert_allclose(losses, truth.losses, rtol=1e-6)
    with tfreg.step_scope():
        net(batches[0][0], batches[1][0])
        penalties = tf1.losses.get_regularization_losses()
    np.testing.assert_allclose(penalties, truth.penalties, rtol=1e-6)
    for name, value in truth.final.items():
        # Where a weight goes through zero its digits are those of the others.
        np.testing.assert_allclose(
            net.variables_by_name[name], value, rtol=1e-6, atol=atol
        )


OPTIMIZERS = {
    "sgd": (lambda: v1.train.GradientDescentOptimizer(0.1), None),
    "momentum": (
        lambda: v1.train.MomentumOptimizer(0.1, 0.9),
        lambda: tfreg.optimizers.momentum(0.1, 0.9),
    ),
    # tfreg's has other digits: TF1's powers of beta lose theirs in float32.
    "adam": (lambda: v1.train.AdamOptimizer(0.01), None),
    "rmsprop": (lambda: v1.train.RMSPropOptimizer(0.01), None),
}
ARGUMENTS = [
    {},
    {"clip_gradient_norm": 0.1},
    {
        "clip_gradient_norm": 0.2,
        "gradient_multipliers": {"fc1/weights": 3.0, "fc1/biases": 0.5},
    },
]


EVERYWHERE = ["eager", "graph", "replicas", "tfreg", "tfreg replicas"]
CASES = [
    (use_slim, "momentum", 1, ["graph", "replicas"]),
    pytest.param(use_slim, "momentum", 2, EVERYWHERE, marks=pytest.mark.slow),
    pytest.param(use_slim, "adam", 2, ["graph", "replicas"], marks=pytest.mark.slow),
    pytest.param(use_variables, "sgd", 0, ["eager"], marks=pytest.mark.slow),
    pytest.param(use_variables, "rmsprop", 2, ["replicas"], marks=pytest.mark.slow),
    pytest.param(
        use_convolutions,
        "momentum",
        0,
        ["eager", "graph", "replicas"],
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("program", "optimizer", "arguments", "modes"), CASES)
def test_twenty_steps_are_those_of_slim(
    program, optimizer, arguments, modes, rng, two_replicas
):
    theirs, ours = OPTIMIZERS[optimizer]
    arguments, batches = ARGUMENTS[arguments], make_batches(rng)
    truth = run_graph(
        program,
        lambda total: tf_slim.learning.create_train_op(total, theirs(), **arguments),
        batches,
    )
    for mode in modes:
        make_optimizer = ours if "tfreg" in mode else theirs
        strategy = two_replicas if "replicas" in mode else tf.distribute.get_strategy()
        wrap = tf.function if mode != "eager" else lambda function: function
        with tfreg.Store(seed=0).as_default():
            with strategy.scope():
                net = tf1.Model(lambda x, y: program(tf1, x, y))
                start(net, truth.initial, batches)
                step = tf1.create_train_op(net, make_optimizer(), **arguments)
            run = wrap(step) if "replicas" not in mode else share(strategy, step)
            pairs = zip(*map(tf.constant, batches), strict=True)
            # oneDNN adds up the halves of a batch in another order.
            atol = 5e-7 if "replicas" in mode else 2e-7
            check(net, [run(x, y) for x, y in pairs], truth, batches, atol)
            steps = tf1.get_or_create_global_step()
            assert int(steps.numpy()) == truth.steps == 20


def share(strategy, step):
    """Returns a function of a batch for one step, with half of it on each replica."""

    def train(x, y):
        half = tf.distribute.get_replica_context().replica_id_in_sync_group
        return step(x[4 * half : 4 * half + 4], y[4 * half : 4 * half + 4])

    @tf.function
    def run(x, y):
        return strategy.reduce("SUM", strategy.run(train, (x, y)), axis=None)

    return run


@pytest.mark.parametrize(
    ("optimizer", "arguments"),
    [
        ("SGD", {"clip_gradients": 0.1}),
        pytest.param(
            "Adam",
            {"gradient_multipliers": {"fc2/biases:0": 2.0}, "clip_gradients": 0.2},
            marks=pytest.mark.slow,
        ),
        ("Momentum", {"learning_rate_decay_fn": "decay"}),
        pytest.param(
            lambda rate: v1.train.MomentumOptimizer(rate, 0.5),
            {"clip_gradients": "half"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            v1.train.AdagradOptimizer,
            {"increment_global_step": False},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_optimize_loss_clips_all_gradients_together(optimizer, arguments, rng):
    def decay(rate, step):
        return v1.train.exponential_decay(rate, step, 5, 0.5)

    def half(pairs):
        return [(0.5 * g, v) for g, v in pairs]

    named = {"decay": decay, "half": half}
    arguments = {
        name: named.get(value, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    batches = make_batches(rng)
    truth = run_graph(
        use_slim,
        lambda total: slim_optimizers.optimize_loss(
            total, v1.train.get_or_create_global_step(), 0.1, optimizer, **arguments
        ),
        batches,
    )
    for wrap in (lambda f: f, tf.function):
        with tfreg.Store(seed=0).as_default():
            net = tf1.Model(lambda x, y: use_slim(tf1, x, y))
            start(net, truth.initial, batches)
            step = tf1.get_or_create_global_step()
            run = wrap(tf1.optimize_loss(net, step, 0.1, optimizer, **arguments))
            pairs = zip(*map(tf.constant, batches), strict=True)
            check(net, [run(x, y) for x, y in pairs], truth, batches)
            assert int(step.numpy()) == truth.steps


@pytest.mark.slow
def test_a_step_in_xla_is_the_same(rng):
    batches = make_batches(rng, steps=3)
    losses = []
    for compiled in (False, True):
        with tfreg.Store(seed=0).as_default():
            net = tf1.Model(lambda x, y: use_slim(tf1, x, y))
            optimizer = tfreg.optimizers.sgd(0.1)
            step = tf1.create_train_op(net, optimizer, clip_gradient_norm=0.1)
            run = tf.function(step, jit_compile=compiled)
            pairs = zip(*map(tf.constant, batches), strict=True)
            losses.append([run(x, y) for x, y in pairs])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


@pytest.mark.parametrize("graph", [False, True])
def test_a_collection_of_ones_own_does_not_grow(graph):
    def forward(t):
        for name in ("a", "b"):
            w = t.get_variable(name, initializer=tf.constant(2.0))
            t.add_to_collection("decayed", w)
        t.add_to_collection("decayed", w)  # Twice, as TF1 keeps it.
        return tf.add_n([tf.nn.l2_loss(v) for v in t.get_collection("decayed")])

    with tf.Graph().as_default(), v1.Session() as session:
        total = forward(v1)
        session.run(v1.global_variables_initializer())
        truth = session.run(total)
    net = tf1.Model(lambda: forward(tf1))
    for _ in range(2):
        with tfreg.step_scope():
            assert float((tf.function(net) if graph else net)()) == truth == 6.0
    del net
    assert tf1.get_collection("decayed") == []


def test_a_penalty_applied_in_a_pass_belongs_to_its_step():
    def forward():
        w = tf1.get_variable("w", initializer=2.0)
        return tf1.apply_regularization(tf1.l2_regularizer(0.5), [w])

    net = tf1.Model(forward)
    with tf.GradientTape():
        assert float(net()) == 1.0  # Outside a step, as to make the variables.
        with pytest.raises(ValueError, match="apply_regularization/"):
            tfreg.losses.total_loss(tf.constant(0.0))
    for _ in range(2):
        with tfreg.step_scope():
            net()
            assert float(tfreg.losses.total_loss(tf.constant(0.0))) == 1.0
    assert tfreg.get_default_store().get_terms() == []


def test_a_tf1_model_trains_in_tfregs_own_step():
    def forward(x, training):
        x = tf1.layers.batch_norm(x, is_training=training)
        regularizer = tf1.l2_regularizer(0.1)
        return tf1.layers.linear(x, 3, weights_regularizer=regularizer)

    net = tf1.Model(forward)
    loss = tfreg.losses.sparse_softmax_cross_entropy
    train = tfreg.Step(net, loss, tfreg.optimizers.sgd(0.1), clip_norm=1.0)
    run = tf.function(train, jit_compile=True)
    x, y = tf.random.stateless_normal([8, 5], [0, 1]), tf.range(8) % 3
    reports = [run(x, y) for _ in range(5)]
    assert list(reports[0].penalties) == [
        "fully_connected/kernel/Regularizer/l2_regularizer"
    ]
    totals = [float(report.total) for report in reports]
    assert sorted(totals, reverse=True) == totals and totals[-1] < totals[0]


def test_a_decay_serves_optimizers_of_tfreg_too():
    step = tf1.get_or_create_global_step()
    net = tf1.Model(lambda: tf1.get_variable("w", initializer=1.0))
    train_step = tf1.optimize_loss(
        lambda: net() * 1.0,
        step,
        1.0,
        tfreg.optimizers.sgd,
        learning_rate_decay_fn=lambda rate, step: (
            rate / 2.0 ** tf.cast(step, tf.float32)
        ),
    )
    run = tf.function(train_step)
    losses = [float(run()) for _ in range(3)]
    assert losses == [1.0, 0.0, -0.5]


def test_some_variables_alone_are_trained():
    def forward():
        a = tf1.get_variable("a", initializer=1.0)
        b = tf1.get_variable("b/w", initializer=2.0)
        return a * b

    net = tf1.Model(forward)
    optimizer = v1.train.GradientDescentOptimizer(0.5)
    step = tf1.create_train_op(
        net,
        optimizer,
        global_step=None,
        variables_to_train=lambda: tf1.trainable_variables("b/"),
        transform_grads_fn=lambda pairs: [(2.0 * g, v) for g, v in pairs],
    )
    assert float(step()) == 2.0
    assert [float(v) for v in net.variables] == [1.0, 1.0]
    assert tf1.get_collection(tf1.GraphKeys.GLOBAL_STEP) == []


def test_gathered_gradients_are_multiplied_and_clipped_as_slims(rng):
    values = rng.normal(size=[6, 2]).astype("float32")

    def program(get_variable):
        table = get_variable("table", initializer=tf.constant(values))
        rows = tf.gather(table, [1, 3, 1])
        return tf.reduce_sum(rows**2)

    arguments = {"clip_gradient_norm": 0.5, "gradient_multipliers": {"table": 2.0}}
    with tf.Graph().as_default(), v1.Session() as session:
        optimizer = v1.train.GradientDescentOptimizer(0.5)
        total = program(v1.get_variable)
        train_op = tf_slim.learning.create_train_op(total, optimizer, **arguments)
        session.run(v1.global_variables_initializer())
        session.run(train_op)
        truth = session.run(v1.trainable_variables()[0])
    net = tf1.Model(lambda: program(tf1.get_variable))
    optimizer = v1.train.GradientDescentOptimizer(0.5)
    tf1.create_train_op(net, optimizer, **arguments)()
    np.testing.assert_allclose(net.variables[0], truth, rtol=1e-6)


def test_a_loss_that_is_not_finite_raises_before_it_updates():
    net = tf1.Model(lambda x: tf1.get_variable("w", initializer=1.0) * x)
    for make in (tfreg.optimizers.sgd, v1.train.GradientDescentOptimizer):
        step = tf1.create_train_op(net, make(0.5))
        for run in (step, tf.function(step)):
            with pytest.raises(
                tf.errors.InvalidArgumentError, match="LossTensor is inf"
            ):
                run(tf.constant(np.inf))
    assert float(net.variables[0]) == 1.0
    assert int(tf1.get_or_create_global_step()) == 0
    step = tf1.create_train_op(
        net, v1.train.GradientDescentOptimizer(0.5), check_numerics=False
    )
    assert np.isinf(step(tf.constant(np.inf)))


def test_gradients_are_summarized_by_name(tmp_path):
    net = tf1.Model(lambda: tf1.get_variable("a/w", initializer=3.0) ** 2)
    step = tf1.create_train_op(net, tfreg.optimizers.sgd(0.1), summarize_gradients=True)
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        tf.function(step)()
    writer.flush()
    (path,) = tmp_path.iterdir()
    found = {
        value.tag: value.tensor
        for event in v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert set(found) == {"a/w/gradient", "a/w/gradient_norm"}
    assert float(tf.make_ndarray(found["a/w/gradient_norm"])) == 6.0


def test_keras_optimizers_and_dropout_serve_too():
    def forward(x):
        x = tf1.layers.dropout(tf1.layers.fully_connected(x, 4), 0.5)
        return tf.reduce_mean(x**2)

    net = tf1.Model(forward, seed=0)
    net_step = tf1.create_train_op(net, tf.keras.optimizers.SGD(0.02))
    x = tf.ones([3, 4])
    before = float(net_step(x))
    after = [float(tf.function(net_step)(x)) for _ in range(10)]
    assert after[-1] < before and len(set(after)) == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda net: tf1.create_train_op(lambda: tf.ones([2]), None)(),
            "total_loss must return a scalar tensor, got",
        ),
        (
            lambda net: tf1.create_train_op(net, None, variables_to_train=[])(),
            "variables_to_train must hold variables, got none",
        ),
        (
            lambda net: tf1.create_train_op(
                net, None, gradient_multipliers={"v": 2.0}
            )(),
            r"gradient_multipliers must name .*, got 'v': name one of \['w:0'\]",
        ),
        (
            lambda net: tf1.optimize_loss(net, None, 1, "SGD"),
            "learning_rate must be a float >= 0",
        ),
        (
            lambda net: tf1.optimize_loss(net, None, -0.1, "SGD"),
            "learning_rate must be a float >= 0, .* got -0.1",
        ),
        (
            lambda net: tf1.optimize_loss(net, None, None, "SGD"),
            "learning_rate must be given for the optimizer 'SGD', got None",
        ),
        (
            lambda net: tf1.optimize_loss(net, None, 0.1, "Sgd"),
            "optimizer must be one of Adagrad, .* got 'Sgd'",
        ),
        (
            lambda net: tf1.optimize_loss(
                net, None, 0.1, "SGD", learning_rate_decay_fn=lambda r, s: r
            ),
            "global_step must be given for learning_rate_decay_fn, got None",
        ),
    ],
)
def test_what_trains_nothing_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(tf1.Model(lambda: tf1.get_variable("w", initializer=1.0) * 1.0))


def test_what_would_count_once_on_each_replica_is_refused(two_replicas):
    strategy = two_replicas
    net = tf1.Model(lambda: tf1.get_variable("w", initializer=1.0) * 1.0)
    with strategy.scope():
        optimizer = v1.train.GradientDescentOptimizer(0.5)
        step = tf1.create_train_op(net, optimizer, global_step=None)
    with pytest.raises(ValueError, match="total_loss"):
        strategy.run(step)
    outside = tf1.get_or_create_global_step()
    step = tf1.create_train_op(net, optimizer, outside)
    with pytest.raises(ValueError, match=r"global_step .*strategy\.scope"):
        strategy.run(step)
