"""contrib.layers under an arg_scope, as its tutorials have it."""

import tensorflow as tf
from tensorflow.contrib import layers
from tensorflow.contrib.framework import arg_scope
from tensorflow.contrib.layers import l2_regularizer as l2


def net_arg_scope(weight_decay=4e-3):
    with arg_scope(
        [layers.conv2d, layers.fully_connected],
        weights_regularizer=l2(weight_decay),
        biases_regularizer=l2(1e-3, scope="biases"),
        activation_fn=tf.nn.elu,
    ):
        # Without padding in the convolutions.
        with arg_scope([layers.conv2d], padding="VALID") as scope:
            return scope


def net(images):
    with arg_scope(net_arg_scope()):
        y = layers.conv2d(images, 4, [3, 3], scope="conv1")
        y = layers.max_pool2d(y, [2, 2], scope="pool1")
        y = layers.conv2d(y, 5, [2, 2], weights_regularizer=None, scope="conv2")
        y = layers.flatten(y)
        return layers.fully_connected(
            y, 3, activation_fn=None, biases_initializer=None, scope="logits"
        )


def total_loss(images, labels):
    logits = net(images)
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits),
        name="xent",
    )
    reg_losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    loss += tf.add_n(reg_losses)
    return loss
