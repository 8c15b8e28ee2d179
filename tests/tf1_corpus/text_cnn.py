"""A convolutional network for sentences, as a class, with an L2 loss by hand."""

import tensorflow as tf


class TextCNN(object):
    def __init__(self, words, labels, filter_sizes=(2, 3), num_filters=3):
        l2_loss = tf.constant(0.0)
        with tf.name_scope('embedding'), tf.variable_scope('embedding'):
            table = tf.get_variable('W', [9, 4])
            chars = tf.expand_dims(tf.nn.embedding_lookup(table, words), -1)
        pooled = []
        for size in filter_sizes:
            with tf.variable_scope('conv-maxpool-%s' % size):
                w = tf.get_variable('W', [size, 4, 1, num_filters])
                b = tf.get_variable('b', [num_filters],
                                    initializer=tf.constant_initializer(0.1))
                conv = tf.nn.conv2d(chars, w, strides=[1, 1, 1, 1], padding='VALID',
                                    name='conv')
                h = tf.nn.relu(tf.nn.bias_add(conv, b), name='relu')
                pooled.append(tf.nn.max_pool(
                    h, ksize=[1, 6 - size + 1, 1, 1], strides=[1, 1, 1, 1],
                    padding='VALID', name='pool'))
        total = num_filters * len(filter_sizes)
        flat = tf.reshape(tf.concat(pooled, 3), [-1, total])
        with tf.variable_scope('output'):
            w = tf.get_variable('W', shape=[total, 3],
                                initializer=tf.contrib.layers.xavier_initializer())
            b = tf.get_variable('b', [3], initializer=tf.constant_initializer(0.1))
            l2_loss += tf.nn.l2_loss(w)
            l2_loss += tf.nn.l2_loss(b)
            self.scores = tf.nn.xw_plus_b(flat, w, b, name='scores')
        losses = tf.nn.softmax_cross_entropy_with_logits_v2(
            logits=self.scores, labels=tf.one_hot(labels % 3, 3))
        self.loss = tf.reduce_mean(losses) + 0.1 * l2_loss


def loss(words, labels):
    return TextCNN(words, labels).loss
