"""A Q-network: two scopes, of which the target's weights aren't trained."""

import tensorflow as tf


def build_layers(s, c_names, trainable):
    w_init = tf.random_normal_initializer(0.0, 0.3)
    b_init = tf.constant_initializer(0.1)
    with tf.variable_scope('l1'):
        w1 = tf.get_variable('w1', [5, 6], initializer=w_init, collections=c_names,
                             trainable=trainable,
                             regularizer=tf.contrib.layers.l2_regularizer(0.01))
        b1 = tf.get_variable('b1', [1, 6], initializer=b_init, collections=c_names,
                             trainable=trainable)
        l1 = tf.nn.relu(tf.matmul(s, w1) + b1)
    with tf.variable_scope('l2'):
        w2 = tf.get_variable('w2', [6, 3], initializer=w_init, collections=c_names,
                             trainable=trainable)
        b2 = tf.get_variable('b2', [1, 3], initializer=b_init, collections=c_names,
                             trainable=trainable)
        return tf.matmul(l1, w2) + b2


def loss(state, action):
    with tf.variable_scope('eval_net'):
        names = ['eval_net_params', tf.GraphKeys.GLOBAL_VARIABLES]
        q_eval = build_layers(state, names, True)
    with tf.variable_scope('target_net'):
        names = ['target_net_params', tf.GraphKeys.GLOBAL_VARIABLES]
        q_next = build_layers(0.5 * state, names, False)
    reward = tf.reduce_sum(state, axis=1)
    target = tf.stop_gradient(reward + 0.9 * tf.reduce_max(q_next, axis=1))
    chosen = tf.reduce_sum(q_eval * tf.one_hot(action, 3), axis=1)
    with tf.variable_scope('loss'):
        error = tf.reduce_mean(tf.squared_difference(target, chosen))
    # The copies: one step of a soft replacement.
    params = tf.get_collection('eval_net_params')
    targets = tf.get_collection('target_net_params')
    distance = tf.add_n([tf.nn.l2_loss(e - t) for t, e in zip(targets, params)])
    return error + 0.01 * distance + tf.losses.get_regularization_loss()
