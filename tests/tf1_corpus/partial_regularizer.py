"""Regularizers made by partials, sums of them, and one for each layer."""

import functools

import tensorflow as tf
from tensorflow.contrib import layers as contrib_layers

l2 = functools.partial(contrib_layers.l2_regularizer, scope="decay")
sparse = functools.partial(contrib_layers.l1_l2_regularizer, scale_l2=0.0)
make = contrib_layers.sum_regularizer

fc = functools.partial(
    contrib_layers.fully_connected,
    activation_fn=tf.nn.relu,
    weights_initializer=contrib_layers.xavier_initializer(),
)

SCALES = (1e-2, 5e-3)


def model(x):
    for depth, scale in enumerate(SCALES):
        both = make([l2(scale), sparse(1e-3)])
        x = fc(x, 5, weights_regularizer=both, scope="layer_{}".format(depth))
    return fc(
        x,
        3,
        activation_fn=None,
        weights_regularizer=l2(0.0),
        scope="top",
        biases_regularizer=lambda b: 0.1 * tf.reduce_sum(b * b),
    )


def loss(x, y):
    logits = model(x)
    data_loss = tf.losses.softmax_cross_entropy(tf.one_hot(y, 3), logits)
    total = tf.add_n([data_loss] + tf.losses.get_regularization_losses())
    return total
