"""TF1 scripts and their ports: the same losses, penalties and weights.

Each script of tf1_corpus/ runs as it is in graph mode, with tf.compat.v1 and tf_slim,
and as tfreg.porting rewrites it, on tfreg: from the same weights, with the same
batches. What a port leaves to be written by hand is cut off, or written here.
"""

import dataclasses
import functools
import pathlib
import types
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf1_originals
import tf_slim
from tensorflow.tools.compatibility import ast_edits, tf_upgrade_v2
from tf_slim.nets import alexnet

import tfreg
from tfreg import tf1
from tfreg.porting import rewriting

CORPUS = pathlib.Path(__file__).with_name("tf1_corpus")
STEPS = 20
BATCH = 8
RATE = 0.1
v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class Case:
    """How a script is run.

    Attributes:
        total: the function of the script that returns the total.
        inputs: shape of an example, or the number of words.
        make: the function that returns the training operation, ported to a step; None:
            gradient descent on the total.
        original: (script, x, y) -> total and training operation, where it isn't ported.
        optimizer: of `original`, to be written by hand.
        arguments: (x, y) -> arguments of `total`.
        keys: collections to compare, besides the penalties and losses.
        tower: (collection of all towers) -> as on one device.
        left: what the port has to leave.
        cut: where what is left begins, a session's part.
        mean: whether the total is no share on replicas, but made one by total_loss.
    """

    total: str
    inputs: tuple[int, ...] | int = (5,)
    make: str | None = None
    original: Callable[..., Any] | None = None
    optimizer: Any = v1.train.GradientDescentOptimizer
    arguments: Callable[..., tuple] = lambda x, y: (x, y)
    keys: tuple[str, ...] = ()
    tower: Callable[[str, list], list] = lambda key, values: values
    left: tuple[str, ...] = ()
    cut: str | None = None
    mean: bool = False


IMAGES = (8, 8, 1)
PARAMS = {"decay": 0.01, "hidden_units": [6, 4], "rate": RATE}

CASES = {
    "raw_get_variable": Case("loss"),
    "contrib_arg_scope": Case("total_loss", IMAGES),
    "slim_train_op": Case(
        "compute_loss",
        IMAGES,
        make="make_train_op",
        left=(
            "tf.contrib.slim",
            "tf.placeholder",
            "tf.placeholder",
            "slim.learning.train",
        ),
        cut="def main(",
    ),
    "cifar10_towers": Case(
        "total_loss",
        IMAGES,
        original=lambda script, x, y: script.train(x, y),
        # Two decays and a cross entropy for each tower.
        tower=lambda key, v: v and [v[0], v[1], (v[2] + v[5]) / 2],
        left=("opt.compute_gradients", "opt.apply_gradients", "x.op.name"),
    ),
    "own_collections": Case(
        "loss_op",
        keys=("my_penalties", "orthogonality", "my_kernels"),
        mean=True,
    ),
    "apply_to_trainables": Case("get_loss"),
    "rnn_weights": Case("loss"),
    "embeddings": Case("loss", 9),
    "partial_regularizer": Case("loss"),
    "shared_weights": Case("contrastive_loss"),
    "tf_layers": Case("loss_fn", IMAGES, make="train_op"),
    "estimator_model_fn": Case(
        "compute_loss",
        original=lambda script, x, y: script.model_fn({"x": x}, y, "train", PARAMS)[1:],
        optimizer=v1.train.AdagradOptimizer,
        arguments=lambda x, y: ({"x": x}, y, PARAMS),
        keys=("dnn_weights",),
        left=(
            "tf.estimator.EstimatorSpec",
            "optimizer.minimize(...)",
            "tf.estimator.EstimatorSpec",
        ),
    ),
    "upgraded": Case("loss", left=("tf.compat.v1.summary.scalar",)),
    "class_model": Case("loss", make="train"),
    "optimize_loss": Case("classify", make="make"),
}


def make_batches(case):
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        if isinstance(case.inputs, int):
            x = rng.integers(0, case.inputs, (BATCH, 6))
            y = rng.integers(0, case.inputs, BATCH)
        else:
            x = rng.normal(size=(BATCH, *case.inputs)).astype(np.float32)
            y = rng.integers(0, 3, BATCH)
        yield x, y.astype(np.int64)


