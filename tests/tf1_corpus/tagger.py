"""A tagger: embeddings, a bidirectional LSTM, and a loss at each word."""

import tensorflow as tf


def loss(words, labels):
    with tf.variable_scope('words'):
        table = tf.get_variable('_word_embeddings', [9, 4], dtype=tf.float32,
                                regularizer=tf.contrib.layers.l2_regularizer(0.01))
        embedded = tf.nn.embedding_lookup(table, words, name='word_embeddings')
    lengths = 2 + tf.cast(labels % 5, tf.int32)
    with tf.variable_scope('bi-lstm'):
        cell_fw = tf.contrib.rnn.LSTMCell(3)
        cell_bw = tf.contrib.rnn.LSTMCell(3)
        (output_fw, output_bw), _ = tf.nn.bidirectional_dynamic_rnn(
            cell_fw, cell_bw, embedded, sequence_length=lengths, dtype=tf.float32)
        output = tf.concat([output_fw, output_bw], axis=-1)
    with tf.variable_scope('proj'):
        w = tf.get_variable('W', dtype=tf.float32, shape=[6, 3])
        b = tf.get_variable('b', shape=[3], dtype=tf.float32,
                            initializer=tf.zeros_initializer())
        steps = tf.shape(output)[1]
        pred = tf.matmul(tf.reshape(output, [-1, 6]), w) + b
        logits = tf.reshape(pred, [-1, steps, 3])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=logits, labels=words % 3)
    mask = tf.sequence_mask(lengths, steps, dtype=tf.float32)
    return tf.reduce_mean(losses * mask) + tf.losses.get_regularization_loss()
