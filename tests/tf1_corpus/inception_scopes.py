"""An Inception network: branches in arg_scopes, and an auxiliary head."""

import tensorflow as tf
import tensorflow.contrib.slim as slim


def trunc_normal(stddev):
    return tf.truncated_normal_initializer(0.0, stddev)


def inception(inputs, num_classes=3, scope='Inception'):
    end_points = {}
    with tf.variable_scope(scope, 'Inception', [inputs]):
        with slim.arg_scope([slim.conv2d, slim.max_pool2d, slim.avg_pool2d], stride=1,
                            padding='SAME'):
            net = slim.conv2d(inputs, 4, [3, 3], scope='Conv2d_1a_3x3')
            with tf.variable_scope('Mixed_3b'):
                with tf.variable_scope('Branch_0'):
                    branch_0 = slim.conv2d(net, 2, [1, 1], scope='Conv2d_0a_1x1')
                with tf.variable_scope('Branch_1'):
                    branch_1 = slim.conv2d(net, 2, [1, 1], scope='Conv2d_0a_1x1')
                    branch_1 = slim.conv2d(branch_1, 3, [1, 7], scope='Conv2d_0b_1x7')
                    branch_1 = slim.conv2d(branch_1, 3, [7, 1], scope='Conv2d_0c_7x1')
                with tf.variable_scope('Branch_2'):
                    branch_2 = slim.avg_pool2d(net, [3, 3], scope='AvgPool_0a_3x3')
                    branch_2 = slim.conv2d(branch_2, 2, [1, 1], scope='Conv2d_0b_1x1',
                                           weights_initializer=trunc_normal(0.09))
                net = tf.concat(axis=3, values=[branch_0, branch_1, branch_2])
            end_points['Mixed_3b'] = net
            with tf.variable_scope('AuxLogits'):
                aux = slim.avg_pool2d(net, [5, 5], stride=3, padding='VALID')
                aux = slim.conv2d(aux, 3, [1, 1])
                aux = slim.flatten(aux)
                end_points['AuxLogits'] = slim.fully_connected(
                    aux, num_classes, activation_fn=None, normalizer_fn=None)
        with tf.variable_scope('Logits'):
            net = slim.max_pool2d(net, [2, 2], scope='MaxPool_4a')
            net = slim.flatten(net)
            logits = slim.fully_connected(net, num_classes, activation_fn=None,
                                          normalizer_fn=None)
            end_points['Predictions'] = slim.softmax(logits, scope='Predictions')
    return logits, end_points


def arg_scope(weight_decay=0.004):
    params = {'decay': 0.9, 'updates_collections': None}
    with slim.arg_scope([slim.conv2d, slim.fully_connected],
                        weights_regularizer=slim.l2_regularizer(weight_decay)):
        with slim.arg_scope([slim.conv2d], activation_fn=tf.nn.relu,
                            normalizer_fn=slim.batch_norm,
                            normalizer_params=params) as sc:
            return sc


def loss(images, labels):
    with slim.arg_scope(arg_scope()):
        logits, end_points = inception(images)
    one_hot = slim.one_hot_encoding(labels, 3)
    tf.losses.softmax_cross_entropy(logits=end_points['AuxLogits'],
                                    onehot_labels=one_hot, label_smoothing=0.1,
                                    weights=0.4, scope='aux_loss')
    tf.losses.softmax_cross_entropy(logits=logits, onehot_labels=one_hot,
                                    label_smoothing=0.1, weights=1.0)
    return tf.losses.get_total_loss()
