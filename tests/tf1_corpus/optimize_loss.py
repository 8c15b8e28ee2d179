"""contrib's optimize_loss, with gradients clipped by their global norm."""

import tensorflow as tf
from tensorflow.contrib.layers import fully_connected, l2_regularizer, optimize_loss
from tensorflow.contrib.losses import get_total_loss, log_loss


def classify(x, y):
    with tf.variable_scope("classifier", regularizer=l2_regularizer(0.02)):
        h = fully_connected(x, 5, tf.nn.tanh, scope="h")
        p = fully_connected(h, 3, tf.nn.sigmoid, scope="p")
    log_loss(p, tf.one_hot(y, 3), 2.0)
    return get_total_loss()


def make(x, y):
    total = classify(x, y)
    return optimize_loss(
        total,
        tf.train.get_or_create_global_step(),
        learning_rate=0.1,
        optimizer="SGD",
        clip_gradients=0.5,
        summaries=[],
        name="optimize",
    )
