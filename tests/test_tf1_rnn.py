"""The recurrent cells and loops, against TensorFlow's own in a graph."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.keras.layers.legacy_rnn import rnn_cell_impl

import tfreg
from tfreg import tf1

v1 = tf.compat.v1
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:tensorflow")

# tf.nn.rnn_cell itself, which tf.compat.v1 hides where Keras is 3.
OLD = types.SimpleNamespace(
    rnn_cell=rnn_cell_impl,
    nn=v1.nn,
    get_variable=v1.get_variable,
    variable_scope=v1.variable_scope,
    l2_regularizer=tfreg.l2_regularizer,
)
LENGTHS = [2, 4, 0]


def run_basic(t, x):
    outputs, state = t.nn.dynamic_rnn(
        t.rnn_cell.BasicRNNCell(3, tf.nn.relu), x, LENGTHS, dtype=tf.float32
    )
    return outputs, state


def run_stack(t, x):
    with t.variable_scope("net", regularizer=t.l2_regularizer(0.1)):
        cells = [
            t.rnn_cell.LSTMCell(4, True, 0.5, num_proj=3, proj_clip=0.4),
            t.rnn_cell.ResidualWrapper(t.rnn_cell.GRUCell(3)),
            t.rnn_cell.DropoutWrapper(t.rnn_cell.BasicLSTMCell(2), 1.0, 1.0),
        ]
        cell = t.rnn_cell.MultiRNNCell(cells)
        return t.nn.dynamic_rnn(
            cell, tf.transpose(x, [1, 0, 2]), LENGTHS, dtype=tf.float32, time_major=True
        )


def run_both_ways(t, x):
    outputs, states = t.nn.bidirectional_dynamic_rnn(
        t.rnn_cell.LSTMCell(3, state_is_tuple=False),
        t.rnn_cell.GRUCell(2),
        x,
        LENGTHS,
        dtype=tf.float32,
    )
    x = tf.concat(outputs, 2)
    outputs, more = t.nn.bidirectional_dynamic_rnn(
        t.rnn_cell.GRUCell(2), t.rnn_cell.GRUCell(2), x, dtype=tf.float32, scope="two"
    )
    return outputs, (states, more)


def run_unrolled(t, x):
    cell = t.rnn_cell.BasicLSTMCell(3, name="own")
    state = cell.zero_state(3, tf.float32)
    outputs, state = t.nn.static_rnn(cell, tf.unstack(x, axis=1), state)
    outputs.append(cell(x[:, 0], state)[0])  # Shares the variables.
    return outputs, state


def run_own(t, x):
    class Cell(t.rnn_cell.RNNCell):
        state_size = output_size = 5

        def call(self, inputs, state):
            w = t.get_variable("w", [5, 5])
            state = tf.tanh(inputs @ w + state)
            return state, state

    def old(inputs, state, scope=None):
        with t.variable_scope("old"):
            return inputs @ t.get_variable("w", [5, 5]), state

    cell = types.SimpleNamespace(state_size=1, output_size=5)
    cell = type("Old", (), {**vars(cell), "__call__": lambda self, *a: old(*a)})()
    cell.zero_state = lambda batch, dtype: tf.zeros([batch, 1], dtype)
    x, _ = t.nn.dynamic_rnn(cell, x, dtype=tf.float32, scope="first")
    return t.nn.dynamic_rnn(Cell(), x, dtype=tf.float32)


def compute(program, t, x, penalties, weights, tape):
    outputs, state = program(t, x)
    values = tf.nest.flatten([outputs, state])
    total = tf.add_n([tf.reduce_sum(v**2) for v in values] + penalties())
    gradients = tape(total, weights())
    return values, gradients


@pytest.mark.parametrize(
    "program", [run_basic, run_stack, run_both_ways, run_unrolled, run_own]
)
def test_recurrent_nets_compute_what_tf1s_did(program, rng):
    x = rng.normal(size=[3, 4, 5]).astype("float32")
    with tf.Graph().as_default(), v1.Session() as session:
        results = compute(
            program,
            OLD,
            tf.constant(x),
            lambda: v1.get_collection("regularization_losses"),
            v1.trainable_variables,
            tf.gradients,
        )
        session.run(v1.global_variables_initializer())
        truth, values = session.run([results, v1.global_variables()])
        names = [v.name for v in v1.global_variables()]
        terms = len(v1.get_collection("regularization_losses"))

    net = tf1.Model(lambda x: program(tf1, x))

    def run(x):
        with tfreg.step_scope(), tf.GradientTape() as tape:
            return compute(
                lambda t, x: net(x),
                tf1,
                x,
                lambda: tf1.get_collection("regularization_losses"),
                lambda: net.trainable_variables,
                tape.gradient,
            )

    run(x)
    assert [v.name for v in net.variables] == names
    assert len(tfreg.get_default_store().get_terms()) == terms
    for variable, value in zip(net.variables, values, strict=True):
        variable.assign(value)
    for got in (run(x), tf.function(run)(tf.constant(x))):
        for a, b in zip(got, truth, strict=True):
            for ours, theirs in zip(a, b, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_cell_that_outlives_a_pass_keeps_its_variables():
    cell = tf1.rnn_cell.GRUCell(2)
    net = tf1.Model(lambda x: tf1.nn.dynamic_rnn(cell, x, dtype=tf.float32)[1])
    x = tf.ones([2, 3, 4])
    first = net(x)
    np.testing.assert_array_equal(net(x), first)
    np.testing.assert_allclose(tf.function(net)(x), first, rtol=1e-6)
    assert len(net.variables) == 4


def test_dropout_of_a_cell_keeps_its_share():
    def forward(x):
        cell = tf1.rnn_cell.BasicRNNCell(4, tf.identity)
        cell = tf1.rnn_cell.DropoutWrapper(cell, 1.0, 0.5)
        return tf1.nn.static_rnn(cell, [x], dtype=tf.float32)[0][0]

    net = tf1.Model(forward)
    with tfreg.step_scope(step=1):
        outputs = net(tf.ones([1000, 2]))
    assert abs(np.mean(outputs == 0) - 0.5) < 0.04  # Five deviations of 4,000 draws.


# A radius of all channels and more is of all of them.
@pytest.mark.parametrize("radius, beta", [(2, 0.5), (2, 0.75), (2, 0.9), (8, 0.75)])
def test_local_responses_are_normalized_as_by_tf_nn(radius, beta, rng):
    x = tf.constant(rng.normal(size=[2, 3, 3, 7]), tf.float32)
    results = []
    for function in (tf1.nn.lrn, tf.nn.lrn):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = function(x, radius, 1.5, 0.3, beta)
            cubes = outputs**3
        results.append((outputs, tape.gradient(cubes, x)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_dropout_takes_the_fraction_to_keep():
    x = tf.ones([100, 200])
    net = tf1.Model(lambda keep, **rate: tf1.nn.dropout(x, keep, **rate))
    with tfreg.step_scope(step=0):
        kept = net(0.75)
        np.testing.assert_allclose(np.unique(kept), [0, 4 / 3], rtol=1e-6)
        # Four deviations of a mean of 20,000.
        assert abs(np.mean(kept > 0) - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 20_000)
        assert abs(np.mean(net(None, rate=0.25) > 0) - 0.75) < 0.013
    np.testing.assert_array_equal(net(tf.constant(1.0)), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tf1.nn.dropout(1.0), "keep_prob must be known"),
        (lambda: tf1.nn.dropout(1.0, 0.5, rate=0.5), "keep_prob must be known"),
        (lambda: tf1.nn.dropout(1.0, 0.0), "keep_prob must be above 0"),
        (lambda: tf1.nn.dropout(1.0, 0.5), "a call outside one"),
        (lambda: tf1.rnn_cell.GRUCell(2)(1.0, 1.0), "a call outside one"),
        (lambda: tf1.rnn_cell.MultiRNNCell([]), "cells must hold a cell"),
    ],
)
def test_what_cannot_be_dropped_or_called_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_training_without_a_global_step_has_dropout(rng):
    def loss(x):
        return tf.reduce_mean(tf1.core_layers.dense(tf1.nn.dropout(x, 0.5), 1))

    optimizer = v1.train.GradientDescentOptimizer(0.0)
    step = tf1.create_train_op(tf1.Model(loss), optimizer, global_step=None)
    x = tf.constant(rng.normal(size=[8, 50]), tf.float32)
    run = tf.function(step)
    assert len({float(run(x)) for _ in range(4)}) == 4  # A mask for each step.
