"""Runs a program of layers on tf_slim in a graph, and on tf1, and compares them.

    tf1_programs.compare(lambda t, x: t.layers.fully_connected(x, 3), [2, 5], rng)

A program is a function of t, which stands for TF1, and of the inputs.
"""

import types

import numpy as np
import tensorflow as tf
import tf_slim
from tensorflow.python.layers import convolutional, core, pooling
from tf_slim.layers import utils

import tfreg
from tfreg import tf1

v1 = tf.compat.v1


class _Layers:
    """tf_slim's layers and slim.utils in one place, as tf1.layers."""

    def __getattr__(self, name):
        return getattr(tf_slim, name, None) or getattr(utils, name)


SLIM = types.SimpleNamespace(
    layers=_Layers(),
    arg_scope=tf_slim.arg_scope,
    add_to_collection=v1.add_to_collection,
    get_variable=v1.get_variable,
    variable_scope=v1.variable_scope,
    l1_regularizer=tf_slim.l1_regularizer,
    l2_regularizer=tf_slim.l2_regularizer,
    core_layers=types.SimpleNamespace(
        dense=core.dense,
        conv1d=convolutional.conv1d,
        conv2d=convolutional.conv2d,
        conv3d=convolutional.conv3d,
        conv2d_transpose=convolutional.conv2d_transpose,
        separable_conv2d=convolutional.separable_conv2d,
        max_pooling2d=pooling.max_pooling2d,
        average_pooling2d=pooling.average_pooling2d,
        flatten=core.flatten,
        dropout=core.dropout,
    ),
)


def run_graph(program, x):
    """Returns the results to compare, and the variables' random values."""
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = program(SLIM, tf.constant(x))
        penalties = v1.get_collection("regularization_losses")
        # Terms are listed as they were made, what belongs to a step after them.
        penalties.sort(key=lambda penalty: "Activity" in penalty.name)
        total = tf.add_n([tf.reduce_sum(outputs**2), *penalties])
        gradients = tf.gradients(total, v1.trainable_variables())
        session.run(v1.global_variables_initializer())
        names = {
            "all": [v.name for v in v1.global_variables()],
            "trainable": [v.name for v in v1.trainable_variables()],
            "vars": [v.name for v in v1.get_collection("vars")],
            "others": [v.name for v in v1.get_collection("others")],
            "outs": [a for o in v1.get_collection("outs") for a in o.aliases],
            "terms": [
                p.name.split("/Activity")[0].removesuffix(":0") for p in penalties
            ],
        }
        outs = v1.get_collection("outs")
        values = session.run([outputs, penalties, gradients, outs])
        return names, values, session.run(v1.global_variables())


def run_ours(net, x):
    with tfreg.step_scope(), tf.GradientTape() as tape:
        outputs = net(x)
        penalties = tf1.get_collection("regularization_losses")
        total = tf.add_n([tf.reduce_sum(outputs**2), *penalties])
        outs = tf1.get_collection("outs")
        aliases = list(tf1.layers.convert_collection_to_dict("outs", True))
        assert tf1.get_collection("outs") == []
    gradients = tape.gradient(total, net.trainable_variables)
    return (outputs, penalties, gradients, outs), tf.constant(aliases, tf.string)


def check_values(got, truth, atol):
    for ours, theirs in zip(got, truth, strict=True):
        pairs = (
            zip(ours, theirs, strict=True) if isinstance(ours, list | tuple) else None
        )
        for a, b in pairs or [(ours, theirs)]:
            # Sums of a few hundred products in another order.
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=atol)


def compare(program, shape, rng, atol=2e-6):
    """Asserts that a program does on tf1 what it does on tf_slim, in a graph."""
    x = rng.normal(size=shape).astype("float32")
    names, truth, values = run_graph(program, x)
    net = tf1.Model(lambda x: program(tf1, x))
    run_ours(net, x)
    assert [v.name for v in net.variables] == names["all"]
    assert [v.name for v in tf1.trainable_variables()] == names["trainable"]
    for key in ("vars", "others"):
        assert [v.name for v in tf1.get_collection(key)] == names[key]
    terms = [term.name for term in tfreg.get_default_store().get_terms()]
    assert terms == names["terms"][: len(terms)]
    for variable, value in zip(net.variables, values, strict=True):
        variable.assign(value)
    graph = tf.function(lambda x: run_ours(net, x))
    for got, aliases in (run_ours(net, x), graph(tf.constant(x))):
        check_values(got, truth, atol)
        assert [a.decode() for a in aliases.numpy()] == names["outs"]
    assert len(tfreg.get_default_store().get_terms()) == len(terms)
