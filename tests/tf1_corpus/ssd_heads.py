"""SSD's multi-box heads: predictions of several layers, and their losses."""

import tensorflow as tf

slim = tf.contrib.slim


def tensor_shape(x):
    return x.get_shape().as_list()[1:-1]


def multibox_layer(inputs, num_classes, num_anchors):
    loc = slim.conv2d(inputs, num_anchors * 4, [3, 3], activation_fn=None,
                      scope='conv_loc')
    loc = tf.reshape(loc, [-1] + tensor_shape(loc) + [num_anchors, 4])
    cls = slim.conv2d(inputs, num_anchors * num_classes, [3, 3], activation_fn=None,
                      scope='conv_cls')
    cls = tf.reshape(cls, [-1] + tensor_shape(cls) + [num_anchors, num_classes])
    return cls, loc


def ssd_net(inputs):
    end_points = {}
    with tf.variable_scope('ssd', 'ssd', [inputs]):
        net = slim.repeat(inputs, 2, slim.conv2d, 4, [3, 3], scope='conv1')
        end_points['block1'] = net
        net = slim.max_pool2d(net, [2, 2], scope='pool1')
        net = slim.conv2d(net, 5, [3, 3], rate=2, scope='conv2')
        end_points['block2'] = net
        predictions, localisations = [], []
        for layer, anchors in (('block1', 1), ('block2', 2)):
            with tf.variable_scope(layer + '_box'):
                p, l = multibox_layer(end_points[layer], 3, anchors)
            predictions.append(p)
            localisations.append(l)
    return predictions, localisations


def abs_smooth(x):
    absx = tf.abs(x)
    minx = tf.minimum(absx, 1)
    return 0.5 * ((absx - 1) * minx + absx)


def ssd_losses(logits, localisations, labels, alpha=0.5):
    for i in range(len(logits)):
        with tf.name_scope('block_%i' % i):
            shape = tf.shape(logits[i])[:-1]
            classes = labels[:, None, None, None] + tf.zeros(shape, tf.int64)
            positive = tf.cast(classes > 0, tf.float32)
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
                logits=logits[i], labels=classes)
            with tf.name_scope('cross_entropy'):
                tf.losses.add_loss(tf.reduce_mean(entropy))
            with tf.name_scope('localization'):
                weights = tf.expand_dims(alpha * positive, axis=-1)
                tf.losses.compute_weighted_loss(
                    abs_smooth(localisations[i] - 1.0), weights,
                    reduction=tf.losses.Reduction.SUM_OVER_BATCH_SIZE)


def loss(images, labels):
    with slim.arg_scope([slim.conv2d, slim.fully_connected],
                        activation_fn=tf.nn.relu,
                        weights_regularizer=slim.l2_regularizer(0.005),
                        weights_initializer=tf.contrib.layers.xavier_initializer_conv2d(),
                        biases_initializer=tf.zeros_initializer()):
        logits, localisations = ssd_net(images)
    ssd_losses(logits, localisations, labels)
    return tf.losses.get_total_loss()
