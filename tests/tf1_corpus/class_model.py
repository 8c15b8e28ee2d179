"""A model as a class that builds its graph: an autoencoder with tied weights."""

import tensorflow as tf

import tensorflow.contrib as tc


class Config(object):
    l2 = 0.01
    sparsity = 0.05
    rate = 0.1


class Autoencoder(object):
    def __init__(self, x, config=Config):
        self.x = x
        self.config = config
        self._build()

    def _build(self):
        size = (
            self.x.shape[1].value
            if hasattr(self.x.shape[1], 'value')
            else (self.x.shape[1])
        )
        self.regularizer = tc.layers.l2_regularizer(self.config.l2)
        with tf.variable_scope('autoencoder', regularizer=self.regularizer):
            self.w = tf.get_variable('w', [size, 3])
            with tf.variable_scope('biases', regularizer=tf.no_regularizer):
                self.b = tf.get_variable('b', [3], initializer=tf.zeros_initializer())
                self.c = tf.get_variable(
                    'c', [size], initializer=tf.zeros_initializer()
                )
        self.code = tf.sigmoid(tf.matmul(self.x, self.w) + self.b)
        self.out = tf.matmul(self.code, self.w, transpose_b=True) + self.c

    @property
    def loss(self):
        activity = tf.reduce_mean(tf.abs(self.code))
        tf.losses.add_loss(self.config.sparsity * activity)
        tf.losses.mean_squared_error(self.x, self.out)
        return tf.losses.get_total_loss()


def loss(x, _):
    return Autoencoder(x).loss


def train(x, y):
    optimizer = tf.train.GradientDescentOptimizer(Config.rate)
    return optimizer.minimize(loss(x, y))
