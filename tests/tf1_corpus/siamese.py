"""A siamese network: two towers with shared weights, by reuse."""

import tensorflow as tf
import tensorflow.contrib.slim as slim


def tower(x, reuse=False):
    with tf.name_scope('model'):
        with tf.variable_scope('conv1') as scope:
            net = tf.contrib.layers.conv2d(
                x, 3, [3, 3], activation_fn=tf.nn.relu, padding='SAME',
                weights_initializer=tf.contrib.layers.xavier_initializer_conv2d(),
                weights_regularizer=slim.l2_regularizer(0.01), scope=scope,
                reuse=reuse)
            net = tf.contrib.layers.max_pool2d(net, [2, 2], padding='SAME')
        with tf.variable_scope('conv2') as scope:
            net = tf.contrib.layers.conv2d(
                net, 2, [3, 3], activation_fn=None, padding='SAME', scope=scope,
                reuse=reuse)
            net = tf.contrib.layers.max_pool2d(net, [2, 2], padding='SAME')
        return tf.contrib.layers.flatten(net)


def contrastive_loss(left, right, y, margin):
    with tf.name_scope('contrastive-loss'):
        distance = tf.sqrt(1e-3 + tf.reduce_sum(tf.pow(left - right, 2), 1,
                                                keepdims=True))
        similarity = y * tf.square(distance)
        dissimilarity = (1 - y) * tf.square(tf.maximum(margin - distance, 0))
        return tf.reduce_mean(dissimilarity + similarity) / 2


def loss(images, labels):
    left = tower(images)
    right = tower(tf.reverse(images, [2]), reuse=True)
    y = tf.cast(tf.expand_dims(labels > 0, 1), tf.float32)
    penalties = slim.losses.get_regularization_losses()
    return contrastive_loss(left, right, y, 0.5) + tf.add_n(penalties)
