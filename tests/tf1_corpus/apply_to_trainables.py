"""apply_regularization on the trainable variables, biases left out by their names."""

import tensorflow as tf
import tensorflow.contrib.layers as tcl

L1, L2 = 1e-3, 1e-2


def forward(x):
    for i, units in enumerate([6, 5]):
        x = tcl.fully_connected(x, units, activation_fn=tf.nn.sigmoid, scope="fc%d" % i)
    return tcl.linear(x, 3, scope="out")


def get_loss(x, y):
    logits = forward(x)
    weights = [v for v in tf.trainable_variables() if "biases" not in v.name]
    penalty = tcl.apply_regularization(
        tcl.l1_l2_regularizer(scale_l1=L1, scale_l2=L2, scope="elastic"),
        weights_list=weights,
    )
    tf.logging.debug("%d weights, penalty %s", len(weights), penalty)
    xent = tf.losses.sparse_softmax_cross_entropy(labels=y, logits=logits)
    return tf.losses.get_total_loss()
