"""YOLO's convolutions with leaky ReLUs, and a loss of boxes and classes."""

import tensorflow as tf

slim = tf.contrib.slim
_DECAY = 0.9


def _fixed_padding(inputs, kernel_size):
    pad = kernel_size // 2
    return tf.pad(inputs, [[0, 0], [pad, pad], [pad, pad], [0, 0]])


def _conv2d_fixed_padding(inputs, filters, kernel_size, strides=1):
    if strides > 1:
        inputs = _fixed_padding(inputs, kernel_size)
    return slim.conv2d(inputs, filters, kernel_size, stride=strides,
                       padding=('SAME' if strides == 1 else 'VALID'))


def darknet(inputs, is_training=True, data_format='NHWC', reuse=False):
    params = {'decay': _DECAY, 'epsilon': 1e-3, 'scale': True,
              'is_training': is_training, 'fused': None,
              'updates_collections': None}
    with slim.arg_scope([slim.conv2d, slim.batch_norm, _fixed_scope], reuse=reuse):
        with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm,
                            normalizer_params=params, biases_initializer=None,
                            weights_regularizer=slim.l2_regularizer(0.005),
                            activation_fn=lambda x: tf.nn.leaky_relu(x, alpha=0.1)):
            with tf.variable_scope('darknet'):
                net = _conv2d_fixed_padding(inputs, 4, 3)
                net = _conv2d_fixed_padding(net, 4, 3, strides=2)
                return slim.conv2d(net, 8, 1, normalizer_fn=None, activation_fn=None,
                                   biases_initializer=tf.zeros_initializer())


@slim.add_arg_scope
def _fixed_scope(inputs, reuse=None):
    return inputs


def loss(images, labels):
    predictions = darknet(images)
    centers, sizes, confidence, classes = tf.split(predictions, [2, 2, 1, 3], axis=-1)
    wanted = tf.cast(labels, tf.float32)[:, None, None, None]
    xy = tf.reduce_mean(tf.square(tf.sigmoid(centers) - 0.5))
    wh = tf.reduce_mean(tf.square(sizes - 0.1 * wanted))
    confidence = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.ones_like(confidence), logits=confidence))
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.one_hot(labels, 3)[:, None, None] * tf.ones_like(classes),
        logits=classes)
    total = xy + wh + confidence + tf.reduce_mean(entropy)
    return total + tf.losses.get_regularization_loss()
