"""MobileNet: depthwise separable convolutions without a pointwise part."""

import functools

import tensorflow as tf

slim = tf.contrib.slim


def depthwise_separable(inputs, num_outputs, stride, sc):
    net = slim.separable_convolution2d(inputs, None, stride=stride, depth_multiplier=1,
                                       kernel_size=[3, 3], scope=sc + '/depthwise')
    return slim.convolution2d(net, num_outputs, kernel_size=[1, 1],
                              scope=sc + '/pointwise')


def mobilenet(images, num_classes=3, depth_multiplier=0.5):
    depth = lambda d: max(int(d * depth_multiplier), 2)
    with tf.variable_scope('MobileNet', values=[images]) as sc:
        end_points_collection = sc.name + '_end_points'
        with slim.arg_scope([slim.convolution2d, slim.separable_convolution2d],
                            activation_fn=tf.nn.relu6,
                            outputs_collections=[end_points_collection]):
            net = slim.convolution2d(images, depth(8), [3, 3], stride=2, padding='SAME',
                                     scope='conv_1')
            net = depthwise_separable(net, depth(10), 1, sc='conv_ds_2')
            net = depthwise_separable(net, depth(12), 2, sc='conv_ds_3')
        end_points = slim.utils.convert_collection_to_dict(end_points_collection)
        net = tf.reduce_mean(net, [1, 2])
        logits = slim.fully_connected(net, num_classes, activation_fn=None, scope='fc')
        end_points['Logits'] = logits
    return logits, end_points


build = functools.partial(mobilenet, depth_multiplier=0.6)


def loss(images, labels):
    decay = slim.l2_regularizer(0.01)
    with slim.arg_scope([slim.convolution2d, slim.separable_convolution2d],
                        weights_initializer=slim.xavier_initializer(),
                        biases_initializer=tf.zeros_initializer()):
        with slim.arg_scope([slim.convolution2d], weights_regularizer=decay):
            _, end_points = build(images)
    slim.losses.sparse_softmax_cross_entropy(end_points['Logits'], labels)
    return slim.losses.get_total_loss()
