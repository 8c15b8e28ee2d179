"""A Transformer's encoder: attention, position-wise layers, layer_norm."""

import numpy as np
import tensorflow as tf


def positions(length, size):
    angles = np.arange(length)[:, None] / 100 ** (np.arange(size)[None] / size)
    return tf.constant(np.sin(angles), tf.float32)


def multihead_attention(queries, keys, num_heads=2, scope='attention'):
    size = queries.get_shape().as_list()[-1]
    with tf.variable_scope(scope):
        q = tf.layers.dense(queries, size, use_bias=False)
        k = tf.layers.dense(keys, size, use_bias=False)
        v = tf.layers.dense(keys, size, use_bias=False)
        q_, k_, v_ = (tf.concat(tf.split(t, num_heads, axis=2), axis=0)
                      for t in (q, k, v))
        logits = tf.matmul(q_, tf.transpose(k_, [0, 2, 1])) / (size ** 0.5)
        lower = tf.matrix_band_part(tf.ones_like(logits[0]), -1, 0)
        logits += (1.0 - lower)[None] * -1e4
        outputs = tf.matmul(tf.nn.softmax(logits), v_)
        outputs = tf.concat(tf.split(outputs, num_heads, axis=0), axis=2)
        outputs = tf.layers.dense(outputs, size, name='output_transform')
    return tf.contrib.layers.layer_norm(queries + outputs, begin_norm_axis=-1)


def feed_forward(inputs, size, scope='ffn'):
    with tf.variable_scope(scope):
        outputs = tf.layers.dense(inputs, size, activation=tf.nn.relu)
        outputs = tf.layers.dense(outputs, inputs.get_shape().as_list()[-1])
    return tf.contrib.layers.layer_norm(inputs + outputs, begin_norm_axis=-1)


def loss(words, labels):
    regularizer = tf.contrib.layers.l2_regularizer(0.01)
    with tf.variable_scope('encoder', regularizer=regularizer):
        table = tf.get_variable('lookup_table', [9, 8],
                                initializer=tf.contrib.layers.xavier_initializer())
        x = tf.nn.embedding_lookup(table, words) * 8 ** 0.5 + positions(6, 8)
        for i in range(2):
            with tf.variable_scope('num_blocks_{}'.format(i)):
                x = multihead_attention(x, x)
                x = feed_forward(x, 12)
    logits = tf.tensordot(x[:, -1], table, [[1], [1]])
    entropy = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    penalties = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    return entropy + tf.add_n(penalties)
