"""tf.layers with kernel_regularizer and activity_regularizer."""

import tensorflow as tf

reg = tf.contrib.layers.l2_regularizer(scale=0.01)


def cnn(features):
    net = tf.layers.conv2d(
        inputs=features,
        filters=4,
        kernel_size=[3, 3],
        padding="same",
        activation=tf.nn.relu,
        kernel_regularizer=reg,
        name="conv",
    )
    net = tf.layers.max_pooling2d(net, 2, strides=2)
    net = tf.layers.flatten(net)
    net = tf.layers.dense(
        net,
        6,
        tf.nn.relu,
        kernel_regularizer=reg,
        bias_regularizer=tf.contrib.layers.l1_regularizer(1e-3),
        name="hidden",
    )
    net = tf.layers.dropout(net, rate=0.4, training=False)
    return tf.layers.dense(net, units=3)


def loss_fn(features, labels):
    logits = cnn(features)
    onehot = tf.one_hot(labels, depth=3)
    loss = tf.losses.softmax_cross_entropy(onehot_labels=onehot, logits=logits)
    # The layers have collected their penalties.
    return loss + tf.losses.get_regularization_loss()


def train_op(features, labels):
    optimizer = tf.train.AdamOptimizer(0.01)
    loss = loss_fn(features, labels)
    return optimizer.minimize(loss, global_step=tf.train.get_global_step())
