"""Networks in the styles of public TF1 code, and their ports: the same training.

Each script of tf1_corpus/ named here has a function `loss`. It trains in graph mode,
with tf.compat.v1 and tf_slim, and as tfreg.porting rewrites it, on tfreg: the same
losses, penalties, first gradients, weights after 20 steps and moving averages.
"""

import dataclasses
import functools
import sys
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import test_tf1_corpus as corpus
import tf1_originals

import tfreg
from tfreg import tf1

v1 = tf.compat.v1
STEPS = 20
RATE = 0.02
IMAGES = (8, 8, 1)
WORDS = 9


@dataclasses.dataclass(frozen=True)
class Network:
    """How a script is run.

    Attributes:
        inputs: shape of an example, or the number of words.
        keys: collections to compare, besides the penalties and losses.
        left: what the port has to leave.
        modules: scripts that it imports.
        splits: whether two replicas halve a batch. Otherwise each has all of it: where
            batches are normalized, or a term isn't a mean over examples.
    """

    inputs: tuple[int, ...] | int = IMAGES
    keys: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    splits: bool = True


NETWORKS = {
    "resnet_end_points": Network(splits=False),
    "inception_scopes": Network(splits=False),
    "ssd_heads": Network(),
    "pointnet_own_norm": Network((7, 3), splits=False),
    "spectral_gan": Network(modules=("gan_ops",), splits=False),
    "transformer": Network(WORDS),
    "graph_convolution": Network((4, 5), keys=("decay",)),
    "q_network": Network((5,)),
    "cifar10_tutorial": Network(),
    "tagger": Network(WORDS),
    "vae": Network((5,)),
    "siamese": Network(),
    "text_cnn": Network(WORDS),
    "dcgan": Network(splits=False),
    "mobilenet": Network(),
    "unet": Network(),
    "style_transfer": Network(),
    "densenet": Network(splits=False),
    "char_rnn": Network(WORDS, splits=False),
    "yolo_head": Network(splits=False),
    "actor_critic": Network((5,)),
    "attention_gru": Network(WORDS, keys=("alphas",)),
}


@dataclasses.dataclass
class Run:
    """A training: its losses, the collections before it, gradients and final values."""

    losses: list = dataclasses.field(default_factory=list)
    collections: dict = dataclasses.field(default_factory=dict)
    gradients: list = dataclasses.field(default_factory=list)
    values: dict = dataclasses.field(default_factory=dict)


def list_keys(network):
    return ["regularization_losses", "losses", *network.keys]


def read(name):
    return (corpus.CORPUS / f"{name}.py").read_bytes()


def choose_start(name, shape):
    """Returns a variable's initial value, for TF1 and for tfreg."""
    value = corpus.start_value(name, shape)
    return abs(value) if name.endswith(("variance", "var")) else value


def start_original(session, variables):
    for variable in variables:
        value = choose_start(variable.op.name, variable.shape)
        session.run(variable.initializer)
        variable.load(value, session)


@functools.cache
def run_original(name):
    """Trains a script as TF1 did: a graph, placeholders, a session."""
    network, run = NETWORKS[name], Run()
    with tf1_originals.graph(), mock.patch.dict(sys.modules):
        for module in network.modules:
            sys.modules[module] = tf1_originals.load(read(module), module)
        script = tf1_originals.load(read(name), name)
        batches = list(corpus.make_batches(network))
        x, y = (v1.placeholder(a.dtype, a.shape) for a in batches[0])
        loss = script.loss(x, y)
        held = {key: v1.get_collection(key) for key in list_keys(network)}
        trained, kept = v1.trainable_variables(), v1.global_variables()
        gradients = tf.gradients(loss, trained)
        with tf.control_dependencies(v1.get_collection("update_ops")):
            update = v1.train.GradientDescentOptimizer(RATE).minimize(loss)
        with v1.Session() as session:
            start_original(session, kept)
            feeds = [dict(zip((x, y), batch, strict=True)) for batch in batches]
            results = session.run([held, gradients], feeds[0])
            run.collections, run.gradients = results
            start_original(session, kept)  # Some losses move averages.
            run.losses = [session.run([loss, update], feed)[0] for feed in feeds]
            values = session.run(kept)
        run.values = dict(zip([v.op.name for v in kept], values, strict=True))
    return run


