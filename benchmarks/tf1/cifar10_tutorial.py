"""The CIFAR-10 tutorial's network and training, in TensorFlow 1.

Decayed weights go into the collection "losses", and the loss is the sum of it.
"""

import tensorflow as tf

NUM_CLASSES = 10
RATE = 0.01  # At the 0.1 of the tutorial rounding errors grow to 1e-1 in an epoch.


def _variable_on_cpu(name, shape, initializer):
    with tf.device("/cpu:0"):
        return tf.get_variable(name, shape, initializer=initializer, dtype=tf.float32)


def _variable_with_weight_decay(name, shape, stddev, wd):
    initializer = tf.truncated_normal_initializer(stddev=stddev, dtype=tf.float32)
    var = _variable_on_cpu(name, shape, initializer)
    if wd is not None:
        weight_decay = tf.multiply(tf.nn.l2_loss(var), wd, name="weight_loss")
        tf.add_to_collection("losses", weight_decay)
    return var


def _convolve(inputs, size, bias, name):
    channels = inputs.get_shape().as_list()[-1]
    with tf.variable_scope(name) as scope:
        kernel = _variable_with_weight_decay(
            "weights", [5, 5, channels, size], stddev=5e-2, wd=None
        )
        conv = tf.nn.conv2d(inputs, kernel, [1, 1, 1, 1], padding="SAME")
        biases = _variable_on_cpu("biases", [size], tf.constant_initializer(bias))
        return tf.nn.relu(tf.nn.bias_add(conv, biases), name=scope.name)


def _connect(inputs, size, stddev, bias, wd, name):
    with tf.variable_scope(name):
        shape = [inputs.get_shape().as_list()[-1], size]
        weights = _variable_with_weight_decay("weights", shape, stddev=stddev, wd=wd)
        biases = _variable_on_cpu("biases", [size], tf.constant_initializer(bias))
        return tf.matmul(inputs, weights) + biases


def _pool(inputs, name):
    return tf.nn.max_pool(
        inputs, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME", name=name
    )


def _normalize(inputs, name):
    return tf.nn.lrn(inputs, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name=name)


def inference(images, width=64):
    net = _convolve(images, width, 0.0, "conv1")
    net = _normalize(_pool(net, "pool1"), "norm1")
    net = _convolve(net, width, 0.1, "conv2")
    net = _pool(_normalize(net, "norm2"), "pool2")
    size = 1
    for dimension in net.get_shape().as_list()[1:]:
        size *= dimension
    net = tf.reshape(net, [-1, size])
    net = tf.nn.relu(_connect(net, 6 * width, 0.04, 0.1, 0.004, "local3"))
    net = tf.nn.relu(_connect(net, 3 * width, 0.04, 0.1, 0.004, "local4"))
    return _connect(net, NUM_CLASSES, 1.0 / (3 * width), 0.0, None, "softmax_linear")


def loss(images, labels):
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.cast(labels, tf.int64), logits=inference(images)
    )
    tf.add_to_collection("losses", tf.reduce_mean(cross_entropy))
    return tf.add_n(tf.get_collection("losses"), name="total_loss")


def train(images, labels):
    optimizer = tf.train.GradientDescentOptimizer(RATE)
    return optimizer.minimize(loss(images, labels))
