"""A GRU reader with attention, and a sampled question."""

import tensorflow as tf


def attention(inputs, size, scope='attention'):
    with tf.variable_scope(scope, initializer=tf.random_normal_initializer(0.0, 0.1)):
        w = tf.get_variable('w', [inputs.get_shape().as_list()[-1], size])
        b = tf.get_variable('b', [size], initializer=tf.zeros_initializer())
        u = tf.get_variable('u', [size])
        v = tf.tanh(tf.tensordot(inputs, w, axes=1) + b)
        alphas = tf.nn.softmax(tf.tensordot(v, u, axes=1))
        return tf.reduce_sum(inputs * tf.expand_dims(alphas, -1), 1), alphas


def loss(words, labels):
    regularizer = tf.contrib.layers.l2_regularizer(scale=0.01)
    with tf.variable_scope('reader', regularizer=regularizer):
        table = tf.get_variable('embeddings', [9, 4])
        inputs = tf.nn.embedding_lookup(table, words)
        cell = tf.contrib.rnn.GRUCell(5)
        outputs = tf.unstack(inputs, 6, axis=1)
        outputs, _ = tf.contrib.rnn.static_rnn(cell, outputs, dtype=tf.float32)
        context, alphas = attention(tf.stack(outputs, axis=1), 4)
    tf.add_to_collection('alphas', alphas)
    logits = tf.layers.dense(context, 9)
    entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=logits, labels=labels))
    return entropy + tf.losses.get_regularization_loss()
