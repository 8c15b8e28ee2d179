"""A variational autoencoder; its noise is an input."""

import tensorflow as tf


def encoder(x, n_hidden=6, dim_z=2):
    with tf.variable_scope('gaussian_encoder'):
        w_init = tf.contrib.layers.variance_scaling_initializer()
        w0 = tf.get_variable('w0', [x.get_shape()[1], n_hidden], initializer=w_init)
        b0 = tf.get_variable('b0', [n_hidden], initializer=tf.constant_initializer(0.))
        h0 = tf.nn.elu(tf.matmul(x, w0) + b0)
        wo = tf.get_variable('wo', [n_hidden, dim_z * 2], initializer=w_init)
        bo = tf.get_variable('bo', [dim_z * 2], initializer=tf.constant_initializer(0.))
        params = tf.matmul(h0, wo) + bo
        return params[:, :dim_z], 1e-6 + tf.nn.softplus(params[:, dim_z:])


def decoder(z, size, reuse=False):
    with tf.variable_scope('bernoulli_decoder', reuse=reuse):
        hidden = tf.layers.dense(
            z, 6, tf.nn.tanh,
            kernel_regularizer=tf.contrib.layers.l2_regularizer(0.01))
        return tf.sigmoid(tf.layers.dense(hidden, size))


def loss(x, labels):
    x = tf.sigmoid(x)
    mean, deviation = encoder(x)
    z = mean + deviation * tf.one_hot(labels, 2)
    y = tf.clip_by_value(decoder(z, 5), 1e-8, 1 - 1e-8)
    marginal = tf.reduce_sum(x * tf.log(y) + (1 - x) * tf.log(1 - y), 1)
    divergence = 0.5 * tf.reduce_sum(
        tf.square(mean) + tf.square(deviation)
        - tf.log(1e-8 + tf.square(deviation)) - 1, 1)
    elbo = tf.reduce_mean(marginal) - tf.reduce_mean(divergence)
    return -elbo + tf.losses.get_regularization_loss()
