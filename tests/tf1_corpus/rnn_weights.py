"""A recurrent network, unrolled, whose recurrent kernels alone are regularized."""

import tensorflow as tf
from tensorflow.contrib.layers import xavier_initializer, l2_regularizer

STEPS = 5
UNITS = 4


class Cell(object):
    def __init__(self, num_units, reg=None):
        self._num_units = num_units
        self._reg = reg

    def __call__(self, x, state):
        with tf.variable_scope('cell'):
            n = self._num_units
            w = tf.get_variable(
                'kernel',
                [1 + n, 2 * n],
                tf.float32,
                initializer=xavier_initializer(),
                regularizer=self._reg,
            )
            b = tf.get_variable('bias', [2 * n], initializer=tf.ones_initializer())
        joint = tf.concat([x, state], axis=1)
        gate, new = tf.split(tf.matmul(joint, w) + b, 2, axis=1)
        gate = tf.sigmoid(gate)
        return gate * state + (1 - gate) * tf.tanh(new)


def rnn(x):
    cell = Cell(UNITS, reg=l2_regularizer(1e-2))
    state = tf.zeros([x.get_shape()[0], UNITS])
    with tf.variable_scope('rnn') as scope:
        for step in range(STEPS):
            if step > 0:
                scope.reuse_variables()
            state = cell(x[:, step : step + 1], state)
    return state


def loss(x, labels):
    state = rnn(x)
    with tf.variable_scope('softmax'):
        w = tf.get_variable('w', [UNITS, 3])
        b = tf.get_variable('b', [3], initializer=tf.constant_initializer(0.0))
    logits = tf.matmul(state, w) + b
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=logits, labels=labels
    )
    l2 = sum(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))
    return tf.reduce_mean(losses) + l2
