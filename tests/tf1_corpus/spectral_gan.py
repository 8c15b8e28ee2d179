"""A GAN with spectral norm, whose layers arrive by import *."""

import tensorflow as tf
from gan_ops import *


def discriminator(x, reuse=False):
    with tf.variable_scope('discriminator', reuse=reuse):
        x = lrelu(conv(x, 3, sn=True, scope='conv_0'))
        x = conv(x, 1, sn=True, scope='conv_1')
        return tf.reduce_sum(x, axis=[1, 2, 3])


def generator(z, reuse=False):
    with tf.variable_scope('generator', reuse=reuse):
        x = tf.layers.dense(z, 2 * 2 * 3, kernel_regularizer=weight_regularizer)
        x = relu(tf.reshape(x, [-1, 2, 2, 3]))
        x = relu(deconv(x, 3, scope='deconv_0'))
        return tf.tanh(deconv(x, 1, scope='deconv_1'))


def loss(images, labels):
    fake = generator(tf.one_hot(labels, 3))
    both = discriminator(tf.concat([images, fake], 0))
    d_loss, g_loss = hinge(*tf.split(both, 2))
    return d_loss + 0.1 * g_loss + tf.losses.get_regularization_loss()
