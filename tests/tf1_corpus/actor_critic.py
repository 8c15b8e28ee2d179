"""An actor and a critic that share a layer, with an entropy bonus."""

import tensorflow as tf
import tensorflow.contrib.layers as layers


def fc(x, scope, nh, init_scale=1.0):
    with tf.variable_scope(scope):
        w = tf.get_variable('w', [x.get_shape()[1], nh],
                            initializer=tf.orthogonal_initializer(init_scale))
        b = tf.get_variable('b', [nh], initializer=tf.constant_initializer(0.0))
        return tf.matmul(x, w) + b


class Policy(object):
    def __init__(self, x, reuse=False):
        with tf.variable_scope('model', reuse=reuse):
            h = layers.fully_connected(x, num_outputs=6, activation_fn=None)
            h = tf.nn.relu(layers.layer_norm(h, center=True, scale=True))
            self.pi = fc(h, 'pi', 3, init_scale=0.1)
            self.vf = fc(h, 'v', 1)[:, 0]


def entropy_of(logits):
    a0 = logits - tf.reduce_max(logits, 1, keep_dims=True)
    ea0 = tf.exp(a0)
    z0 = tf.reduce_sum(ea0, 1, keep_dims=True)
    return tf.reduce_sum(ea0 / z0 * (tf.log(z0) - a0), 1)


def loss(x, actions):
    train_model = Policy(x)
    step_model = Policy(0.5 * x, reuse=True)
    rewards = tf.reduce_sum(x, 1)
    advantage = rewards - tf.stop_gradient(step_model.vf)
    neglogpac = tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=train_model.pi, labels=actions)
    pg_loss = tf.reduce_mean(advantage * neglogpac)
    vf_loss = tf.reduce_mean(tf.square(train_model.vf - rewards) / 2)
    return pg_loss - 0.1 * tf.reduce_mean(entropy_of(train_model.pi)) + 0.5 * vf_loss
