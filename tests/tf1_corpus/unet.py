"""A U-Net of tf.layers and contrib: down, up, and skip connections."""

import tensorflow as tf
from tensorflow.contrib import layers


def down(x, filters, name):
    with tf.variable_scope('layer{}'.format(name)):
        x = tf.layers.conv2d(
            x, filters, (3, 3), activation=tf.nn.relu, padding='same', name='conv_1',
            kernel_regularizer=layers.l2_regularizer(0.01))
        pool = tf.layers.max_pooling2d(x, (2, 2), strides=(2, 2), name='pool')
        return x, pool


def up(x, skip, filters, name):
    x = layers.conv2d_transpose(x, filters, 2, stride=2, activation_fn=None,
                                scope='upsample_{}'.format(name),
                                weights_regularizer=layers.l2_regularizer(0.01))
    return tf.concat([x, skip], axis=-1, name='concat_{}'.format(name))


def loss(images, labels):
    conv1, pool1 = down(images, 3, 1)
    conv2, _ = down(pool1, 4, 2)
    net = up(conv2, conv1, 2, 3)
    logits = tf.layers.conv2d(net, 1, (1, 1), name='final', padding='same')
    mask = tf.cast(images > 0, tf.float32)
    prediction = tf.sigmoid(logits)
    intersection = tf.reduce_sum(prediction * mask, axis=[1, 2, 3])
    size = tf.reduce_sum(prediction + mask, axis=[1, 2, 3])
    dice = tf.reduce_mean((2.0 * intersection + 1) / (size + 1))
    return 1.0 - dice + tf.losses.get_regularization_loss()
