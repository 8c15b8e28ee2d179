"""Words looked up in a regularized table, negative samples included by hand."""

import tensorflow as tf

slim = tf.contrib.slim


def build(words, targets, vocabulary=9, size=4):
  with tf.variable_scope(
    "embeddings", initializer=tf.random_uniform_initializer(-1.0, 1.0)
  ):
    table = tf.get_variable(
      "table",
      [vocabulary, size],
      regularizer=tf.contrib.layers.l2_regularizer(1e-2),
    )
    nce = tf.get_variable("nce_weights", [vocabulary, size])
  found = tf.nn.embedding_lookup(table, words)
  context = tf.reduce_mean(found, axis=1)
  context = slim.fully_connected(
    context,
    size,
    activation_fn=tf.tanh,
    scope="context",
    weights_regularizer=slim.l1_regularizer(2e-3),
  )
  return tf.matmul(context, nce, transpose_b=True), found


def loss(words, targets):
  logits, found = build(words, targets)
  tf.losses.sparse_softmax_cross_entropy(targets, logits, scope="xent")
  # What was looked up is kept small, too.
  tf.losses.add_loss(5e-3 * tf.reduce_mean(tf.square(found)))
  return tf.losses.get_total_loss(name="total")
