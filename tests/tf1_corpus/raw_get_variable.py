"""Weights by get_variable; the regularizer is the scope's, the biases go without."""

from __future__ import print_function

import tensorflow as tf

WEIGHT_DECAY = 1e-2


def dense(x, units, name):
  with tf.variable_scope(name):
    w = tf.get_variable(
      'weights',
      [x.get_shape()[-1], units],
      tf.float32,
      tf.truncated_normal_initializer(stddev=0.1),
    )
    b = tf.get_variable(
      'biases',
      [units],
      initializer=tf.zeros_initializer(),
      regularizer=tf.no_regularizer,
    )
    return tf.matmul(x, w) + b


def inference(x):
  regularizer = tf.contrib.layers.l2_regularizer(scale=WEIGHT_DECAY)
  with tf.variable_scope('mlp', regularizer=regularizer):
    hidden = tf.nn.relu(dense(x, 7, 'hidden'))
    return dense(hidden, 3, 'logits')


def loss(x, labels):
  """Cross entropy and everything that get_variable has collected."""
  cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=labels, logits=inference(x)
  )
  return tf.reduce_mean(cross_entropy) + tf.add_n(
    tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
  )
