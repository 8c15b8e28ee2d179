"""An Estimator's model_fn; the spec is what can't be ported."""

import tensorflow as tf
from tensorflow.contrib import layers


def network(features, params, mode):
    hidden = features["x"]
    training = mode == tf.estimator.ModeKeys.TRAIN
    with tf.variable_scope(
        "dnn", values=(hidden,), regularizer=layers.l2_regularizer(params["decay"])
    ):
        for i, units in enumerate(params["hidden_units"]):
            with tf.variable_scope("hiddenlayer_%d" % i, values=(hidden,)):
                hidden = layers.fully_connected(
                    hidden,
                    units,
                    weights_initializer=None,
                    variables_collections=["dnn_weights"],
                )
                hidden = layers.dropout(hidden, 0.9, is_training=training and False)
    return layers.fully_connected(hidden, 3, activation_fn=None, scope="logits")


def compute_loss(features, labels, params, mode=tf.estimator.ModeKeys.TRAIN):
    logits = network(features, params, mode)
    loss = tf.losses.sparse_softmax_cross_entropy(
        labels, logits, reduction=tf.losses.Reduction.SUM_OVER_BATCH_SIZE
    )
    reg_loss = tf.losses.get_regularization_loss()
    return loss + reg_loss


def model_fn(features, labels, mode, params):
    loss = compute_loss(features, labels, params, mode)
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    optimizer = tf.train.AdagradOptimizer(learning_rate=params["rate"])
    train_op = optimizer.minimize(loss, tf.train.get_or_create_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
