"""A style network: instance_norm, residual blocks, and a total variation."""

import tensorflow as tf


def conv(x, filters, size, stride, name, relu=True):
    with tf.variable_scope(name):
        w = tf.get_variable('w', [size, size, x.get_shape()[3].value
                                  if hasattr(x.get_shape()[3], 'value')
                                  else x.get_shape()[3], filters],
                            regularizer=tf.contrib.layers.l1_regularizer(0.001))
        x = tf.nn.conv2d(x, w, [1, stride, stride, 1], padding='SAME')
        x = tf.contrib.layers.instance_norm(x, epsilon=1e-3)
        return tf.nn.relu(x) if relu else x


def residual(x, filters, name):
    with tf.variable_scope(name):
        y = conv(x, filters, 3, 1, 'conv1')
        return x + conv(y, filters, 3, 1, 'conv2', relu=False)


def loss(images, labels):
    x = conv(images, 3, 3, 1, 'conv1')
    x = conv(x, 4, 3, 2, 'conv2')
    x = residual(x, 4, 'res1')
    x = tf.contrib.layers.group_norm(x, groups=2, scope='group')
    x = tf.image.resize_nearest_neighbor(x, [8, 8])
    x = tf.layers.conv2d(x, 1, 3, padding='same', activation=tf.nn.tanh)
    content = tf.losses.mean_squared_error(images, x)
    variation = tf.reduce_mean(tf.abs(x[:, 1:] - x[:, :-1]))
    total = content + 0.1 * variation
    return total + sum(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))
