"""tf1.Variable and tf1.ExponentialMovingAverage against tf.compat.v1 in a graph."""

import numpy as np
import pytest
import tensorflow as tf
import tf1_originals

from tfreg import tf1
from tfreg.porting import rewriting

v1 = tf.compat.v1
BATCHES = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)

# A batch norm as PointNet has it: plain variables, averages of tensors, tf.cond.
SOURCE = b"""import tensorflow as tf


def norm(x, training, count):
    with tf.variable_scope("bn"):
        beta = tf.Variable(tf.constant(0.1, shape=[3]), name="beta", trainable=True)
        gamma = tf.Variable(tf.fill([3], 2.0))
        mean, variance = tf.nn.moments(x, [0])
        ema = tf.train.ExponentialMovingAverage(0.9, count)
        update = tf.cond(
            training, lambda: ema.apply([mean, variance]), lambda: tf.no_op()
        )

        def with_update():
            with tf.control_dependencies([update]):
                return tf.identity(mean), tf.identity(variance)

        mean, variance = tf.cond(
            training, with_update, lambda: (ema.average(mean), ema.average(variance))
        )
        x = tf.nn.dropout(x, 1.0 - 0.0)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
"""


def run_original(count):
    with tf1_originals.graph():
        x = v1.placeholder(tf.float32, [6, 3])
        training = v1.placeholder(tf.bool, [])
        out = tf1_originals.load(SOURCE).norm(x, training, count)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for batch in BATCHES:
                session.run(out, {x: batch, training: True})
            return session.run(out, {x: BATCHES[0], training: False})


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("count", [None, 3])
def test_a_norm_with_averages_of_tensors_computes_what_tf1_did(wrap, count):
    result = rewriting.rewrite(SOURCE)
    assert result.left == ()
    script: dict = {}
    exec(result.source, script)
    net = tf1.Model(script["norm"])
    call = wrap(lambda x, training: net(x, training, count))
    for batch in BATCHES:
        call(batch, tf.constant(True))
    got = call(BATCHES[0], tf.constant(False))
    # Sums in another order.
    np.testing.assert_allclose(got, run_original(count), rtol=1e-5, atol=1e-6)
    assert [v.name for v in net.trainable_variables] == ["bn/beta:0", "bn/Variable:0"]
    assert len(net.variables) == 4


def test_plain_variables_are_numbered_as_in_tf1():
    def build(module):
        names = [None, "w", "w", None]
        return [module.Variable(0.0, name=name).name for name in names]

    with tf1_originals.graph():
        expected = build(v1)
    net = tf1.Model(lambda: build(tf1))
    assert net() == net() == expected


@pytest.mark.parametrize("trainable", ["a name", "", 0, 1])
def test_anything_says_whether_a_variable_is_trained(trainable):
    with tf1_originals.graph():
        v1.Variable(0.0, trainable)
        expected = len(v1.trainable_variables())
    net = tf1.Model(lambda: tf1.Variable(0.0, trainable) + 0.0)
    net()
    assert len(net.trainable_variables) == expected
    assert tf1.Variable(0.0, trainable).trainable == bool(expected)


def test_a_plain_variable_outside_a_pass_is_new():
    one, other = (tf1.Variable(lambda: tf.ones([2]), False, name="a") for _ in "ab")
    assert one is not other and not one.trainable


def test_a_random_value_of_a_trace_is_the_initial_one():
    net = tf1.Model(lambda: tf1.Variable(tf.random.normal([2])) + 0.0)
    call = tf.function(net)
    first = call()
    assert np.all(np.isfinite(first)) and np.any(first != 0.0)
    np.testing.assert_array_equal(call(), first)


def test_a_value_that_depends_on_the_batch_is_refused():
    net = tf1.Model(lambda x: tf1.Variable(2.0 * x) + 0.0)
    with pytest.raises(ValueError, match="must be known when the variable is created"):
        tf.function(net)(tf.ones([2]))


def test_averages_of_variables_are_tensorflows():
    def train(averages):
        w = tf.Variable([1.0, 2.0])
        averages.apply([w])
        w.assign([3.0, 5.0])
        averages.apply([w])
        return averages.average(w).numpy()

    expected = train(tf.train.ExponentialMovingAverage(0.5))
    np.testing.assert_array_equal(train(tf1.ExponentialMovingAverage(0.5)), expected)


def test_zero_debias_is_refused():
    with pytest.raises(ValueError, match="zero_debias must be False"):
        tf1.ExponentialMovingAverage(0.5, zero_debias=True)
