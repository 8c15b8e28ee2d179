"""PointNet: shared layers per point, and batch norm with averages of its own."""

import tensorflow as tf


def _variable_with_weight_decay(name, shape, wd):
    var = tf.get_variable(name, shape,
                          initializer=tf.contrib.layers.xavier_initializer())
    if wd is not None:
        weight_decay = tf.multiply(tf.nn.l2_loss(var), wd, name='weight_loss')
        tf.add_to_collection('losses', weight_decay)
    return var


def batch_norm(inputs, scope, decay=0.9):
    with tf.variable_scope(scope):
        size = inputs.get_shape().as_list()[-1]
        beta = tf.get_variable('beta', [size], initializer=tf.zeros_initializer())
        gamma = tf.get_variable('gamma', [size], initializer=tf.ones_initializer())
        pop_mean = tf.get_variable('pop_mean', [size], trainable=False,
                                   initializer=tf.zeros_initializer())
        pop_var = tf.get_variable('pop_var', [size], trainable=False,
                                  initializer=tf.ones_initializer())
        axes = list(range(len(inputs.get_shape().as_list()) - 1))
        mean, var = tf.nn.moments(inputs, axes, name='moments')
        train_mean = tf.assign(pop_mean, pop_mean * decay + mean * (1 - decay))
        train_var = tf.assign(pop_var, pop_var * decay + var * (1 - decay))
        with tf.control_dependencies([train_mean, train_var]):
            return tf.nn.batch_normalization(inputs, mean, var, beta, gamma, 1e-3)


def conv1x1(inputs, size, scope, wd=0.01, bn=True, activation=tf.nn.relu):
    with tf.variable_scope(scope):
        kernel = _variable_with_weight_decay(
            'weights', [1, 1, inputs.get_shape().as_list()[-1], size], wd)
        biases = tf.get_variable('biases', [size],
                                 initializer=tf.constant_initializer(0.0))
        outputs = tf.nn.conv2d(inputs, kernel, [1, 1, 1, 1], padding='VALID')
        outputs = tf.nn.bias_add(outputs, biases)
        if bn:
            outputs = batch_norm(outputs, scope='bn')
        return outputs if activation is None else activation(outputs)


def get_model(points):
    net = tf.expand_dims(points, 2)
    net = conv1x1(net, 4, 'conv1')
    net = conv1x1(net, 6, 'conv2')
    net = tf.nn.max_pool(net, ksize=[1, 7, 1, 1], strides=[1, 1, 1, 1],
                         padding='VALID', name='maxpool')
    net = conv1x1(net, 3, 'fc', bn=False, activation=None, wd=None)
    return tf.squeeze(net, [1, 2])


def loss(points, labels):
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=get_model(points), labels=labels)
    tf.add_to_collection('losses', tf.reduce_mean(entropy, name='classify_loss'))
    return tf.add_n(tf.get_collection('losses'), name='total_loss')