def start_value(name, shape):
    """Returns a variable's initial value, for TF1 and for tfreg."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.normal(0.0, 0.3, shape).astype(np.float32)


def list_keys(case):
    return ["regularization_losses", "losses", *case.keys]


@dataclasses.dataclass
class Run:
    """A training: the total and the collections at each step, and the final weights."""

    totals: list = dataclasses.field(default_factory=list)
    collections: list = dataclasses.field(default_factory=list)
    weights: dict = dataclasses.field(default_factory=dict)


def record(script, name):
    """Makes a script's function keep its results; returns their list."""
    function, results = getattr(script, name), []

    def wrapper(*args, **kwargs):
        results.append(function(*args, **kwargs))
        return results[-1]

    setattr(script, name, wrapper)
    return results


def build_original(case, script, x, y):
    """Returns the script's total and training operation."""
    if case.original is not None:
        return case.original(script, x, y)
    totals = record(script, case.total)
    if case.make is not None:
        update = getattr(script, case.make)(x, y)
        return totals[0], update
    total = getattr(script, case.total)(*case.arguments(x, y))
    return total, v1.train.GradientDescentOptimizer(RATE).minimize(total)


@functools.cache
def run_original(name):
    """Trains a script as TF1 did: a graph, placeholders, a session."""
    case, run = CASES[name], Run()
    with tf1_originals.graph():
        script = tf1_originals.load((CORPUS / f"{name}.py").read_bytes(), name)
        first = next(make_batches(case))
        x, y = (v1.placeholder(a.dtype, a.shape) for a in first)
        total, update = build_original(case, script, x, y)
        found = {key: v1.get_collection(key) for key in list_keys(case)}
        trained = v1.trainable_variables()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for variable in trained:
                value = start_value(variable.op.name, variable.shape)
                variable.load(value, session)
            for batch in make_batches(case):
                feed = dict(zip((x, y), batch, strict=True))
                before = session.run([total, found], feed)
                run.totals.append(before[0])
                run.collections.append(before[1])
                session.run(update, feed)
            values = session.run(trained)
        run.weights = dict(zip([v.op.name for v in trained], values, strict=True))
    return run


def upgrade(source, name):
    """Returns a script after tf_upgrade_v2."""
    upgrader = ast_edits.ASTCodeUpgrader(tf_upgrade_v2.TFAPIChangeSpec())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of Python's ast, as it uses it.
        _, after, _, _ = upgrader.update_string_pasta(source.decode(), f"{name}.py")
    return after.encode()


rewrite = functools.cache(rewriting.rewrite)


def load_port(name, upgraded=False):
    """Returns the port of a script as a module."""
    source = (CORPUS / f"{name}.py").read_bytes()
    source = upgrade(source, name) if upgraded else source
    result = rewrite(source)
    assert tuple(note.name for note in result.left) == CASES[name].left or upgraded
    if CASES[name].cut is not None:
        result = rewrite(source.partition(CASES[name].cut.encode())[0])
    script = types.ModuleType(name)
    exec(compile(result.source, f"{name}, ported", "exec"), script.__dict__)
    return script


def build_port(case, script, monkeypatch):
    """Returns the model and the training step."""
    models: list = []
    make = tf1.Model

    def keep(forward):
        models.append(make(forward))
        return models[-1]

    monkeypatch.setattr(tf1, "Model", keep)
    if case.make is not None:
        step = getattr(script, case.make)(None, None)
        return models[0], step
    net = tf1.Model(lambda x, y: getattr(script, case.total)(*case.arguments(x, y)))
    total = net
    if case.mean:

        def total(x, y):
            return tf1.losses.total_loss(net(x, y))

    return net, tf1.create_train_op(total, case.optimizer(RATE))


