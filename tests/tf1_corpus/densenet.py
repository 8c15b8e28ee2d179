"""A DenseNet of tf.layers: batch normalization, concatenations, a transition."""

import tensorflow as tf


class DenseNet(object):
    def __init__(self, x, growth, training):
        self.growth = growth
        self.training = training
        self.model = self.build(x)

    def norm(self, x, scope):
        return tf.nn.relu(tf.layers.batch_normalization(
            x, momentum=0.9, training=self.training, renorm=False, name=scope))

    def bottleneck(self, x, scope):
        with tf.variable_scope(scope):
            x = self.norm(x, scope='bn1')
            x = tf.layers.conv2d(x, 2 * self.growth, 1, padding='same', use_bias=False)
            x = self.norm(x, scope='bn2')
            return tf.layers.conv2d(x, self.growth, 3, padding='same', use_bias=False)

    def build(self, x):
        x = tf.layers.conv2d(x, 3, 3, strides=2, padding='same', name='conv0')
        for i in range(2):
            x = tf.concat([x, self.bottleneck(x, 'dense_%d' % i)], axis=3)
        x = tf.layers.average_pooling2d(self.norm(x, 'linear'), 2, 2)
        x = tf.layers.flatten(x)
        return tf.layers.dense(x, units=3, name='linear_fc')


def loss(images, labels):
    logits = DenseNet(images, growth=2, training=True).model
    entropy = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    l2_loss = tf.add_n([tf.nn.l2_loss(v) for v in tf.trainable_variables()
                        if 'kernel' in v.name])
    return entropy + l2_loss * 0.01
