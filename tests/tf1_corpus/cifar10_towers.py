"""CIFAR-10's multi-GPU tutorial: towers, and decay in a collection named 'losses'."""

from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import re

import tensorflow as tf

TOWER_NAME = 'tower'
NUM_TOWERS = 2


def _variable_on_cpu(name, shape, initializer):
  with tf.device('/cpu:0'):
    return tf.get_variable(name, shape, initializer=initializer, dtype=tf.float32)


def _variable_with_weight_decay(name, shape, stddev, wd):
  """Helper to create an initialized Variable with weight decay.

  Note that the Variable is initialized with a truncated normal distribution.
  A weight decay is added only if one is specified.
  """
  var = _variable_on_cpu(
    name, shape, tf.truncated_normal_initializer(stddev=stddev, dtype=tf.float32)
  )
  if wd is not None:
    weight_decay = tf.multiply(tf.nn.l2_loss(var), wd, name='weight_loss')
    tf.add_to_collection('losses', weight_decay)
  return var


def inference(images):
  """Build the CIFAR-10 model, a small one."""
  with tf.variable_scope('conv1') as scope:
    kernel = _variable_with_weight_decay('weights', [3, 3, 1, 4], 5e-2, None)
    conv = tf.nn.conv2d(images, kernel, [1, 1, 1, 1], padding='SAME')
    biases = _variable_on_cpu('biases', [4], tf.constant_initializer(0.0))
    conv1 = tf.nn.relu(tf.nn.bias_add(conv, biases), name=scope.name)

  pool1 = tf.nn.max_pool(
    conv1, [1, 3, 3, 1], [1, 2, 2, 1], padding='SAME', name='pool1'
  )
  norm1 = tf.nn.lrn(pool1, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name='norm1')

  with tf.variable_scope('local2') as scope:
    reshape = tf.reshape(norm1, [images.get_shape()[0], -1])
    dim = reshape.get_shape()[1]
    weights = _variable_with_weight_decay('weights', [dim, 6], 0.04, 0.04)
    biases = _variable_on_cpu('biases', [6], tf.constant_initializer(0.1))
    local2 = tf.nn.relu(tf.matmul(reshape, weights) + biases, name=scope.name)

  with tf.variable_scope('softmax_linear') as scope:
    weights = _variable_with_weight_decay('weights', [6, 3], 1 / 6.0, 0.01)
    biases = _variable_on_cpu('biases', [3], tf.constant_initializer(0.0))
    return tf.add(tf.matmul(local2, weights), biases, name=scope.name)


def loss(logits, labels):
  """Add the mean cross entropy to the losses, and return their sum."""
  labels = tf.cast(labels, tf.int64)
  cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=labels, logits=logits, name='cross_entropy_per_example'
  )
  cross_entropy_mean = tf.reduce_mean(cross_entropy, name='cross_entropy')
  tf.add_to_collection('losses', cross_entropy_mean)
  return tf.add_n(tf.get_collection('losses'), name='total_loss')


def total_loss(images, labels):
  return loss(inference(images), labels)


def tower_loss(scope, images, labels):
  """The total loss on a single tower: the losses of this tower only."""
  logits = inference(images)
  _ = loss(logits, labels)
  losses = tf.get_collection('losses', scope)
  return tf.add_n(losses, name='total_loss')


def average_gradients(tower_grads):
  """Calculate the average gradient for each shared variable across all towers."""
  average_grads = []
  for grad_and_vars in zip(*tower_grads):
    grads = [tf.expand_dims(g, 0) for g, _ in grad_and_vars]
    grad = tf.reduce_mean(tf.concat(axis=0, values=grads), 0)
    average_grads.append((grad, grad_and_vars[0][1]))
  return average_grads


def train(images, labels):
  opt = tf.train.GradientDescentOptimizer(0.1)
  tower_grads, tower_losses = [], []
  with tf.variable_scope(tf.get_variable_scope()):
    for i, (x, y) in enumerate(
      zip(tf.split(images, NUM_TOWERS), tf.split(labels, NUM_TOWERS))
    ):
      with tf.name_scope('%s_%d' % (TOWER_NAME, i)) as scope:
        loss = tower_loss(scope, x, y)
        tf.get_variable_scope().reuse_variables()
        tower_losses.append(loss)
        tower_grads.append(opt.compute_gradients(loss))
  train_op = opt.apply_gradients(average_gradients(tower_grads))
  return tf.add_n(tower_losses) / NUM_TOWERS, train_op


def describe(x):
  return re.sub('%s_[0-9]*/' % TOWER_NAME, '', x.op.name)
