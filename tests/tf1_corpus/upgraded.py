"""What tf_upgrade_v2 wrote: compat.v1 everywhere, and Keras's regularizers with 0.5."""

import tensorflow as tf
from tensorflow.contrib import slim as contrib_slim

weight_decay = 0.02


def layer(x, units, name, wd):
    with tf.compat.v1.variable_scope(name, reuse=tf.compat.v1.AUTO_REUSE):
        w = tf.compat.v1.get_variable(
            "w",
            [x.shape[-1], units],
            initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.1),
            regularizer=tf.keras.regularizers.l2(l=0.5 * (wd)),
        )
        b = tf.compat.v1.get_variable(
            "b",
            [units],
            initializer=tf.compat.v1.zeros_initializer(),
            regularizer=tf.keras.regularizers.l1(l=1e-3),
        )
    return tf.linalg.matmul(x, w) + b


def loss(x, labels):
    h = tf.nn.relu(layer(x, 6, "one", wd=weight_decay))
    h = contrib_slim.fully_connected(
        h, 4, scope="two", weights_regularizer=tf.keras.regularizers.l2(0.5 * (0.01))
    )
    logits = layer(h, 3, "three", weight_decay / 2)
    tf.compat.v1.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    tf.compat.v1.summary.scalar("norm", tf.math.reduce_euclidean_norm(logits))
    return tf.compat.v1.losses.get_total_loss()
