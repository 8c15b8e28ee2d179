"""The layers of spectral_gan, which imports them all."""

import tensorflow as tf

weight_init = tf.random_normal_initializer(mean=0.0, stddev=0.02)
weight_regularizer = tf.contrib.layers.l2_regularizer(scale=0.01)


def spectral_norm(w, iteration=1):
    w_shape = w.shape.as_list()
    w = tf.reshape(w, [-1, w_shape[-1]])
    u = tf.get_variable('u', [1, w_shape[-1]], trainable=False,
                        initializer=tf.ones_initializer())
    u_hat = u
    v_hat = None
    for _ in range(iteration):
        v_hat = tf.nn.l2_normalize(tf.matmul(u_hat, tf.transpose(w)))
        u_hat = tf.nn.l2_normalize(tf.matmul(v_hat, w))
    u_hat = tf.stop_gradient(u_hat)
    v_hat = tf.stop_gradient(v_hat)
    sigma = tf.matmul(tf.matmul(v_hat, w), tf.transpose(u_hat))
    with tf.control_dependencies([u.assign(u_hat)]):
        return tf.reshape(w / sigma, w_shape)


def conv(x, channels, kernel=3, stride=2, sn=False, scope='conv_0'):
    with tf.variable_scope(scope):
        w = tf.get_variable('kernel', [kernel, kernel, x.get_shape()[-1], channels],
                            initializer=weight_init, regularizer=weight_regularizer)
        bias = tf.get_variable('bias', [channels],
                               initializer=tf.constant_initializer(0.0))
        if sn:
            w = spectral_norm(w)
        x = tf.nn.conv2d(input=x, filter=w, strides=[1, stride, stride, 1],
                         padding='SAME')
        return tf.nn.bias_add(x, bias)


def deconv(x, channels, scope='deconv_0'):
    with tf.variable_scope(scope):
        return tf.layers.conv2d_transpose(
            inputs=x, filters=channels, kernel_size=3, strides=2, padding='SAME',
            kernel_initializer=weight_init, kernel_regularizer=weight_regularizer)


def lrelu(x, alpha=0.2):
    return tf.nn.leaky_relu(x, alpha)


def relu(x):
    return tf.nn.relu(x)


def hinge(real, fake):
    return (tf.reduce_mean(relu(1.0 - real)) + tf.reduce_mean(relu(1.0 + fake)),
            -tf.reduce_mean(fake))