def run_port(case, script, monkeypatch, strategy):
    """Trains a script's port on the replicas of a strategy."""
    run = Run()
    batches = [tuple(map(tf.constant, batch)) for batch in make_batches(case)]
    with strategy.scope():
        tf1.get_or_create_global_step()
        net, step = build_port(case, script, monkeypatch)
        with tfreg.step_scope():
            net(*batches[0])
    for variable in net.trainable_variables:
        name = variable.name.partition(":")[0]
        variable.assign(start_value(name, variable.shape))

    @tf.function
    def look(x, y):
        net(x, y)
        return {key: list(tf1.get_collection(key)) for key in list_keys(case)}

    @tf.function
    def train(x, y):
        return strategy.reduce("SUM", strategy.run(step, (x, y)), axis=None)

    for batch in batches:
        if strategy.num_replicas_in_sync == 1:
            run.collections.append(look(*batch))
        run.totals.append(train(*split(strategy, batch)).numpy())
    run.weights = {v.name.partition(":")[0]: v.numpy() for v in net.trainable_variables}
    return run


def split(strategy, batch):
    """Returns a batch whose examples are split among the replicas."""
    count = strategy.num_replicas_in_sync
    if count == 1:
        return batch
    return [
        strategy.experimental_distribute_values_from_function(
            lambda context, part=part: tf.split(part, count)[
                context.replica_id_in_sync_group
            ]
        )
        for part in batch
    ]


def assert_same(got, expected, what):
    # Float32, relative to the largest entry: a weight near zero has fewer digits.
    scale = np.max(np.abs(expected), initial=1e-30)
    np.testing.assert_allclose(
        got, expected, rtol=1e-6, atol=1e-6 * scale, err_msg=what
    )


def compare(case, got, expected):
    assert_same(got.totals, expected.totals, "total")
    for step, held in enumerate(got.collections):
        for key, values in held.items():
            wanted = case.tower(key, expected.collections[step][key])
            assert len(values) == len(wanted), key
            for value, one in zip(values, wanted, strict=True):
                assert_same(value, one, f"{key} at step {step}")
    assert list(got.weights) == list(expected.weights)
    for weight, value in got.weights.items():
        assert_same(value, expected.weights[weight], weight)


@pytest.mark.slow
# The tests of a name follow one another: they share the original.
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_a_port_trains_as_its_original(
    monkeypatch, mended_slim, two_replicas, name, replicas
):
    case, expected = CASES[name], run_original(name)
    script = load_port(name)
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    got = run_port(case, script, monkeypatch, strategy)
    compare(case, got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_port_after_tf_upgrade_v2_trains_as_its_original(
    monkeypatch, mended_slim, name
):
    script = load_port(name, upgraded=True)
    got = run_port(CASES[name], script, monkeypatch, tf.distribute.get_strategy())
    compare(CASES[name], got, run_original(name))


@pytest.mark.slow
def test_slims_own_alexnet_is_ported_whole_and_computes_the_same(rng):
    result = rewriting.rewrite(pathlib.Path(alexnet.__file__).read_bytes())
    # It takes three private modules, which TensorFlow 2 still has.
    left = {note.name.removeprefix("tf.python.ops.") for note in result.left}
    assert {name.split(".")[0] for name in left} == {"array_ops", "init_ops", "nn_ops"}
    port = types.ModuleType("alexnet")
    exec(compile(result.source, "alexnet, ported", "exec"), port.__dict__)
    images = rng.normal(size=(1, 224, 224, 3)).astype(np.float32)

    def build(script, scope, images):
        with scope(script.alexnet_v2_arg_scope(weight_decay=5e-4)):
            return script.alexnet_v2(images, num_classes=3, is_training=False)

    with tf1_originals.graph():
        logits, points = build(alexnet, tf_slim.arg_scope, tf.constant(images))
        trained = v1.trainable_variables()
        decays = v1.losses.get_regularization_losses()
        with v1.Session() as session:
            for variable in trained:
                session.run(variable.initializer)
                value = start_value(variable.op.name, variable.shape) / 10
                variable.load(value, session)
            expected = session.run([logits, decays])
        names = [variable.op.name for variable in trained]

    net = tf1.Model(lambda x: build(port, tf1.arg_scope, x))
    with tfreg.step_scope():
        net(images)
        for variable, name in zip(net.trainable_variables, names, strict=True):
            assert variable.name == f"{name}:0"
            variable.assign(start_value(name, variable.shape) / 10)
    with tfreg.step_scope():
        logits, found = net(images)
        assert_same(logits, expected[0], "logits")
        got = tf1.losses.get_regularization_losses()
        assert_same(np.stack(got), np.stack(expected[1]), "decays")
    assert list(found) == list(points)
