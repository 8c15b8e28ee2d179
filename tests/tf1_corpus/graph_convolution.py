"""A graph convolution with a sparse adjacency and weight decay of one layer."""

import numpy as np
import tensorflow as tf

_LAYER_UIDS = {}
EDGES = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [2, 2], [3, 3], [3, 1]])


def glorot(shape, name=None):
    init_range = np.sqrt(6.0 / (shape[0] + shape[1]))
    return tf.get_variable(name, initializer=tf.random_uniform(
        shape, minval=-init_range, maxval=init_range, dtype=tf.float32))


def dot(x, y, sparse=False):
    return tf.sparse_tensor_dense_matmul(x, y) if sparse else tf.matmul(x, y)


class GraphConvolution(object):
    def __init__(self, size_in, size_out, act, name):
        self.act = act
        self.vars = {}
        with tf.variable_scope(name + '_vars'):
            self.vars['weights'] = glorot([size_in, size_out], name='weights')

    def __call__(self, support, x):
        def propagate(nodes):
            return dot(support, dot(nodes, self.vars['weights']), sparse=True)

        return self.act(tf.stack([propagate(n) for n in tf.unstack(x, axis=1)], 1))


def loss(features, labels):
    values = np.full(len(EDGES), 0.5, np.float32)
    support = tf.SparseTensor(EDGES, values, [4, 4])
    first = GraphConvolution(5, 6, tf.nn.relu, 'gc1')
    second = GraphConvolution(6, 3, lambda x: x, 'gc2')
    # The batch's examples are graphs of four nodes.
    x = tf.transpose(features, [1, 0, 2])
    outputs = tf.transpose(second(support, first(support, x)), [1, 0, 2])
    total = 0.0
    for var in first.vars.values():
        total += 0.05 * tf.nn.l2_loss(var)
    tf.add_to_collection('decay', total)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=tf.reduce_mean(outputs, 1), labels=labels)
    return tf.reduce_mean(entropy) + total
