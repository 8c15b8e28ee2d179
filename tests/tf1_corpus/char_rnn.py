"""A language model of characters: stacked LSTMs, and a loss at each step."""

import tensorflow as tf


def loss(inputs, labels):
    batch = 8 if inputs.get_shape()[0] is None else inputs.get_shape().as_list()[0]
    cells = [tf.nn.rnn_cell.BasicLSTMCell(4, forget_bias=0.0) for _ in range(2)]
    cell = tf.nn.rnn_cell.MultiRNNCell(cells, state_is_tuple=True)
    initial_state = cell.zero_state(batch, tf.float32)
    with tf.variable_scope('rnnlm'):
        embedding = tf.get_variable('embedding', [9, 4])
        outputs, last = tf.nn.dynamic_rnn(
            cell, tf.nn.embedding_lookup(embedding, inputs),
            initial_state=initial_state)
        output = tf.reshape(outputs[:, :-1], [-1, 4])
        softmax_w = tf.get_variable('softmax_w', [4, 9])
        softmax_b = tf.get_variable('softmax_b', [9])
    logits = tf.matmul(output, softmax_w) + softmax_b
    targets = tf.reshape(inputs[:, 1:], [-1])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=targets, logits=logits)
    tf.add_to_collection('final_state', last[0].h)
    decay = 0.01 * sum(tf.nn.l2_loss(v) for v in tf.trainable_variables())
    return tf.reduce_mean(losses) + decay