def load_port(name):
    """Returns the port of a script as a module."""
    result = corpus.rewrite(read(name))
    left = NETWORKS[name].left if name in NETWORKS else ()
    assert tuple(note.name for note in result.left) == left
    script = types.ModuleType(name)
    exec(compile(result.source, f"{name}, ported", "exec"), script.__dict__)
    return script


def make_loss(network, script, net):
    """Returns the loss of a replica, and the replicas' mean of what isn't one."""

    def loss(x, y):
        value = net(x, y)
        if getattr(value, "_tfreg_is_share", False):
            return value
        # No penalties are added: the script has them in its loss.
        return tf1.losses.total_loss(value, scope=r"(?!)")

    return loss


def run_port(name, strategy):
    """Trains a script's port on the replicas of a strategy."""
    network, run = NETWORKS[name], Run()
    with mock.patch.dict(sys.modules):
        for module in network.modules:
            sys.modules[module] = load_port(module)
        script = load_port(name)
    batches = [tuple(map(tf.constant, b)) for b in corpus.make_batches(network)]
    with strategy.scope():
        tf1.get_or_create_global_step()
        net = tf1.Model(script.loss)
        with tfreg.step_scope():
            net(*batches[0])
        # Gradient descent, whose slots are the gradients of the last step.
        optimizer = v1.train.MomentumOptimizer(RATE, 0.0)
        step = tf1.create_train_op(make_loss(network, script, net), optimizer)
    starts = start_port(net)

    @tf.function
    def look(x, y):
        net(x, y)
        return {key: list(tf1.get_collection(key)) for key in list_keys(network)}

    @tf.function
    def train(x, y):
        return strategy.reduce("SUM", strategy.run(step, (x, y)), axis=None)

    if strategy.num_replicas_in_sync == 1:
        run.collections = look(*batches[0])
    for variable, value in starts:  # Also the moving averages that `look` has moved.
        variable.assign(value)
    for batch in batches:
        parts = corpus.split(strategy, batch) if network.splits else batch
        run.losses.append(train(*parts).numpy())
        if len(run.losses) == 1:
            slots = [optimizer.get_slot(v, "momentum") for v in net.trainable_variables]
            run.gradients = [slot.numpy() for slot in slots]
    run.values = {v.name.partition(":")[0]: v.numpy() for v in net.variables}
    return run


def start_port(net):
    """Sets the variables' initial values, and returns pairs of both."""
    starts = []
    for variable in net.variables:
        name = variable.name.partition(":")[0]
        starts.append((variable, choose_start(name, variable.shape)))
        variable.assign(starts[-1][1])
    return starts


@pytest.mark.slow
# The tests of a name follow one another: they share the original.
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_ported_network_trains_as_its_original(
    mended_slim, two_replicas, name, replicas
):
    expected = run_original(name)
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    got = run_port(name, strategy)
    corpus.assert_same(got.losses, expected.losses, "loss")
    corpus.assert_same(join(got.gradients), join(expected.gradients), "gradients")
    for key, values in got.collections.items():
        assert len(values) == len(expected.collections[key]), key
        for value, one in zip(values, expected.collections[key], strict=True):
            corpus.assert_same(value, one, key)
    assert set(got.values) <= set(expected.values)
    for variable, value in got.values.items():
        start = choose_start(variable, value.shape)
        # A small sum of larger parts has fewer digits.
        atol = 1e-6 * max(np.max(np.abs(start)), np.max(np.abs(value)))
        one = expected.values[variable]
        np.testing.assert_allclose(value, one, 1e-6, atol, err_msg=variable)


def join(gradients):
    """Returns the entries of all gradients: a bias before a norm has only noise."""
    return np.concatenate([np.ravel(densify(gradient)) for gradient in gradients])


def densify(gradient):
    if hasattr(gradient, "indices"):  # Of an embedding.
        dense = np.zeros(gradient.dense_shape, np.float32)
        np.add.at(dense, np.asarray(gradient.indices), np.asarray(gradient.values))
        return dense
    return gradient


def test_every_script_of_the_corpus_is_run():
    modules = {module for n in NETWORKS.values() for module in n.modules}
    scripts = {path.stem for path in corpus.CORPUS.glob("*.py")}
    assert scripts == {*corpus.CASES, *NETWORKS, *modules}
    assert len(corpus.CASES) >= 15 and len(NETWORKS) >= 20
