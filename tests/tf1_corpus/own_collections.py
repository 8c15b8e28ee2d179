"""Penalties in a collection of one's own, by GraphKeys of one's own."""

import numpy as np
import tensorflow as tf


class MyKeys(object):
    PENALTIES = 'my_penalties'
    KERNELS = 'my_kernels'


def orthogonality(w):
    gram = tf.matmul(w, w, transpose_a=True)
    return tf.reduce_sum(tf.square(gram - tf.eye(w.get_shape().as_list()[1])))


def layer(x, units, scope):
    with tf.variable_scope(scope):
        kernel = tf.get_variable(
            'kernel',
            [x.get_shape().as_list()[-1], units],
            initializer=tf.orthogonal_initializer(),
            collections=[tf.GraphKeys.GLOBAL_VARIABLES, MyKeys.KERNELS],
        )
        bias = tf.get_variable('bias', [units], initializer=tf.zeros_initializer)
    tf.add_to_collections(
        [MyKeys.PENALTIES, 'orthogonality'], 0.01 * orthogonality(kernel)
    )
    y = tf.matmul(x, kernel) + bias
    tf.add_to_collection(MyKeys.PENALTIES, 1e-3 * tf.reduce_mean(tf.abs(y)))
    return y


def loss_op(x, y):
    with tf.variable_scope('net'):
        h = tf.tanh(layer(x, 4, 'first'))
        out = layer(h, 3, 'second')
    data = tf.losses.mean_squared_error(tf.one_hot(y, 3), out, weights=2.0)
    assert len(tf.get_collection('orthogonality')) == 2
    penalties = tf.get_collection(MyKeys.PENALTIES)
    return data + tf.add_n(penalties)
