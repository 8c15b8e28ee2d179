# Copyright: nobody's.
"""slim from end to end: arg_scope, slim.losses, get_total_loss, create_train_op."""

import tensorflow as tf
import tensorflow.contrib.slim as slim  # the usual name


def lenet(images):
  with slim.arg_scope(
    [slim.conv2d, slim.fully_connected],
    activation_fn=tf.nn.relu,
    weights_initializer=tf.truncated_normal_initializer(0.0, 0.1),
    weights_regularizer=slim.l2_regularizer(0.0005),
  ):
    net = slim.conv2d(images, 4, [5, 5], scope='conv1')
    net = slim.max_pool2d(net, [2, 2], 2, scope='pool1')
    net = slim.repeat(net, 2, slim.conv2d, 4, [3, 3], scope='conv2')
    net = slim.avg_pool2d(net, [2, 2], scope='pool2')
    net = slim.flatten(net, scope='flatten')
    net = slim.stack(net, slim.fully_connected, [8, 6], scope='fc')
    net = slim.dropout(net, 0.5, is_training=False, scope='dropout')
    return slim.fully_connected(net, 3, activation_fn=None, scope='logits')


def compute_loss(images, labels):
  logits = lenet(images)
  one_hot = slim.one_hot_encoding(labels, 3)
  slim.losses.softmax_cross_entropy(logits, one_hot, label_smoothing=0.1)
  # Confident logits cost something.
  slim.losses.absolute_difference(logits, tf.zeros_like(logits), weights=0.01)
  return slim.losses.get_total_loss()


def make_train_op(images, labels, learning_rate=0.05):
  total_loss = compute_loss(images, labels)
  optimizer = tf.train.MomentumOptimizer(learning_rate, momentum=0.9)
  return slim.learning.create_train_op(total_loss, optimizer, clip_gradient_norm=1.0)


def main(_):
  images = tf.placeholder(tf.float32, [8, 8, 8, 1])
  labels = tf.placeholder(tf.int64, [8])
  slim.learning.train(make_train_op(images, labels), '/tmp/lenet')


if __name__ == '__main__':
  tf.app.run()
