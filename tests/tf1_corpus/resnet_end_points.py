"""A ResNet of bottleneck blocks, with batch norm and end points."""

import collections

import tensorflow as tf

slim = tf.contrib.slim


class Block(collections.namedtuple('Block', ['scope', 'unit_fn', 'args'])):
    """A named block of units."""


def subsample(inputs, factor, scope=None):
    if factor == 1:
        return inputs
    return slim.max_pool2d(inputs, [1, 1], stride=factor, scope=scope)


@slim.add_arg_scope
def bottleneck(inputs, depth, depth_bottleneck, stride, outputs_collections=None,
               scope=None):
    with tf.variable_scope(scope, 'bottleneck', [inputs]) as sc:
        depth_in = slim.utils.last_dimension(inputs.get_shape(), min_rank=4)
        preact = slim.batch_norm(inputs, activation_fn=tf.nn.relu, scope='preact')
        if depth == depth_in:
            shortcut = subsample(inputs, stride, 'shortcut')
        else:
            shortcut = slim.conv2d(preact, depth, [1, 1], stride=stride,
                                   normalizer_fn=None, activation_fn=None,
                                   scope='shortcut')
        residual = slim.conv2d(preact, depth_bottleneck, [1, 1], scope='conv1')
        residual = slim.conv2d(residual, depth_bottleneck, 3, stride, scope='conv2')
        residual = slim.conv2d(residual, depth, [1, 1], normalizer_fn=None,
                               activation_fn=None, scope='conv3')
        output = shortcut + residual
        return slim.utils.collect_named_outputs(outputs_collections, sc.name, output)


@slim.add_arg_scope
def stack_blocks_dense(net, blocks, outputs_collections=None):
    for block in blocks:
        with tf.variable_scope(block.scope, 'block', [net]) as sc:
            for i, unit in enumerate(block.args):
                with tf.variable_scope('unit_%d' % (i + 1), values=[net]):
                    net = block.unit_fn(net, **unit)
            net = slim.utils.collect_named_outputs(outputs_collections, sc.name, net)
    return net


def resnet_arg_scope(weight_decay=0.01):
    batch_norm_params = {'decay': 0.9, 'epsilon': 1e-3, 'scale': True,
                         'updates_collections': None}
    with slim.arg_scope(
            [slim.conv2d],
            weights_regularizer=slim.l2_regularizer(weight_decay),
            weights_initializer=slim.variance_scaling_initializer(),
            normalizer_fn=slim.batch_norm,
            normalizer_params=batch_norm_params):
        with slim.arg_scope([slim.batch_norm], **batch_norm_params) as arg_sc:
            return arg_sc


def resnet(images):
    blocks = [
        Block('block1', bottleneck,
              [dict(depth=6, depth_bottleneck=3, stride=1),
               dict(depth=6, depth_bottleneck=3, stride=2)]),
        Block('block2', bottleneck, [dict(depth=8, depth_bottleneck=4, stride=1)]),
    ]
    with tf.variable_scope('resnet', values=[images]) as sc:
        name = sc.original_name_scope + '_end_points'
        with slim.arg_scope([slim.conv2d, bottleneck, stack_blocks_dense],
                            outputs_collections=name):
            with slim.arg_scope([slim.conv2d], activation_fn=None, normalizer_fn=None):
                net = slim.conv2d(images, 4, 3, scope='conv1')
            net = stack_blocks_dense(net, blocks)
            net = slim.batch_norm(net, activation_fn=tf.nn.relu, scope='postnorm')
            net = tf.reduce_mean(net, [1, 2], name='pool5', keep_dims=True)
            net = slim.conv2d(net, 3, [1, 1], activation_fn=None, normalizer_fn=None,
                              scope='logits')
            end_points = slim.utils.convert_collection_to_dict(name)
            return tf.squeeze(net, [1, 2]), end_points


def loss(images, labels):
    with slim.arg_scope(resnet_arg_scope()):
        logits, end_points = resnet(images)
    tf.losses.sparse_softmax_cross_entropy(labels, logits)
    tf.losses.add_loss(1e-3 * tf.reduce_mean(end_points['resnet/block1'] ** 2))
    return tf.losses.get_total_loss()
