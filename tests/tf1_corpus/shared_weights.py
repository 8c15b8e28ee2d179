"""Siamese: two views through the same weights, by reuse in three ways."""

import tensorflow as tf
import tensorflow.contrib.slim as slim


def tower(x, reuse):
    with tf.variable_scope("tower", reuse=reuse):
        x = slim.fully_connected(
            x, 6, scope="fc1", weights_regularizer=slim.l2_regularizer(1e-2)
        )
        with tf.variable_scope(
            "fc2", reuse=tf.AUTO_REUSE, regularizer=slim.l1_regularizer(1e-3)
        ):
            w = tf.get_variable("w", [6, 4])
        return tf.matmul(x, w)


def head(a, b):
    kwargs = dict(activation_fn=None, weights_regularizer=slim.l2_regularizer(5e-3))
    first = slim.fully_connected(a, 3, scope="head", **kwargs)
    second = slim.fully_connected(b, 3, scope="head", reuse=True, **kwargs)
    return first + second


def contrastive_loss(x, y):
    left = tower(x, reuse=False)
    right = tower(-x, reuse=True)
    distance = tf.reduce_sum(tf.squared_difference(left, right), 1, keep_dims=True)
    tf.losses.sparse_softmax_cross_entropy(logits=head(left, right), labels=y)
    tf.losses.hinge_loss(tf.cast(y > 0, tf.float32)[:, None], distance, weights=0.3)
    return tf.losses.get_total_loss()
