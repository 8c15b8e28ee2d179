"""DCGAN's generator and discriminator of tf.layers, with batch normalization."""

import tensorflow as tf


def generator(z, reuse=None):
    with tf.variable_scope('gen', reuse=reuse):
        x = tf.layers.dense(z, units=2 * 2 * 4)
        x = tf.layers.batch_normalization(x, momentum=0.9, training=True)
        x = tf.nn.relu(tf.reshape(x, shape=[-1, 2, 2, 4]))
        x = tf.layers.conv2d_transpose(x, 3, 3, strides=2, padding='same')
        x = tf.layers.batch_normalization(x, momentum=0.9, training=True, fused=False)
        x = tf.nn.relu(x)
        return tf.layers.conv2d_transpose(x, 1, 3, strides=2, padding='same',
                                          activation=tf.nn.tanh)


def discriminator(x, reuse=None):
    with tf.variable_scope('disc', reuse=reuse):
        x = tf.layers.conv2d(x, 4, 3, strides=2, padding='same')
        x = tf.nn.leaky_relu(x, 0.2)
        x = tf.layers.flatten(x)
        return tf.layers.dense(
            x, 2, kernel_regularizer=tf.contrib.layers.l2_regularizer(0.01))


def loss(images, labels):
    fake = generator(tf.one_hot(labels, 3))
    real_logits = discriminator(images)
    fake_logits = discriminator(fake, reuse=True)
    real = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=real_logits, labels=tf.ones_like(labels)))
    false = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=fake_logits, labels=tf.zeros_like(labels)))
    tf.losses.add_loss(real)
    tf.losses.add_loss(false)
    return tf.losses.get_total_loss()
